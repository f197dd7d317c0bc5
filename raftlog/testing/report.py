"""What an embedded cluster looks like, in lines: for a test that failed or hangs.

Every broker that answers is asked in its own thread, each for a moment only: some are paused, or down.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future
from typing import Final, NamedTuple

from raftlog.cluster.groups import GroupDescription
from raftlog.errors import RaftlogError
from raftlog.testing.broker import EmbeddedBroker

ANSWER_WITHIN_S: Final = 1.0
TOPICS_MAX: Final = 20
GROUPS_MAX: Final = 20
PARTITIONS_MAX: Final = 16
"""Of each as many are shown; a report is read by a person."""

Key = tuple[str, int]


class View(NamedTuple):
    """What one broker says."""

    topics: dict[str, int]
    """Partitions of each."""
    ends: dict[Key, int]
    """Of the partitions that it leads."""
    groups: list[GroupDescription]
    """Those that it coordinates."""
    committed: dict[str, dict[Key, int]]


def report(brokers: Sequence[EmbeddedBroker], faults: Sequence[str]) -> str:
    """The cluster's state. Blocking, for a second at most."""
    views = _ask([broker for broker in brokers if broker.is_running and not broker.is_paused])
    lines = [f"broker {broker.id} ({broker.bootstrap}): {_state(broker)}" for broker in brokers]
    lines += _topics(views)
    lines += _groups(views)
    lines.append(f"faults so far: {'; '.join(faults) or 'none'}")
    for broker in brokers:
        tail = broker.log_tail()
        lines.append(
            f"broker {broker.id} has logged last:" if tail else f"broker {broker.id} has logged nothing"
        )
        lines += [f"  {line}" for line in tail]
    return "\n".join(lines)


def _state(broker: EmbeddedBroker) -> str:
    if broker.failure is not None:
        return f"failed: {broker.failure!r}"
    return "down" if not broker.is_running else "paused" if broker.is_paused else "runs"


def _ask(brokers: Iterable[EmbeddedBroker]) -> list[View]:
    asked: list[Future[View]] = []
    for broker in brokers:

        async def look(broker: EmbeddedBroker = broker) -> View:
            return _look(broker)

        try:
            asked.append(broker.call(look))
        except RaftlogError:
            continue  # it ended meanwhile
    views = []
    for future in asked:
        try:
            views.append(future.result(ANSWER_WITHIN_S))
        except (RaftlogError, TimeoutError):
            continue
    return views


def _look(broker: EmbeddedBroker) -> View:
    backend = broker.backend
    topics = {
        name: len(topic.partitions)
        for name, topic in sorted(backend.catalog.topics.items())
        if not topic.is_internal
    }
    ends: dict[Key, int] = {}
    for name, count in topics.items():
        for number in range(count):
            replica = backend.replicas.partition(name, number)
            if replica is not None and replica.is_leader:
                ends[name, number] = replica.high_watermark
    offsets = backend.catalog.group_offsets
    groups = broker.inside.groups
    names = {*groups.members_by_group(), *offsets} if groups.is_active else set()
    described = [groups.describe(name) for name in sorted(names)[:GROUPS_MAX]]
    return View(
        topics=topics,
        ends=ends,
        groups=[one for one in described if isinstance(one, GroupDescription)],
        committed={
            name: {key: at.offset for key, at in offsets.of(name).items()}
            for name in names
            if name in offsets
        },
    )


def _topics(views: Sequence[View]) -> Iterator[str]:
    topics = {name: count for view in views for name, count in view.topics.items()}
    ends = {key: end for view in views for key, end in view.ends.items()}
    for name in list(topics)[:TOPICS_MAX]:
        shown = [
            f"{number}: {ends.get((name, number), 'no leader')}"
            for number in range(min(topics[name], PARTITIONS_MAX))
        ]
        more = " …" if topics[name] > PARTITIONS_MAX else ""
        yield f"topic {name} ends at {', '.join(shown)}{more}"
    if len(topics) > TOPICS_MAX:
        yield f"and {len(topics) - TOPICS_MAX} topics more"
    if not topics:
        yield "no topics"


def _groups(views: Sequence[View]) -> Iterator[str]:
    ends = {key: end for view in views for key, end in view.ends.items()}
    for view in views:
        for group in view.groups:
            members = ", ".join(f"{one.client_id} at {one.client_host}" for one in group.members)
            yield f"group {group.group_id}: {group.state.value}, members: {members or 'none'}"
            for key, offset in sorted(view.committed.get(group.group_id, {}).items()):
                lag = f"lag {ends[key] - offset}" if key in ends else "lag unknown"
                yield f"  {key[0]}-{key[1]} committed at {offset}, {lag}"
