"""Settings: the table, what is taken, precedence, and errors that say what to do."""

from __future__ import annotations

from pathlib import Path

import pytest

import raftlog
from raftlog.config import BROKER_CONFIGS, TOPIC_CONFIGS, BrokerConfig, ConfigKey, TopicConfig, config_error
from raftlog.config.addresses import Listener, join_host_port, parse_host_port, parse_listener, parse_peer
from raftlog.config.keys import BadValue
from raftlog.config.load import parse_properties, parse_toml
from raftlog.config.values import in_unit
from raftlog.errors import ConfigError

ALL_KEYS = [*BROKER_CONFIGS.values(), *TOPIC_CONFIGS.values()]


@pytest.mark.parametrize("key", ALL_KEYS, ids=lambda key: f"{key.scope}-{key.name}")
def test_every_default_is_a_value_that_is_taken(key: ConfigKey) -> None:
    assert key.doc
    text = key.format(key.default)
    if text is not None and key.default != ():
        assert key.parse(text) == key.default
        assert type(key.parse(text)) is type(key.default)


@pytest.mark.parametrize("key", TOPIC_CONFIGS.values(), ids=lambda key: key.name)
def test_a_topics_default_is_what_the_brokers_defaults_say(key: ConfigKey) -> None:
    broker = [
        in_unit(BROKER_CONFIGS[name].default, unit)
        for name, unit in key.synonyms
        if BROKER_CONFIGS[name].default is not None
    ]
    assert broker == [key.default] or not key.synonyms


FIXED = {"compression.type", "unclean.leader.election.enable"}
"""Settings that take one value, what there is, and are refused any other."""


def test_every_setting_does_something_or_says_that_it_does_not() -> None:
    package = Path(raftlog.__file__).parent
    table = package / "config" / "table"
    sources = [file.read_text() for file in package.rglob("*.py") if table not in file.parents]
    read = {
        name for name in (*BROKER_CONFIGS, *TOPIC_CONFIGS) if any(f'"{name}"' in text for text in sources)
    }
    inherited = {
        broker_key
        for topic_key in TOPIC_CONFIGS.values()
        for broker_key, _ in topic_key.synonyms
        if topic_key.name in read | FIXED
    }
    for key in (*BROKER_CONFIGS.values(), *TOPIC_CONFIGS.values()):
        does_something = key.name in read | inherited | FIXED
        assert does_something != key.ignored, key.name
    for name in FIXED & set(BROKER_CONFIGS):
        for other in ("compact", "zstd", "true"):
            assert config_error(name, other, "broker") is not None


def test_defaults_start_a_broker() -> None:
    config = BrokerConfig.of({})
    assert config.int("num.partitions") == 1
    assert config.bool("auto.create.topics.enable") is True
    assert config.str("raftlog.durability") == "fsync"
    assert config.str("broker.rack") == ""
    assert config.list("advertised.listeners") == ()
    assert config.listeners == (Listener("PLAINTEXT", "127.0.0.1", 9092),)
    assert config.advertised_listeners == config.listeners
    assert config.peer_listen == ("127.0.0.1", 9192)
    assert config.peers == {}
    assert repr(config) == "<BrokerConfig >"
    with pytest.raises(KeyError):
        config["no.such"]


