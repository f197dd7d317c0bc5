"""A Raft group of this broker: PySyncObj's Raft, with the guards that keep acknowledged writes."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import TYPE_CHECKING

from raftlog.raft.messages import Addressed, Message
from raftlog.raft.values import ChangeRefused, Membership, NotLeader, Outcome, RaftTiming, Role
from raftlog.types import BrokerId, GroupKey, RaftIndex, Term

if TYPE_CHECKING:
    from raftlog.storage.entry import Entry
    from raftlog.storage.group_log import GroupLog


class RaftGroup:
    """One replica of one group. Synchronous: time and chance are passed in, messages are taken out.

    What the methods change in the log is durable only after the driver's next sync; the driver calls
    `on_synced` then.
    """

    def __init__(
        self,
        key: GroupKey,
        self_id: BrokerId,
        log: GroupLog,
        voters: frozenset[BrokerId],
        *,
        timing: RaftTiming,
        rng: random.Random,
        now: float,
        learners: frozenset[BrokerId] = frozenset(),
        fresh: bool = False,
        eager_commit: bool = False,
    ) -> None:
        """`voters` and `learners` are the first membership; a MEMBERSHIP entry in the log overrides them.

        `fresh`: this replica's log may have been lost (its disk was empty at start): it neither votes nor
        campaigns until it has caught up. `eager_commit`: followers learn of a commit at once instead of
        with the next message (for the metadata group).
        """
        raise NotImplementedError

    key: GroupKey
    log: GroupLog
    on_work: Callable[[RaftGroup], None]
    """Called when something was proposed or asked; the driver sets it."""

    @property
    def role(self) -> Role: ...
    @property
    def term(self) -> Term: ...
    @property
    def leader(self) -> BrokerId | None: ...
    @property
    def is_leader(self) -> bool: ...
    @property
    def is_ready(self) -> bool:
        """Leads, and has committed its own term's first entry: all earlier commits are known here."""
        ...

    @property
    def commit_index(self) -> RaftIndex: ...
    @property
    def membership(self) -> Membership: ...
    @property
    def voters(self) -> frozenset[BrokerId]: ...
    @property
    def learners(self) -> frozenset[BrokerId]: ...
    @property
    def next_deadline(self) -> float: ...

    def propose(
        self,
        payload: bytes | bytearray | memoryview,
        record_count: int,
        now: float,
        on_done: Callable[[Outcome, Entry], None],
    ) -> Entry | NotLeader:
        """Append a batch, already stamped with `log.log_end_offset` and `term`, to the log and hand it to the
        driver. `on_done` is called once, from the driver's resolve phase, after the state machine applied
        the entry when the outcome is COMMITTED. When NotLeader is returned, nothing was written and `on_done`
        is never called. The payload must not change afterwards."""
        ...

    def propose_membership(
        self, membership: Membership, now: float, on_done: Callable[[Outcome, Entry], None]
    ) -> Entry | NotLeader | ChangeRefused:
        """Change the group by one server. New voters must be learners that have caught up."""
        ...

    def read_barrier(self, now: float, on_ready: Callable[[bool], None]) -> None:
        """Calls `on_ready(True)` once this leader is known to have led after the call began (maybe at once,
        under its lease), `on_ready(False)` when it no longer leads. Applied state is then fit to answer a
        linearizable read."""
        ...

    def transfer_leadership(self, to: BrokerId, now: float) -> str | None:
        """Hand leadership to a voter that holds the whole log. Returns None when the request is on its way,
        else why not. New proposals are refused meanwhile, for one election time-out at most."""
        ...

    def step(self, sender: BrokerId, message: Message, now: float) -> None: ...
    def tick(self, now: float) -> None: ...
    def on_synced(self, now: float) -> None: ...
    def take_messages(self) -> tuple[list[Addressed], list[Addressed]]: ...
    def statistics(self) -> dict[str, int | str | None]: ...
