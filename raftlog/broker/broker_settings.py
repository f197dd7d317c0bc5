"""The settings of brokers that can be changed from outside: how brokers come and go.

`raftlog.peer.advertise=HOST:PORT` of a broker that is not there yet admits it; `raftlog.draining` says
whether it is given replicas. What a broker says of itself (`STATUS`) is read by the same way, and cannot be
set. Everything else is given to a broker at its start, so that there is nothing to
remove: Kafka's tools remove the throttles of replication whether they set any or not.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from raftlog.broker.backend import Backend
from raftlog.broker.errors import admin_error_code
from raftlog.broker.topic_settings import ConfigResource, resource_result
from raftlog.config import ConfigEntry, ConfigSource, ConfigType, config_error, parse_host_port
from raftlog.metadata.catalog import BrokerInfo
from raftlog.protocol.errors import ErrorCode
from raftlog.types import BrokerId

BROKER_RESOURCE: Final = 4
DRAINING: Final = "raftlog.draining"
ADDRESS: Final = "raftlog.peer.advertise"
STATUS: Final = {
    "raftlog.build": "The broker's version and commit.",
    "raftlog.uptime.seconds": "How long the broker has run.",
    "raftlog.bytes": "The bytes of the replicas that the broker keeps.",
    "raftlog.followers.behind": "Entries that brokers have not acknowledged yet to this one: 2:0,3:17.",
}
"""By its name: what it is. Told when it is asked for by name, of any broker by any."""


def draining_entry(broker: BrokerInfo) -> ConfigEntry:
    """Whether a broker is draining, as DescribeConfigs shows it."""
    return ConfigEntry(
        name=DRAINING,
        value="true" if broker.draining else "false",
        source=ConfigSource.DYNAMIC_BROKER if broker.draining else ConfigSource.DEFAULT,
        type=ConfigType.BOOLEAN,
        read_only=False,
        sensitive=False,
        doc="Whether the broker is given no replicas.",
        synonyms=(),
    )


def status_entries(report: Mapping[str, object], names: Iterable[str]) -> list[ConfigEntry]:
    """What a broker says of itself; a broker of an older build says less."""
    told = {
        "raftlog.build": report.get("build"),
        "raftlog.uptime.seconds": report.get("uptime_s"),
        "raftlog.bytes": report.get("bytes"),
        "raftlog.followers.behind": report.get("followers_behind"),
    }
    return [
        ConfigEntry(
            name=name,
            value=str(value),
            source=ConfigSource.DYNAMIC_BROKER,
            type=ConfigType.STRING,
            read_only=True,
            sensitive=False,
            doc=STATUS[name],
            synonyms=(),
        )
        for name in names
        if (value := told[name]) is not None
    ]


async def alter_broker(
    backend: Backend, resource: ConfigResource, settings: dict[str, str | None]
) -> dict[str, object]:
    """Change a broker's settings, or remove those without a value; gives the answer."""
    name = resource.resource_name
    given = {key: value for key, value in settings.items() if value is not None or key in (DRAINING, ADDRESS)}
    if not given:
        return resource_result(resource, ErrorCode.NONE, None)
    if not (name.isascii() and name.isdigit() and len(name) < 10):
        message = f"{name!r} is no broker id" if name else "there are no defaults for all brokers to be set"
        return resource_result(resource, ErrorCode.INVALID_REQUEST, message)
    broker = BrokerId(int(name))
    for key, value in given.items():
        problem = None
        if key == DRAINING and value in ("true", "false", None):
            failure = await backend.operations.drain_broker(broker, value == "true")
        elif key == ADDRESS and (problem := config_error(key, value or "", "broker")) is None and value:
            failure = await backend.operations.add_broker(broker, *parse_host_port(value))
        else:
            only = f"only {ADDRESS}=HOST:PORT and {DRAINING}=true|false of a broker can be set"
            message = problem or f"{key} = {value!r}: {only}"
            return resource_result(resource, ErrorCode.INVALID_CONFIG, message)
        if failure is not None:
            return resource_result(resource, admin_error_code(failure.error), failure.message)
    return resource_result(resource, ErrorCode.NONE, None)
