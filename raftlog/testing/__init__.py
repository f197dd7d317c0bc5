"""Brokers for tests: real ones, in this process, on free ports of 127.0.0.1, in temporary folders.

    from raftlog.testing import embedded_broker, embedded_cluster, running_broker

    async with embedded_broker() as broker:             # in a Trio test
        async with broker.client() as client: ...

    async with embedded_cluster(3) as cluster:
        cluster.create_topic("orders", partitions=3)
        cluster.faults.isolate_leader("orders", 0)

    with running_broker() as broker:                    # in any other test, for any client
        KafkaProducer(bootstrap_servers=broker.bootstrap)

The pytest plugin that comes with the package has the fixtures `raftlog_broker`, `raftlog_topic` and
`raftlog_cluster`. Nothing is imported before it is used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from raftlog.testing.broker import BrokerFailed, EmbeddedBroker
    from raftlog.testing.cluster import (
        EmbeddedCluster,
        embedded_broker,
        embedded_cluster,
        running_broker,
        running_cluster,
    )
    from raftlog.testing.faults import Faults
    from raftlog.testing.processes import BrokerProcess, ClusterProcesses

__all__ = [
    "BrokerFailed",
    "BrokerProcess",
    "ClusterProcesses",
    "EmbeddedBroker",
    "EmbeddedCluster",
    "Faults",
    "embedded_broker",
    "embedded_cluster",
    "running_broker",
    "running_cluster",
]

_HOMES = {
    "broker": ("BrokerFailed", "EmbeddedBroker"),
    "cluster": (
        "EmbeddedCluster",
        "embedded_broker",
        "embedded_cluster",
        "running_broker",
        "running_cluster",
    ),
    "faults": ("Faults",),
    "processes": ("BrokerProcess", "ClusterProcesses"),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> Any:
    home = _HOME_OF.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{home}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
