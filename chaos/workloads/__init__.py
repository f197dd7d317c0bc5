"""Workloads by name, and those of others by `module:Class`."""

from __future__ import annotations

import importlib
from typing import Final

from chaos.workloads.appends import AppendWorkload
from chaos.workloads.compacted import CompactedWorkload
from chaos.workloads.counter import CounterWorkload
from chaos.workloads.groups import GroupWorkload
from chaos.workloads.log import LogWorkload
from chaos.workloads.topics import TopicWorkload
from chaos.workloads.transactions import TransactionWorkload
from chaos.workloads.workload import Site, Workload

__all__ = ["WORKLOADS", "Site", "Workload", "find_workload"]

WORKLOADS: Final[dict[str, type[Workload]]] = {
    "log": LogWorkload,
    "groups": GroupWorkload,
    "topics": TopicWorkload,
    "transactions": TransactionWorkload,
    "compacted": CompactedWorkload,
    "appends": AppendWorkload,
    "counter": CounterWorkload,
}


def find_workload(name: str) -> type[Workload]:
    """Raises ValueError for a name that is none."""
    if name in WORKLOADS:
        return WORKLOADS[name]
    module, _, attribute = name.partition(":")
    try:
        found = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError, ValueError):
        found = None
    if not (isinstance(found, type) and issubclass(found, Workload)):
        known = ", ".join(WORKLOADS)
        raise ValueError(f"{name} is no workload: {known}, or your own as module:Class")
    return found
