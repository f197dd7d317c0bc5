"""An app, cut into sub-topologies: what a task runs.

A sub-topology is what hangs together by records and by stores. Repartition topics are the cuts: one
sub-topology writes them, another reads them.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import Final

from raftlog.streams.errors import TopologyError
from raftlog.streams.nodes import OUT, Node, Sink, Source
from raftlog.streams.stores import StoreSpec
from raftlog.streams.topology import App

KEPT_BEYOND_MS: Final = 24 * 3600 * 1000
"""How long changelogs keep windows that are over: for a worker that comes back within a day."""


@dataclass(frozen=True, slots=True)
class SubTopology:
    """A part of an app that runs on its own, a task a partition of its sources."""

    number: int
    nodes: tuple[Node, ...]
    sources: tuple[Source, ...] = field(repr=False)
    sinks: tuple[Sink, ...] = field(repr=False)
    stores: tuple[StoreSpec, ...] = field(repr=False)
    fingerprint: str = field(repr=False)

    @property
    def topics(self) -> tuple[str, ...]:
        """What it reads: all of them must have as many partitions as the first."""
        return tuple(source.topic for source in self.sources)


@dataclass(frozen=True, slots=True)
class Plan:
    """A whole app."""

    app: App
    parts: tuple[SubTopology, ...]

    @property
    def sources(self) -> tuple[str, ...]:
        """The topics of others that it reads."""
        return tuple(source.topic for part in self.parts for source in part.sources if not source.internal)

    @property
    def repartitions(self) -> tuple[str, ...]:
        """The topics of its own between its parts."""
        return tuple(source.topic for part in self.parts for source in part.sources if source.internal)

    def part_reading(self, topic: str) -> SubTopology:
        """The one part that reads a topic."""
        return next(part for part in self.parts if topic in part.topics)

    def part_writing(self, repartition: str) -> SubTopology:
        """The one part that writes a topic between parts."""
        return next(
            part
            for part in self.parts
            for sink in part.sinks
            if sink.topic == repartition and sink.repartition
        )

    def describe(self) -> str:
        """For people: parts, nodes and what they hang on, topics, stores."""
        standbys = self.app.standbys
        lines = [f"app {self.app.name}, {self.app.guarantee.replace('_', ' ')}"]
        if standbys:
            lines[0] += f", {standbys} standby{'' if standbys == 1 else 's'} of each task with a changelog"
        for part in self.parts:
            lines.append(f"sub-topology {part.number}")
            for node in part.nodes:
                after = ", ".join(
                    f"{e.node.number}{'' if e.port == OUT else ' ' + e.port}" for e in node.parents
                )
                lines.append(f"  {node.number:3} {node.describe()}{f'  <- {after}' if after else ''}")
            for spec in part.stores:
                where = spec.source or (changelog(self.app, spec) if spec.changelog else "none")
                lines.append(
                    f"      store {spec.name}: {spec.key.name} -> {spec.value.name}, changelog {where}"
                )
        return "\n".join(lines)

    def mermaid(self) -> str:
        """The same as a Mermaid flow chart."""
        lines = ["flowchart TD"]
        for part in self.parts:
            lines.append(f"  subgraph part{part.number}[sub-topology {part.number}]")
            lines += [f'    n{node.number}["{node.describe()}"]' for node in part.nodes]
            lines.append("  end")
        for node in self.app.nodes:
            for edge in node.parents:
                label = "" if edge.port == OUT else f"|{edge.port}|"
                lines.append(f"  n{edge.node.number} -->{label} n{node.number}")
        for topic in self.repartitions:
            writer = next(n for n in self.app.nodes if isinstance(n, Sink) and n.topic == topic)
            reader = next(n for n in self.app.nodes if isinstance(n, Source) and n.topic == topic)
            lines.append(f"  n{writer.number} -.-> n{reader.number}")
        return "\n".join(lines)


def changelog(app: App, spec: StoreSpec) -> str:
    """The topic that has a store's changes."""
    return spec.source or app.topic_of(spec.name, "changelog")


def changelog_settings(spec: StoreSpec) -> dict[str, str]:
    """The settings of a changelog: what is over goes by time, everything else by its key."""
    if spec.lasts_ms is None:
        return {"cleanup.policy": "compact"}
    return {"cleanup.policy": "compact,delete", "retention.ms": str(spec.lasts_ms + KEPT_BEYOND_MS)}


def plan(app: App) -> Plan:
    """Cut an app into its parts. Raises TopologyError when it cannot run."""
    if not any(isinstance(node, Source) for node in app.nodes):
        raise TopologyError(
            f"app {app.name!r} reads nothing: begin with app.stream(TOPIC) or app.table(TOPIC, name=…)"
        )
    group = {node.number: node.number for node in app.nodes}

    def find(number: int) -> int:
        while group[number] != number:
            group[number] = number = group[group[number]]
        return number

    holders: dict[str, int] = {}
    for node in app.nodes:
        for edge in node.parents:
            group[find(node.number)] = find(edge.node.number)
        for spec in node.stores:
            group[find(node.number)] = find(holders.setdefault(spec.name, node.number))
    parts: dict[int, list[Node]] = {}
    for node in app.nodes:
        parts.setdefault(find(node.number), []).append(node)
    found = tuple(_part(number, tuple(nodes)) for number, nodes in enumerate(parts.values()))
    for part in found:
        if not part.sources:
            names = ", ".join(spec.name for spec in part.stores)
            raise TopologyError(
                f"a timer uses {names}, and no stream does: nothing says how many tasks it has"
            )
    return Plan(app, found)


def _part(number: int, nodes: tuple[Node, ...]) -> SubTopology:
    places = {node.number: place for place, node in enumerate(nodes)}
    text = "\n".join(
        f"{node.describe()} {[(places[edge.node.number], edge.port) for edge in node.parents]}"
        for node in nodes
    )
    return SubTopology(
        number,
        nodes,
        tuple(node for node in nodes if isinstance(node, Source)),
        tuple(node for node in nodes if isinstance(node, Sink)),
        tuple({spec.name: spec for node in nodes for spec in node.stores}.values()),
        hashlib.sha256(text.encode()).hexdigest()[:16],
    )
