"""Which tasks are to tell their time to the parts that come after: where no window is open there, and no
timer is set, it would be written for nobody.

A task says in the metadata of its commits which time it waits for. The tasks that write its input read the
time from the group's committed offsets.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from raftlog.client.metadata import TopicPartition
from raftlog.client.offsets import CommittedOffset
from raftlog.streams.inputs import FOR_EVER, NO_TIME, read_metadata
from raftlog.streams.plan import Plan, SubTopology
from raftlog.streams.task import Task
from raftlog.streams.ways import delays_of


def awaited(
    plan: Plan,
    tasks: Iterable[Task],
    counts: Mapping[int, int],
    committed: Mapping[TopicPartition, CommittedOffset],
) -> set[Task]:
    """Those of which a task that comes after waits for a time that it has not been told. `counts` are the
    tasks of each part, `committed` what the group has."""
    return {
        task
        for task in tasks
        for sink in task.part.sinks
        if sink.repartition
        and task.telling.told(sink) < _until(plan, plan.part_reading(sink.topic), counts, committed)
    }


def _until(
    plan: Plan,
    part: SubTopology,
    counts: Mapping[int, int],
    committed: Mapping[TopicPartition, CommittedOffset],
) -> int:
    """The latest time that a task of a part waits for, or one that comes after it."""
    found = [NO_TIME]
    for partition in range(counts[part.number]):
        at = committed.get(TopicPartition(part.topics[0], partition))
        if at is not None:  # else it has done nothing yet
            found.append(read_metadata(at.metadata).get("u", FOR_EVER))
    delays = delays_of(part)
    for sink in part.sinks:
        if sink.repartition:
            after = _until(plan, plan.part_reading(sink.topic), counts, committed)
            found.append(after + delays[sink.number])
    return max(found)
