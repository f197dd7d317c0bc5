"""How many tasks each part of an app has: as many as its inputs have partitions."""

from __future__ import annotations

from collections.abc import Mapping

from raftlog.streams.errors import TopologyError
from raftlog.streams.plan import Plan, SubTopology


def task_counts(plan: Plan, partitions: Mapping[str, int]) -> dict[int, int]:
    """By part: its tasks. `partitions` are those of the topics of others, and of those between parts that are
    there. Any other topic between parts has as many as its reader has tasks: as the other inputs of that
    part, or as the widest that writes it.

    Raises TopologyError when inputs do not go together.
    """
    counts: dict[int, int] = {}
    for part in plan.parts:
        _count(plan, part, partitions, counts, ())
    return counts


def _count(
    plan: Plan,
    part: SubTopology,
    partitions: Mapping[str, int],
    counts: dict[int, int],
    above: tuple[int, ...],
) -> int:
    if part.number not in counts:
        if part.number in above:
            raise TopologyError(
                f"sub-topology {part.number} reads what it writes: nothing says how wide it is"
            )
        found = {
            source.topic: partitions[source.topic]
            for source in part.sources
            if not source.internal or source.topic in partitions
        }
        if len(set(found.values())) > 1:
            told = ", ".join(f"{topic} has {count} partitions" for topic, count in found.items())
            raise TopologyError(
                f"{told}: records of one key would be on different tasks. Send the smaller ones through a "
                "topic of the app's own with .through(NAME), or give all the same number: "
                f"raftlog topic alter TOPIC --partitions {max(found.values())}"
            )
        writers = [plan.part_writing(topic) for topic in part.topics if topic not in found]
        above = (*above, part.number)
        counts[part.number] = next(iter(found.values()), 0) or max(
            _count(plan, writer, partitions, counts, above) for writer in writers
        )
    return counts[part.number]
