"""How the nodes of a task are joined: where a port leads, and how long windows hold records back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from raftlog.streams.aggregating import CHANGES, LATE, Aggregating, Sessioning, Windowing
from raftlog.streams.nodes import OUT, Filter, KeyBy, Map, Node, Push, Source
from raftlog.streams.plan import Plan, SubTopology
from raftlog.streams.serdes import BYTES
from raftlog.streams.sliding import Overlooking


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


def told_at_commits(node: Node) -> str:
    """The port of a node that tells changes, at commits; none when it does not."""
    if isinstance(node, Windowing | Sessioning | Overlooking):
        return CHANGES
    return OUT if isinstance(node, Aggregating) else ""


def changes_last(part: SubTopology) -> bool:
    """Whether all that a record of this part leaves behind is the change of one aggregate, and nothing that
    may fail comes after it: then it is processed as a whole or not at all without further care."""
    (first, *rest), edges = part.nodes, [edge.node for node in part.nodes for edge in node.parents]
    if len(part.sources) > 1 or not isinstance(first, Source) or first.table is not None:
        return False
    node: Node = first
    while edges.count(node) == 1:
        node = next(each for each in rest if each.parents and each.parents[0].node is node)
        if isinstance(node, Aggregating):
            return all(each is node or not each.stores for each in part.nodes)
        if type(node) not in (Map, KeyBy, Filter):
            return False
    return False


def only_counted(plan: Plan) -> frozenset[str]:
    """The topics of which an app needs keys and times alone: it counts their records, nothing decodes the
    values, and no record goes to a DLQ."""
    return frozenset(
        source.topic
        for part in plan.parts
        for source in part.sources
        if plan.app.dlq is None and _is_only_counted(source, part)
    )


def _is_only_counted(source: Source, part: SubTopology) -> bool:
    if source.internal or source.table is not None or source.timestamp is not None:
        return False
    edges = [(edge, node) for node in part.nodes for edge in node.parents]
    takers = [node for edge, node in edges if edge.node is source]
    return (
        source.value is BYTES
        and all(
            isinstance(node, Aggregating | Windowing | Sessioning | Overlooking)
            and not node.aggregate.needs_values
            for node in takers
        )
        and not any(edge.node in takers and edge.port == LATE for edge, _ in edges)
    )


def _holds(node: Node) -> int:
    return (node.stores[0].lasts_ms or 0) if node.stores else 0
