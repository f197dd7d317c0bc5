"""Settings: defaults, ranges, Kafka's dotted keys, and what a refusal says."""

from __future__ import annotations

import dataclasses
import inspect
import re
from pathlib import Path
from typing import Any

import pytest

from raftlog.client.options import ClientOptions, ConsumerOptions, ProducerOptions
from raftlog.client.properties import read_properties
from raftlog.client.settings import (
    ClientSettings,
    ConsumerSettings,
    ProducerSettings,
    make_settings,
)
from raftlog.errors import ConfigError

SCRAM_MODULE = "org.apache.kafka.common.security.scram.ScramLoginModule"


@pytest.mark.parametrize(
    ("settings", "options", "apart"),
    [
        (ClientSettings, ClientOptions, {"bootstrap_servers"}),
        (ProducerSettings, ProducerOptions, {"key_serializer", "value_serializer"}),
        (ConsumerSettings, ConsumerOptions, {"group_id", "key_deserializer", "value_deserializer"}),
    ],
)
def test_keywords_and_settings_agree(settings: type[Any], options: type[Any], apart: set[str]) -> None:
    fields = {field.name: field.type for field in dataclasses.fields(settings)}
    assert {*options.__annotations__} | apart == {*fields}


@pytest.mark.parametrize("settings", [ClientSettings, ProducerSettings, ConsumerSettings])
def test_help_says_what_each_setting_means(settings: type[Any]) -> None:
    # Without its indentation, which Python 3.13 takes away by itself.
    described = re.findall(r"^(\w+):\n    \S", inspect.getdoc(settings) or "", re.MULTILINE)
    assert described == [field.name for field in dataclasses.fields(settings)]


