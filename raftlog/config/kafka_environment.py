"""The `KAFKA_…` variables of container images of Kafka, as settings: compose files made for them start
brokers of raftlog. Read only when RAFTLOG_ENV_COMPAT=kafka is set, as raftlog's own image does.

Every broker of raftlog is what Kafka calls broker and controller. The controllers' listener is for other
brokers here, and the quorum's voters are the brokers that found the cluster.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Mapping
from typing import Final

from raftlog.errors import ConfigError

PREFIX: Final = "KAFKA_"
BITNAMI_PREFIX: Final = "KAFKA_CFG_"

_NOT_SETTINGS: Final = ("KAFKA_VERSION", "KAFKA_HOME", "KAFKA_PORT")
_NOT_SETTING_PREFIXES: Final = ("KAFKA_SERVICE_", "KAFKA_PORT_")
"""What images have beside settings, and what Kubernetes puts into containers beside a Service named kafka."""

WITHOUT_EFFECT: Final = (
    "auto.leader.rebalance.enable",
    "confluent.*",
    "controller.quorum.*",
    "group.coordinator.*",
    "group.share.*",
    "heap.opts",
    "inter.broker.listener.name",
    "jmx.*",
    "kraft.*",
    "leader.imbalance.*",
    "log.cleaner.threads",
    "log.flush.*",
    "log4j.*",
    "metadata.log.*",
    "metric.reporters",
    "num.*.threads",
    "num.replica.fetchers",
    "offsets.topic.*",
    "opts",
    "replica.*",
    "security.inter.broker.protocol",
    "share.coordinator.*",
    "tools.log4j.*",
    "transaction.state.log.*",
)
"""They are about parts of Kafka that raftlog does not have: no promise is broken by leaving them out."""

REFUSED: Final = {
    "zookeeper.connect": "no ZooKeeper is needed: leave it out, and name the brokers by"
    " KAFKA_CONTROLLER_QUORUM_VOTERS",
    "controller.quorum.bootstrap.servers": "it has no ids: set KAFKA_CONTROLLER_QUORUM_VOTERS to"
    " 1@kafka-1:9093,2@kafka-2:9093,…",
    "advertised.host.name": "set KAFKA_ADVERTISED_LISTENERS",
    "advertised.port": "set KAFKA_ADVERTISED_LISTENERS",
    "create.topics": "create topics with `raftlog topic create`",
}
CONTROLLERS: Final = "controller.listener.names"
CLUSTER_IDS: Final = ("cluster.id", "kraft.cluster.id", "kafka.cluster.id")
"""As the images of Apache, of Bitnami and of Confluent have it. Apache's and Confluent's read it without a
prefix as well."""
BARE_CLUSTER_ID: Final = "CLUSTER_ID"


def read_kafka_environment(
    environ: Mapping[str, str], known: Mapping[str, object]
) -> tuple[dict[str, str], list[str]]:
    """Settings by dotted name, and the names of variables that are without effect. `known` are the settings
    of raftlog. Raises ConfigError for what cannot be meant here."""
    named = {
        _name_of(variable): (variable, value) for variable, value in sorted(environ.items()) if _is(variable)
    }
    settings, ignored = {}, []
    if environ.get(BARE_CLUSTER_ID):
        settings["raftlog.cluster.id"] = environ[BARE_CLUSTER_ID]
    for name, (variable, value) in named.items():
        if name in REFUSED:
            raise ConfigError(f"{variable}: {REFUSED[name]}")
        if name == "broker.id":
            settings["node.id"] = value
        elif name in CLUSTER_IDS:
            settings["raftlog.cluster.id"] = value
        elif name == "process.roles":
            _check_roles(variable, value)
        elif name in ("controller.quorum.voters", CONTROLLERS):
            pass
        elif name not in known and any(fnmatch.fnmatchcase(name, pattern) for pattern in WITHOUT_EFFECT):
            ignored.append(variable)
        else:
            settings[name] = value
    _found(settings, {name: value for name, (_, value) in named.items()})
    return settings, ignored


def _is(variable: str) -> bool:
    return (
        variable.startswith(PREFIX)
        and variable not in _NOT_SETTINGS
        and not variable.startswith(_NOT_SETTING_PREFIXES)
    )


def _name_of(variable: str) -> str:
    prefix = BITNAMI_PREFIX if variable.startswith(BITNAMI_PREFIX) else PREFIX
    name = variable[len(prefix) :].lower()
    return name.replace("___", "-").replace("__", "\0").replace("_", ".").replace("\0", "_")


def _check_roles(variable: str, value: str) -> None:
    roles = {role.strip() for role in value.split(",")}
    if roles != {"broker", "controller"}:
        raise ConfigError(
            f"{variable} = {value!r}: every broker of raftlog is both: broker,controller; containers that"
            " are controllers alone are left out"
        )


def _found(settings: dict[str, str], named: Mapping[str, str]) -> None:
    """Brokers that found the cluster, and the listener for them, of the controllers' settings."""
    controllers = [name.strip().upper() for name in named.get(CONTROLLERS, "").split(",") if name.strip()]
    for key in ("listeners", "advertised.listeners"):
        kept, taken = _without(settings.get(key, ""), controllers, "://")
        if taken and key == "listeners":
            settings["raftlog.peer.listen"] = taken[0].partition("://")[2]
        if key in settings:
            settings[key] = ",".join(kept)
    if "listener.security.protocol.map" in settings:
        kept, _ = _without(settings["listener.security.protocol.map"], controllers, ":")
        settings["listener.security.protocol.map"] = ",".join(kept)
    voters = [
        voter.strip() for voter in named.get("controller.quorum.voters", "").split(",") if voter.strip()
    ]
    if len(voters) > 1:
        settings["raftlog.peers"] = ",".join(voters)
        own = [v.partition("@")[2] for v in voters if v.partition("@")[0] == settings.get("node.id")]
        if own:
            settings["raftlog.peer.advertise"] = own[0]
    else:  # a cluster of one listens for no other broker
        settings.pop("raftlog.peer.listen", None)


def _without(text: str, names: list[str], separator: str) -> tuple[list[str], list[str]]:
    """The parts of a list, and those whose names are left out."""
    parts = [part.strip() for part in text.split(",") if part.strip()]
    is_left_out = [part.partition(separator)[0].upper() in names for part in parts]
    kept = [part for part, out in zip(parts, is_left_out, strict=True) if not out]
    return kept, [part for part, out in zip(parts, is_left_out, strict=True) if out]
