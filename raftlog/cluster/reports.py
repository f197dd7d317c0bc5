"""What a broker says of itself to the others: they show it to people. Nothing decides by it.

A report is made when somebody asks, and in steps, since a broker may keep thousands of replicas.
"""

from __future__ import annotations

import os
import resource
import time
from collections.abc import Callable, Iterator, Mapping
from itertools import islice
from typing import Any, Final

import trio

from raftlog.cluster.calls import Calls, Reply, Unreachable
from raftlog.cluster.groups import GroupCoordinator
from raftlog.cluster.this_broker import ThisBroker
from raftlog.errors import InvalidInput
from raftlog.partition.partition import Partition
from raftlog.raft.driver import Driver
from raftlog.raft.runner import TurnTimes
from raftlog.transport.links import Links
from raftlog.types import BrokerId, GroupKey, RaftIndex, partition_of_group
from raftlog.version import build

ASK_TIMEOUT_S: Final = 2.0
STEP: Final = 100
"""Replicas that are looked at before others have their turn."""
WAITING_MAX: Final = 64
"""Questions that wait for one report; the others are not answered."""
GROUPS_MAX: Final = 1000
RECENT_MAX: Final = 16
"""Of a log's last entries, whose terms are told."""
EVENTS_AT_ONCE: Final = 100
POINTS_MAX: Final = 600

Report = dict[str, Any]
History = Callable[[int, int], list[list[float | None]]]
"""Points after a time (wall clock, ms), so many at most: each its time, and a figure of every series."""