@pytest.mark.parametrize(
    ("cls", "values", "message"),
    [
        (ProducerSettings, {"linger": 5}, "unknown setting 'linger'; did you mean 'linger_ms'?"),
        (ProducerSettings, {"qqq": 5}, "unknown setting 'qqq'"),
        (ProducerSettings, {"linger_ms": -1}, "linger.ms = -1: must be at least 0"),
        (ProducerSettings, {"linger_ms": "5"}, "linger.ms = '5': must be a number"),
        (ProducerSettings, {"batch_size": 1.5}, "batch.size = 1.5: must be a whole number"),
        (ProducerSettings, {"batch_size": 1 << 30}, "batch.size = 1073741824: must be at most"),
        (ProducerSettings, {"batch_size": True}, "batch.size = True: must be a whole number"),
        (ProducerSettings, {"acks": 2}, "acks = 2: must be one of 'all', 0, 1, -1"),
        (ProducerSettings, {"acks": True}, "acks = True: must be one of"),
        (ProducerSettings, {"acks": 1}, "acks = 1 needs enable.idempotence = false"),
        (ProducerSettings, {"max_in_flight_requests_per_connection": 6}, "at most 5"),
        (ProducerSettings, {"compression_type": "zip"}, "compression.type = 'zip': must be one of"),
        (ProducerSettings, {"transactional_id": ""}, "transactional.id is empty"),
        (
            ProducerSettings,
            {"transactional_id": "x", "enable_idempotence": False},
            "needs enable.idempotence = true",
        ),
        (ProducerSettings, {"transaction_timeout_ms": 0}, "transaction.timeout.ms = 0: must be at least 1"),
        (ProducerSettings, {"enable_idempotence": 1}, "must be True or False"),
        (ConsumerSettings, {"partition_assignment_strategy": ("rangy",)}, "'rangy' is not one of"),
        (ConsumerSettings, {"partition_assignment_strategy": "range"}, "must be a tuple of"),
        (ConsumerSettings, {"partition_assignment_strategy": ()}, "names no assignor"),
        (
            ConsumerSettings,
            {"isolation_level": "read_some"},
            "must be one of 'read_uncommitted', 'read_committed'",
        ),
        (
            ConsumerSettings,
            {"group_protocol": "consumer"},
            "'classic'; the new group protocol (KIP-848) is not",
        ),
        (ConsumerSettings, {"group_id": ""}, "group.id is empty"),
        (ConsumerSettings, {"heartbeat_interval_ms": 45_000}, "must be below session.timeout.ms = 45000"),
        (ClientSettings, {"bootstrap_servers": "localhost"}, "'localhost' is not host:port"),
        (ClientSettings, {"bootstrap_servers": "a:1,b:70000"}, "'b:70000' is not host:port"),
        (ClientSettings, {"security_protocol": "SASL_SSL"}, "needs sasl.username and sasl.password"),
        (ClientSettings, {"sasl_mechanism": "GSSAPI"}, "GSSAPI is not built yet"),
        (ClientSettings, {"sasl_password": b"top"}, "sasl.password = (hidden): must be a string"),
    ],
)
def test_refusals_say_what_and_why(cls: type[Any], values: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        make_settings(cls, values)
    assert message in str(caught.value)


def test_bootstrap_servers() -> None:
    settings = ClientSettings(bootstrap_servers="one:1, [::1]:2")
    assert settings.servers == [("one", 1), ("::1", 2)]


def test_a_properties_file(tmp_path: Path) -> None:
    file = tmp_path / "client.properties"
    file.write_text(
        "# brokers\nbootstrap.servers=one:1,\\\n    two:2\n! more\nacks = all\nlinger.ms: 7\n\n"
        "compression.type zstd\nenable.auto.commit=FALSE\ngroup.id=billing\nretries=3\n"
        "partition.assignment.strategy=org.apache.kafka.clients.consumer.CooperativeStickyAssignor, range\n"
    )
    properties = read_properties(file)
    assert properties.client == {"bootstrap_servers": "one:1,two:2"}
    assert properties.producer == {
        "acks": "all",
        "linger_ms": 7.0,
        "compression_type": "zstd",
        "retries": 3,
    }
    assert properties.consumer == {
        "enable_auto_commit": False,
        "group_id": "billing",
        "partition_assignment_strategy": ("cooperative-sticky", "range"),
    }


def test_a_dict_with_dotted_keys() -> None:
    properties = read_properties(
        {"acks": "1", "enable.idempotence": "false", "fetch.min.bytes": 5, "value.serializer": str.encode}
    )
    assert properties.producer == {"acks": 1, "enable_idempotence": False, "value_serializer": str.encode}
    assert properties.consumer == {"fetch_min_bytes": 5}


@pytest.mark.parametrize(
    ("pairs", "message"),
    [
        ({"linger": "5"}, "unknown key 'linger'; did you mean 'linger.ms'?"),
        ({"bootstrap.server": "a:1"}, "did you mean 'bootstrap.servers'?"),
        ({"linger.ms": "soon"}, "linger.ms = 'soon': must be a number"),
        ({"enable.auto.commit": "maybe"}, "enable.auto.commit = 'maybe': must be True or False"),
        ({"value.serializer": "org.example.S"}, "names Java code"),
        ({"acks": "most"}, "acks = 'most': must be one of"),
        ({"partitioner.class": "org.example.P"}, "names Java code"),
        ({"sasl.mechanism": "GSSAPI"}, "GSSAPI is not built yet"),
        ({"ssl.truststore.type": "JKS"}, "only PEM is read"),
        ({"sasl.jaas.config": "org.example.Login required;"}, "PlainLoginModule or ScramLoginModule"),
        ({"sasl.jaas.config": f"{SCRAM_MODULE} required username=a;"}, "names no username and no password"),
    ],
)
def test_properties_are_refused_with_the_reason(pairs: dict[str, str], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read_properties(pairs)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    "login",
    [
        {"sasl.username": "a", "sasl.password": 'b"c'},
        {"sasl.jaas.config": f'{SCRAM_MODULE} required username="a" password="b\\"c";'},
        {"sasl.jaas.config": f"{SCRAM_MODULE} required\n username=a password='b\"c' ;"},
    ],
)
def test_a_login_as_other_clients_write_it(login: dict[str, str]) -> None:
    others = {
        "security.protocol": "SASL_SSL",
        "sasl.mechanisms": "SCRAM-SHA-256",
        "ssl.ca.location": "ca.pem",
        "ssl.truststore.type": "PEM",
    }
    settings = make_settings(ClientSettings, dict(read_properties(others | login).client))
    assert (settings.sasl_username, settings.sasl_password) == ("a", 'b"c')
    assert settings.sasl_mechanism == "SCRAM-SHA-256" and settings.ssl_truststore_location == "ca.pem"
    assert 'b"c' not in repr(settings)


def test_a_line_without_a_value(tmp_path: Path) -> None:
    file = tmp_path / "client.properties"
    file.write_text("acks=all\nnonsense\n")
    with pytest.raises(ConfigError, match="line 2 is not key=value"):
        read_properties(file)
