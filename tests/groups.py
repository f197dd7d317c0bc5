"""A group coordinator to ask, and answers that must come exactly once."""

from __future__ import annotations

import itertools
import struct
from collections.abc import Callable, Collection, Iterator
from typing import Generic, TypeVar

from raftlog.cluster.groups import (
    GroupCoordinator,
    GroupError,
    GroupProtocol,
    GroupSettings,
    HeartbeatRequest,
    JoinRequest,
    JoinResult,
    LeaveRequest,
    LeaveResult,
    LeavingMember,
    SyncRequest,
    SyncResult,
)
from raftlog.cluster.groups.keeping import GroupCommand, OnKept
from raftlog.metadata.catalog import Catalog
from raftlog.metadata.commands import decode_command, encode_command
from raftlog.metadata.group_table import StoredGroup
from raftlog.types import RaftIndex

R = TypeVar("R")
SESSION_S = 10.0
REBALANCE_S = 60.0


def subscription(*topics: str) -> bytes:
    """A consumer's subscription, version 0."""
    names = b"".join(struct.pack(">h", len(name)) + name.encode() for name in topics)
    return struct.pack(">hi", 0, len(topics)) + names + struct.pack(">i", -1)


def protocols(*names: str, topics: tuple[str, ...] = ("orders",)) -> tuple[GroupProtocol, ...]:
    return tuple(GroupProtocol(name, subscription(*topics)) for name in names)


RANGE = protocols("range")


class Answer(Generic[R]):
    """A reply callback that keeps its only result."""

    def __init__(self) -> None:
        self.results: list[R] = []

    def __call__(self, result: R) -> None:
        self.results.append(result)
        assert len(self.results) == 1, f"answered twice: {self.results}"

    @property
    def came(self) -> bool:
        return bool(self.results)

    @property
    def result(self) -> R:
        assert self.results, "not answered"
        return self.results[0]


class Kept:
    """The groups in a catalog. What is to be kept is there at once; or, while `waits`, when it is let go."""

    def __init__(self, catalog: Catalog | None = None, now: Callable[[], float] = lambda: 0.0) -> None:
        self.catalog = catalog or Catalog()
        self.now = now
        self.waits = False
        self.waiting: list[tuple[GroupCommand, OnKept]] = []
        self.kept: list[GroupCommand] = []
        self.is_open = True

    def __iter__(self) -> Iterator[str]:
        return iter(self.catalog.groups)

    def get(self, group: str, /) -> StoredGroup | None:
        return self.catalog.groups.get(group)

    def keep(self, command: GroupCommand, on_kept: OnKept, /) -> None:
        if not self.is_open:
            on_kept(True, self.now())
        elif self.waits:
            self.waiting.append((command, on_kept))
        else:
            self._apply(command, on_kept)

    def let_go(self, *, fails: bool = False) -> None:
        """All that waits is kept, or nothing of it."""
        waiting, self.waiting = self.waiting, []
        for command, on_kept in waiting:
            if fails:
                on_kept(False, self.now())
            else:
                self._apply(command, on_kept)

    def _apply(self, command: GroupCommand, on_kept: OnKept) -> None:
        decoded = decode_command(encode_command(command))
        assert decoded == command
        decoded.apply(self.catalog, RaftIndex(1))
        self.kept.append(command)
        on_kept(True, self.now())


class Groups:
    """A coordinator with a clock of its own and short calls."""

    def __init__(
        self, settings: GroupSettings | None = None, stored: Collection[str] = (), *, load: bool = True
    ) -> None:
        self.settings = settings or GroupSettings()
        self.stored: set[str] = set(stored)
        self.now = 1000.0
        self.ids = itertools.count(1)
        self.kept = Kept(now=lambda: self.now)
        self.coordinator = self._another()
        if load:
            self.load()

    def _another(self) -> GroupCoordinator:
        return GroupCoordinator(
            settings=lambda: self.settings,
            new_id=lambda: f"id{next(self.ids)}",
            stored_groups=lambda: self.stored,
            kept=self.kept,
        )

    def load(self) -> None:
        self.coordinator.load(self.now, int(self.now * 1000))

    def fail_over(self) -> None:
        """The coordinator ends, and another broker takes over: what was on its way is lost."""
        self.kept.waiting.clear()
        self.kept.waits = False
        self.coordinator = self._another()
        self.load()

    def join(
        self,
        member_id: str = "",
        *,
        group: str = "g",
        instance: str | None = None,
        offers: tuple[GroupProtocol, ...] = RANGE,
        protocol_type: str = "consumer",
        session_s: float = SESSION_S,
        rebalance_s: float = REBALANCE_S,
        known: bool = True,
        skip: bool = True,
        client: str = "client",
    ) -> Answer[JoinResult]:
        answer: Answer[JoinResult] = Answer()
        request = JoinRequest(
            group_id=group,
            member_id=member_id,
            instance_id=instance,
            client_id=client,
            client_host="/127.0.0.1",
            session_timeout_ms=int(session_s * 1000),
            rebalance_timeout_ms=int(rebalance_s * 1000),
            protocol_type=protocol_type,
            protocols=offers,
            require_known_member_id=known,
            can_skip_assignment=skip,
        )
        self.coordinator.join(request, self.now, answer)
        return answer

    def new_member(self, **how: object) -> tuple[str, Answer[JoinResult]]:
        """A dynamic member that asked for an id and joined with it."""
        member_id = self.join(**how).result.member_id  # type: ignore[arg-type]
        return member_id, self.join(member_id, **how)  # type: ignore[arg-type]

    def sync(
        self,
        joined: JoinResult,
        assignments: dict[str, bytes] | None = None,
        *,
        group: str = "g",
        instance: str | None = None,
        member_id: str | None = None,
        generation: int | None = None,
        protocol_name: str | None = None,
    ) -> Answer[SyncResult]:
        answer: Answer[SyncResult] = Answer()
        request = SyncRequest(
            group_id=group,
            member_id=joined.member_id if member_id is None else member_id,
            instance_id=instance,
            generation_id=joined.generation_id if generation is None else generation,
            protocol_name=protocol_name,
            assignments=assignments or {},
        )
        self.coordinator.sync(request, self.now, answer)
        return answer

    def heartbeat(self, member_id: str, generation: int, instance: str | None = None) -> GroupError:
        request = HeartbeatRequest(
            group_id="g", member_id=member_id, instance_id=instance, generation_id=generation
        )
        return self.coordinator.heartbeat(request, self.now)

    def leave(self, *members: str | LeavingMember) -> LeaveResult:
        leaving = tuple(LeavingMember(member) if isinstance(member, str) else member for member in members)
        return self.coordinator.leave(LeaveRequest(group_id="g", members=leaving), self.now)

    def advance(self, seconds: float) -> None:
        """Let time pass, ticking whenever something is due."""
        end = self.now + seconds
        while self.coordinator.next_deadline <= end:
            self.now = max(self.now, self.coordinator.next_deadline)
            self.coordinator.tick(self.now)
            assert self.coordinator.next_deadline > self.now, "a deadline does not go away"
        self.now = end

    def stable(self, count: int) -> list[JoinResult]:
        """A stable group of `count` dynamic members, the leader first; each owns its own id as bytes."""
        waiting = [self.join(member, known=False) for member in [""] * count]
        if count > 1:  # the first was alone in a generation of its own
            first = waiting[0].result
            waiting[0] = self.join(first.member_id)
        joined = [answer.result for answer in waiting]
        assignments = {result.member_id: result.member_id.encode() for result in joined}
        for result in joined:
            self.sync(result, assignments if result.leader == result.member_id else None)
        return joined
