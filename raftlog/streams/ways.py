"""How the nodes of a task are joined: where a port leads, and how long windows hold records back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from raftlog.streams.nodes import Node, Push
from raftlog.streams.plan import SubTopology


class Ways(dict[str, Push]):
    """Where a node's ports lead: to nowhere, to one function, or to several."""

    def __init__(self, downs: Mapping[str, list[Push]]) -> None:
        super().__init__(
            {port: pushes[0] if len(pushes) == 1 else _fan(pushes[::-1]) for port, pushes in downs.items()}
        )

    def __missing__(self, port: str) -> Push:
        return _nowhere


def _nowhere(key: Any, value: Any, timestamp: int) -> None:
    pass


def _fan(pushes: list[Push]) -> Push:
    def push(key: Any, value: Any, timestamp: int) -> None:
        for each in pushes:
            each(key, value, timestamp)

    return push


def delays_of(part: SubTopology) -> dict[int, int]:
    """How long each node's records may have been held back by windows before it: so much its watermark is
    behind."""
    delays: dict[int, int] = {}
    for node in part.nodes:
        before = [
            delays[edge.node.number] + _holds(edge.node)
            for edge in node.parents
            if edge.node.number in delays
        ]
        delays[node.number] = max(before, default=0)
    return delays


def _holds(node: Node) -> int:
    return (node.stores[0].lasts_ms or 0) if node.stores else 0
