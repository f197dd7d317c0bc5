"""Settings of one listener, as Kafka's users write them."""

from __future__ import annotations

import pytest

from raftlog.broker.admission import RESERVED, Admission, CreationRate
from raftlog.broker.exposure import exposure
from raftlog.config import BrokerConfig
from raftlog.config.table import STANDARD_AUTHORIZER
from raftlog.errors import ConfigError

TWO = {
    "listeners": "INSIDE://10.0.0.1:9092,OUTSIDE://10.0.0.1:9093",
    "listener.security.protocol.map": "INSIDE:SSL,OUTSIDE:SASL_SSL",
    "ssl.keystore.location": "server.pem",
    "ssl.client.auth": "required",
}


def two(**more: str) -> BrokerConfig:
    return BrokerConfig.of(
        TWO | {name.replace("__", "-").replace("_", "."): value for name, value in more.items()}
    )


def test_a_listener_has_its_own_and_the_brokers() -> None:
    config = two(
        listener_name_outside_sasl_enabled_mechanisms="PLAIN", listener_name_inside_max_connections="7"
    )
    assert config.for_listener("OUTSIDE").list("sasl.enabled.mechanisms") == ("PLAIN",)
    assert config.for_listener("OUTSIDE").str("ssl.keystore.location") == "server.pem"
    assert config.list("sasl.enabled.mechanisms") == ("SCRAM-SHA-512", "SCRAM-SHA-256")
    assert config.for_listener("INSIDE").int("max.connections") == 7
    assert config.int("max.connections") == 10_000


@pytest.mark.parametrize(
    ("own", "auth"), [({}, "none"), ({"listener_name_outside_ssl_client_auth": "requested"}, "requested")]
)
def test_a_listener_with_logins_asks_for_certificates_only_if_it_says_so(
    own: dict[str, str], auth: str
) -> None:
    """KIP-684."""
    config = two(**own)
    assert config.for_listener("INSIDE").str("ssl.client.auth") == "required"
    assert config.for_listener("OUTSIDE").str("ssl.client.auth") == auth


def test_files_of_a_listener_are_in_the_folder_of_the_others() -> None:
    moved = two(listener_name_inside_ssl_keystore_location="own.pem").with_files_in("/sec")
    assert moved.for_listener("INSIDE").str("ssl.keystore.location") == "/sec/own.pem"
    assert moved.for_listener("OUTSIDE").str("ssl.keystore.location") == "/sec/server.pem"


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("listener.name.inside.log.dirs", "x", "a listener has no log.dirs of its own"),
        ("listener.name.inside", "x", "a listener has no such setting of its own"),
        ("listener.name.elsewhere.max.connections", "1", "there is no such listener"),
        ("listener.name.inside.max.connections", "none", "max.connections = 'none': it is a whole number"),
        (
            "listener.name.outside.plain.sasl.jaas.config",
            'PlainLoginModule required user_a="pw";',
            "raftlog user add",
        ),
        ("sasl.jaas.config", 'PlainLoginModule required user_a="pw";', "raftlog user add"),
    ],
)
def test_what_would_not_hold_stops_the_start(name: str, value: str, said: str) -> None:
    """Kafka forgot a validator that was set for one listener, in silence, and let strangers in."""
    with pytest.raises(ConfigError, match=said.replace(".", r"\.")) as raised:
        BrokerConfig.of(TWO | {name: value})
    assert "user_a" not in str(raised.value)


def test_what_kafka_wants_for_scram_has_no_effect() -> None:
    name = "listener.name.outside.scram-sha-512.sasl.jaas.config"
    value = "org.apache.kafka.common.security.scram.ScramLoginModule required;"
    assert BrokerConfig.of(TWO | {name: value}).static == BrokerConfig.of(TWO).static


def test_a_listener_has_a_limit_of_its_own_and_this_machine_a_few_places_more() -> None:
    door = Admission(two(max_connections="3", listener_name_inside_max_connections="1"))
    assert [door.enter(host, "INSIDE") is None for host in ("10.0.0.1", "10.0.0.2")] == [True, False]
    assert [door.enter("10.0.0.3", "OUTSIDE") is None for _ in range(3)] == [True, True, False]
    assert [door.enter("127.0.0.1", "OUTSIDE") is None for _ in range(RESERVED + 1)] == [True] * RESERVED + [
        False
    ]
    door.leave("10.0.0.1", "INSIDE")
    door.leave("10.0.0.3", "OUTSIDE")
    assert door.count == 1 + RESERVED


def test_how_fast_connections_may_come_is_of_all_and_of_a_listener() -> None:
    rate = CreationRate(
        two(max_connection_creation_rate="10", listener_name_inside_max_connection_creation_rate="1")
    )
    inside = [rate.came("INSIDE", 100.0) for _ in range(4)]
    assert inside == pytest.approx([0, 0, 1, 2])
    outside = [rate.came("OUTSIDE", 100.0) for _ in range(18)]
    assert outside[:16] == pytest.approx([0] * 16) and outside[16:] == pytest.approx([0.1, 0.2])
    assert rate.came("INSIDE", 200.0) == 0


@pytest.mark.parametrize(
    ("settings", "is_open"),
    [
        ({"authorizer.class.name": STANDARD_AUTHORIZER}, False),
        ({"authorizer.class.name": ""}, True),
        ({"authorizer.class.name": STANDARD_AUTHORIZER, "super.users": "User:ANONYMOUS"}, True),
        ({"authorizer.class.name": STANDARD_AUTHORIZER, "allow.everyone.if.no.acl.found": "true"}, True),
    ],
)
def test_an_authorizer_that_stops_nobody_protects_nothing(settings: dict[str, str], is_open: bool) -> None:
    config = BrokerConfig.of({"listeners": "PLAINTEXT://10.0.0.1:9092"} | settings)
    assert (exposure(config) is not None) == is_open