TWO = {
    "listeners": "IN://h:1,OUT://h:2",
    "listener.security.protocol.map": "IN:PLAINTEXT,OUT:PLAINTEXT,SSL:SSL",
}


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"num.partition": "3"}, ["num.partition: there is no such broker setting", "mean num.partitions?"]),
        ({"retention.ms": "3"}, ["no such broker setting", "mean log.retention.ms?"]),
        ({"zzz": "3"}, ["zzz: there is no such broker setting"]),
        ({"num.partitions": "0"}, ["num.partitions = '0'", "1 to 10000"]),
        ({"num.partitions": "three"}, ["num.partitions = 'three'", "whole number"]),
        ({"num.partitions": "1_0"}, ["whole number"]),
        ({"num.partitions": "٣"}, ["whole number"]),
        ({"num.partitions": "9" * 5000}, ["whole number"]),
        ({"group.max.size": "2147483648"}, ["does not fit 32 bits"]),
        ({"auto.create.topics.enable": "yes"}, ["true or false"]),
        ({"raftlog.durability": "none"}, ["fsync, os"]),
        ({"log.cleanup.policy": "drop"}, ["one of compact, delete"]),
        ({"log.cleanup.policy": ""}, ["delete, compact or both"]),
        ({"log.cleaner.min.cleanable.ratio": "1.1"}, ["0 to 1"]),
        ({"compression.type": "zstd"}, ["only 'producer' is served"]),
        ({"compression.type": "brotli"}, ["it is producer"]),
        ({"unclean.leader.election.enable": "true"}, ["cannot be switched off"]),
        ({"default.replication.factor": "0"}, ["-1 or at least 1"]),
        ({"log.dirs": "a,b"}, ["exactly one data folder"]),
        ({"log.dirs": ""}, ["exactly one data folder"]),
        ({"raftlog.http.listen": "9644"}, ["is not HOST:PORT"]),
        ({"sasl.enabled.mechanisms": "GSSAPI"}, ["one of PLAIN, SCRAM-SHA-256, SCRAM-SHA-512, OAUTHBEARER"]),
        ({"sasl.enabled.mechanisms": ""}, ["a listener with SASL needs one"]),
        ({"listeners": ""}, ["at least one"]),
        ({"listeners": "A://h:1,B://h:1"}, ["named twice"]),
        ({"listeners": "h:1,g:1"}, ["two listeners have one name"]),
        ({"listeners": "a://h:1,A://g:1"}, ["two listeners have one name"]),
        ({"listeners": ",".join(f"L{i}://h:{i}" for i in range(1, 18))}, ["more than 16"]),
        ({"listeners": f"{'h' * 256}:1"}, ["255 characters"]),
        ({"listeners": "INSIDE://h:1"}, ["security.protocol.map names", "add INSIDE:PLAINTEXT"]),
        ({"listener.security.protocol.map": "A:B"}, ["'B' is no security protocol", "SASL_SSL"]),
        ({"listener.security.protocol.map": "A"}, ["'A' is not LISTENER:PROTOCOL"]),
        ({"listener.security.protocol.map": "A:SSL,a:PLAINTEXT"}, ["named twice"]),
        ({"listener.security.protocol.map": "A:SSL"}, ["no security protocol for PLAINTEXT"]),
        (TWO | {"advertised.listeners": "IN://h:1"}, ["no address for OUT"]),
        (TWO | {"advertised.listeners": "IN://h:1,OUT://h:2,X://h:3"}, ["names X, and"]),
        (TWO | {"listeners": "IN://h:1,OUT://:2"}, ["set advertised.listeners"]),
        ({"inter.broker.listener.name": "IN"}, ["raftlog.peer.listen"]),
        ({"controller.listener.names": "CONTROLLER"}, ["every broker is a controller"]),
        ({"max.connections.per.ip.overrides": "host:1"}, ["'host:1' is not IP-ADDRESS:CONNECTIONS"]),
        ({"max.connections.per.ip.overrides": "1.2.3.4:x"}, ["'x' is not a number"]),
        ({"listeners": "PLAINTEXT://h:99999"}, ["99999"]),
        ({"listeners": "PLAINTEXT://:9092"}, ["set advertised.listeners"]),
        ({"listeners": "0.0.0.0:9092"}, ["set advertised.listeners"]),
        ({"advertised.listeners": "0.0.0.0:9092"}, ["name a host"]),
        ({"listeners": "0:9092"}, ["every interface", "set advertised.listeners"]),
        ({"raftlog.peers": "1@[::0]:9192"}, ["every interface"]),
        ({"raftlog.peers": "1@a b:9192"}, ["no host name"]),
        ({"raftlog.join": "7@0:9192"}, ["every interface"]),
        ({"raftlog.peer.listen": "here"}, ["'here' is not HOST:PORT"]),
        ({"raftlog.peers": "1@h:1,1@h:2"}, ["named twice"]),
        ({"raftlog.peers": "1@h:1,2@h:1"}, ["address is named twice"]),
        ({"raftlog.peers": "1@h:1;2@h:2"}, ["comma"]),
        ({"raftlog.peers": "1@h:1 2@h:2"}, ["comma"]),
        ({"raftlog.peers": "h:1"}, ["ID@HOST:PORT"]),
        ({"raftlog.peers": "2@h:1"}, ["does not name this broker", "node.id = 1"]),
        ({"group.min.session.timeout.ms": "9", "group.max.session.timeout.ms": "8"}, ["above"]),
        ({"raftlog.election.timeout.ms": "100"}, ["four times"]),
        ({"node.id": "1", "broker.id": "1"}, ["the same is set as node.id"]),
    ],
)
def test_errors_name_the_key_and_the_reason(settings: dict[str, str], words: list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        BrokerConfig.of(settings)
    for word in words:
        assert word in str(caught.value)


def test_a_password_behind_a_misspelt_name_is_not_shown() -> None:
    for settings in ({"ssl.key.pasword": "hunter2"}, {"sasl.jaas.config": "hunter2"}):
        with pytest.raises(ConfigError) as caught:
            BrokerConfig.of(settings)
        assert "hunter2" not in str(caught.value)


def test_other_names_of_a_setting() -> None:
    config = BrokerConfig.of({"broker.id": "7", "log.dir": "/data"})
    assert config.int("node.id") == 7
    assert config.str("log.dirs") == "/data"


def test_the_founders_are_named_by_id() -> None:
    config = BrokerConfig.of({"node.id": "2", "raftlog.peers": "1@a:9192, 2@[::1]:9193"})
    assert config.peers == {1: ("a", 9192), 2: ("::1", 9193)}


@pytest.mark.parametrize(
    ("settings", "retention_ms"),
    [
        ({}, 604_800_000),
        ({"log.retention.hours": "1"}, 3_600_000),
        ({"log.retention.hours": "1", "log.retention.minutes": "5"}, 300_000),
        ({"log.retention.hours": "1", "log.retention.minutes": "5", "log.retention.ms": "7"}, 7),
        ({"log.retention.hours": "-1"}, -1),
        ({"log.retention.minutes": "-1", "log.retention.hours": "1"}, -1),
    ],
)
def test_retention_comes_from_the_finest_unit_that_is_set(
    settings: dict[str, str], retention_ms: int
) -> None:
    broker = BrokerConfig.of(settings)
    assert TopicConfig({}, broker).int("retention.ms") == retention_ms
    assert TopicConfig({"retention.ms": "9"}, broker).int("retention.ms") == 9


def test_a_topic_leaves_out_what_it_does_not_know() -> None:
    topic = TopicConfig(
        {"retention.ms": "9", "newer.setting": "1", "segment.bytes": "tiny"}, BrokerConfig.of({})
    )
    assert dict(topic.own) == {"retention.ms": 9}
    assert topic.int("segment.bytes") == 1_073_741_824


def test_topic_settings_are_checked_for_administrators() -> None:
    assert config_error("retention.ms", "-1") is None
    assert config_error("num.partitions", "3", "broker") is None
    problem = config_error("retention.m", "1")
    assert problem is not None and "did you mean retention.ms?" in problem
    assert config_error("retention.ms", "-2") == "retention.ms = '-2': it must be at least -1"
    TopicConfig.check({"retention.ms": "1"})
    TopicConfig.check({"cleanup.policy": "compact,delete"})
    with pytest.raises(ConfigError, match="one of compact, delete"):
        TopicConfig.check({"retention.ms": "1", "cleanup.policy": "compact,drop"})


def test_lags_of_compaction_must_go_together() -> None:
    broker = BrokerConfig()
    assert TopicConfig({"min.compaction.lag.ms": "5", "max.compaction.lag.ms": "5"}, broker).conflict is None
    conflict = TopicConfig({"min.compaction.lag.ms": "6", "max.compaction.lag.ms": "5"}, broker).conflict
    assert conflict == "max.compaction.lag.ms = 5: it is below min.compaction.lag.ms = 6"


def test_clients_are_told_an_address_for_each_listener() -> None:
    assert BrokerConfig.of(TWO).advertised_listeners == (Listener("IN", "h", 1), Listener("OUT", "h", 2))
    told = BrokerConfig.of(TWO | {"advertised.listeners": "out://[::1]:4711,IN://g:3"}).advertised_listeners
    assert list(map(str, told)) == ["IN://g:3", "OUT://[::1]:4711"]


def test_single_addresses_have_numbers_of_connections_of_their_own() -> None:
    config = BrokerConfig.of({"max.connections.per.ip.overrides": "1.2.3.4:5, ::1:6, [fe80::0]:0"})
    assert config.connections_per_ip == {"1.2.3.4": 5, "::1": 6, "fe80::": 0}


@pytest.mark.parametrize(
    ("setting", "brokers", "factor"), [("1", 5, 1), ("3", 1, 3), ("-1", 1, 1), ("-1", 9, 3)]
)
def test_the_default_replication_factor(setting: str, brokers: int, factor: int) -> None:
    config = BrokerConfig.of({"default.replication.factor": setting})
    assert config.replication_factor(brokers) == factor


@pytest.mark.parametrize(
    ("text", "address"),
    [("h:1", ("h", 1)), (":0", ("", 0)), ("[::1]:65535", ("::1", 65535)), (" h:1 ", ("h", 1))],
)
def test_addresses_both_ways(text: str, address: tuple[str, int]) -> None:
    assert parse_host_port(text) == address
    assert parse_host_port(join_host_port(*address)) == address


@pytest.mark.parametrize("text", ["", "h", "h:", "h:x", "h:-1", "h:65536", "::1:80", "h:\uff11"])
def test_bad_addresses(text: str) -> None:
    with pytest.raises(BadValue):
        parse_host_port(text)
    with pytest.raises(BadValue):
        parse_listener(f"PLAINTEXT://{text}")
    with pytest.raises(BadValue):
        parse_peer(f"1@{text}")


@pytest.mark.parametrize(
    "settings",
    [
        {"ssl.keystore.pasword": "s3cret"},
        {"ssl.keystore.password": "s3cret"},
    ],
)
def test_a_value_that_may_be_a_secret_is_not_printed(settings: dict[str, str]) -> None:
    with pytest.raises(ConfigError) as caught:
        BrokerConfig.of(settings)
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize(
    "text", ["= s3cret", 'pasword = "s3cret\n', "a = s3cret\na = s3cret", "[a]\nb = [{c = 's3cret'}]"]
)
def test_a_line_that_is_not_understood_is_not_printed(text: str) -> None:
    for parse in (parse_properties, parse_toml):
        try:
            parse(text)
        except ConfigError as error:
            assert "s3cret" not in str(error)


EVERY_INTERFACE = (
    *("0", "0x0", "000.0.0.0", "0.0", "0.0.0.0"),
    *("[::]", "[::0]", "[0:0:0:0:0:0:0:0]", "[::%1]", "[::ffff:0.0.0.0]"),
)
NO_HOST = (
    *("a b", "a\tb", "a/b", "-a.example", "a..example", ".example", "h" * 64, "é.example"),
    *("1.2.3.400", "a:b"),
)
HOSTS = (
    *("localhost", "a.example", "a.example.", "a_b", "xn--9ca.example", "7th", "h1"),
    *("10.0.0.5", "[::1]", "[fe80::1%eth0]"),
)


@pytest.mark.parametrize("host", EVERY_INTERFACE + NO_HOST)
@pytest.mark.parametrize("name", ["advertised.listeners", "raftlog.peer.advertise"])
def test_a_host_that_nobody_can_reach_is_not_told(name: str, host: str) -> None:
    problem = config_error(name, f"{host}:4711", "broker")
    assert problem is not None
    words = "every interface" if host in EVERY_INTERFACE else "no host name"
    assert words in problem or "IPv6 address" in problem


@pytest.mark.parametrize("host", HOSTS)
@pytest.mark.parametrize("name", ["advertised.listeners", "raftlog.peer.advertise"])
def test_a_host_that_others_can_reach_is_told(name: str, host: str) -> None:
    assert config_error(name, f"{host}:4711", "broker") is None
    assert config_error("raftlog.peers", f"1@{host}:4711", "broker") is None