class Reports:
    """Makes them, and asks others for theirs."""

    def __init__(
        self,
        me: ThisBroker,
        calls: Calls,
        driver: Driver,
        links: Links,
        replicas: Mapping[tuple[bytes, int], Partition],
        times: TurnTimes,
        groups: GroupCoordinator,
    ) -> None:
        self._me = me
        self._calls = calls
        self._driver = driver
        self._links = links
        self._replicas = replicas
        self._times = times
        self._groups = groups
        self._build = build()
        self._started = time.monotonic()
        self._cpu = (time.monotonic(), _cpu_seconds())
        self._waiting: list[Reply] = []
        self._wanted = trio.Event()
        self.history: History | None = None
        """Kept by who serves HTTP."""
        calls.serve("report", self._on_report)
        calls.serve("events", self._on_events)
        calls.serve("history", self._on_history)
        calls.serve("replica", self._on_replica)
        calls.serve("members", self._on_members)

    async def run(self) -> None:
        """Answer who asks, until cancelled."""
        while True:
            await self._wanted.wait()
            self._wanted = trio.Event()
            report = await self.own()
            waiting, self._waiting = self._waiting, []
            for reply in waiting:
                reply(report)

    async def of(self, broker: BrokerId) -> Report | None:
        """What a broker says of itself now; None when it says nothing."""
        if broker == self._me.id:
            return await self.own()
        return await self._ask(broker, "report", None)

    async def replica_of(self, broker: BrokerId, group: GroupKey) -> Report | None:
        """What a broker's replica of a group says of itself; None when it says nothing, or there is none."""
        if broker == self._me.id:
            return self._replica(group)
        return await self._ask(broker, "replica", group)

    async def events_of(self, broker: BrokerId, since: int) -> Report | None:
        """What happened to a broker's groups after a version of its ring, a hundred at most; since 0, or
        since what another start of that broker said, the newest. None when it says nothing."""
        if broker == self._me.id:
            return self._events(since)
        return await self._ask(broker, "events", since)

    async def history_of(self, broker: BrokerId, since_ms: int, limit: int) -> list[Any]:
        """A broker's figures of the seconds after a time, if it keeps them."""
        if broker == self._me.id:
            return self._history(since_ms, limit)
        answer = await self._ask(broker, "history", [since_ms, limit])
        return answer["points"] if answer is not None and isinstance(answer.get("points"), list) else []

    async def members_of(self, coordinator: BrokerId) -> dict[str, int] | None:
        """How many members each group has, as their coordinator says; None when it says nothing."""
        if coordinator == self._me.id:
            return self._members()
        return await self._ask(coordinator, "members", None)

    def _members(self) -> dict[str, int]:
        return dict(islice(self._groups.members_by_group().items(), GROUPS_MAX))

    def _on_members(self, sender: BrokerId, body: Any, reply: Reply) -> None:
        reply(self._members())

    async def _ask(self, broker: BrokerId, method: str, body: Any) -> Report | None:
        if not self._links.is_connected(broker):
            return None
        try:
            answer = await self._calls.ask(broker, method, body, timeout=ASK_TIMEOUT_S)
        except Unreachable:
            return None
        return answer if isinstance(answer, dict) else None

    def _on_report(self, sender: BrokerId, body: Any, reply: Reply) -> None:
        if len(self._waiting) < WAITING_MAX:
            self._waiting.append(reply)
            self._wanted.set()

    def _on_replica(self, sender: BrokerId, body: Any, reply: Reply) -> None:
        if not isinstance(body, bytes):
            raise InvalidInput(f"broker {sender} asks for the replica {body!r}")
        reply(self._replica(GroupKey(body)))

    def _on_events(self, sender: BrokerId, body: Any, reply: Reply) -> None:
        if not isinstance(body, int):
            raise InvalidInput(f"broker {sender} asks for events since {body!r}")
        reply(self._events(body))

    def _on_history(self, sender: BrokerId, body: Any, reply: Reply) -> None:
        match body:
            case [int(since_ms), int(limit)]:
                reply({"points": self._history(since_ms, limit)})
            case _:
                raise InvalidInput(f"broker {sender} asks for the history {body!r}")

    def _history(self, since_ms: int, limit: int) -> list[Any]:
        return [] if self.history is None else self.history(since_ms, min(limit, POINTS_MAX))

    def _events(self, since: int) -> Report:
        """Times are ages: brokers' clocks need not agree."""
        ring, now = self._driver.events, trio.current_time()
        is_known = 0 < since <= ring.last_version
        events = ring.since(since)[:EVENTS_AT_ONCE] if is_known else ring.since(0)[-EVENTS_AT_ONCE:]
        return {
            "incarnation": self._me.incarnation.hex()[:8],
            "version": events[-1].version if events else ring.last_version,
            "events": [
                {
                    "number": event.number,
                    "version": event.version,
                    "ago_s": now - event.at,
                    "last_ago_s": now - event.last_at,
                    "kind": event.kind.value,
                    "term": event.term,
                    "cause": event.cause.name.lower(),
                    "why": event.why,
                    "other": event.other,
                    "count": event.count,
                    "groups": list(event.groups),
                    "topics": [self._topic_of(group) for group in event.groups],
                }
                for event in events
            ],
        }

    def _topic_of(self, group: GroupKey) -> str | None:
        """Said by the broker that has the replica: the one that asks may not know the topic yet."""
        replica = self._replicas.get(partition_of_group(group))
        return None if replica is None else replica.topic

    async def own(self) -> Report:
        report: Report = {}
        for step in self._steps():
            report = step
            await trio.lowlevel.checkpoint()
        return report

    def _steps(self) -> Iterator[Report]:
        size = leads = 0
        behind: dict[BrokerId, int] = {}
        now = trio.current_time()
        for number, group in enumerate(list(self._driver.groups.values()), 1):
            last = group.log.last_index
            for row in group.followers(now):
                behind[row.broker] = behind.get(row.broker, 0) + last - row.match_index
            if number % STEP == 0:
                yield {}
        for number, partition in enumerate(list(self._replicas.values()), 1):
            size += partition.reading.size
            leads += partition.is_leader
            if number % STEP == 0:
                yield {}
        store = self._driver.store.statistics()
        total, free = _space(os.path.abspath(self._me.config.str("log.dirs")))
        syncs = self._times.thread_syncs if self._times.syncing_since is not None else self._times.syncs
        yield {
            "build": self._build,
            "uptime_s": round(time.monotonic() - self._started, 1),
            "replicas": len(self._replicas),
            "leads": leads,
            "bytes": size,
            "followers_behind": ",".join(f"{broker}:{entries}" for broker, entries in sorted(behind.items())),
            "disk": {"total": total, "free": free},
            "damaged_logs": store["damaged_logs"],
            "cpu": self._cpu_share(),
            "rss": _resident_bytes(),
            "open_files": len(os.listdir("/proc/self/fd")),
            "sync_ms": {
                "mean": round(syncs.total_s * 1000 / syncs.count, 3) if syncs.count else 0.0,
                "p99": syncs.percentile_ms(99),
                "where": "thread" if self._times.syncing_since is not None else "loop",
            },
            "links": [
                {
                    "to": link.peer,
                    "connected": link.is_connected,
                    "queued_bytes": link.bytes_queued,
                    "dropped_frames": link.dropped_frames,
                    "bytes": link.bytes_sent,
                }
                for link in self._links.all
            ],
        }

    def _replica(self, key: GroupKey) -> Report | None:
        group = self._driver.groups.get(key)
        if group is None:
            return None
        log, last = group.log, group.log.last_index
        recent = range(max(log.first_index, last - RECENT_MAX + 1), last + 1)
        return {
            "role": group.role.name.lower(),
            "term": group.term,
            "leader": group.leader,
            "voted_for": group.log.promises.hard_state.voted_for,
            "voters": sorted(group.voters),
            "learners": sorted(group.membership.learners),
            "last_index": last,
            "synced_index": min(log.entries.synced_index, last),
            "commit_index": group.commit_index,
            "applied_index": group.applied_index,
            "trusted": group.is_trusted,
            "transferring": group.is_transferring,
            "recent": [[index, log.term_at(RaftIndex(index))] for index in recent],
            "followers": [
                {
                    "broker": row.broker,
                    "match": row.match_index,
                    "next": row.next_index,
                    "behind": last - row.match_index,
                    "bytes_under_way": row.bytes_under_way,
                    "heard_ms": round(1000 * row.silent_s),
                    "state": row.state if row.is_voter or row.state == "silent" else "learner",
                }
                for row in group.followers(trio.current_time())
            ],
        }

    def _cpu_share(self) -> float:
        """Of one core, since the last report."""
        (then, before), (now, spent) = self._cpu, (time.monotonic(), _cpu_seconds())
        if now - then < 0.5:
            return 0.0 if now == then else round((spent - before) / (now - then), 3)
        self._cpu = now, spent
        return round((spent - before) / (now - then), 3)


def _space(folder: str) -> tuple[int, int]:
    """(total, free) bytes of the file system; -1 where it does not say."""
    try:
        found = os.statvfs(folder)
    except OSError:
        return -1, -1
    return found.f_blocks * found.f_frsize, found.f_bavail * found.f_frsize


def _cpu_seconds() -> float:
    times = os.times()
    return times.user + times.system


def _resident_bytes() -> int:
    with open("/proc/self/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * resource.getpagesize()
