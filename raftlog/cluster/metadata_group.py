"""The metadata group on this broker: commands in, a catalog out.

A command becomes one record batch holding one record, so the group's log is stored and dumped as any
partition's. A proposal ends in the index of its entry; what applying the entry came to is the same on every
broker, so a proposer on another broker waits until its own state is there and looks it up: it reads its
writes.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Final

from raftlog.cluster.this_broker import ThisBroker
from raftlog.errors import InvalidInput, NewerFormat
from raftlog.metadata.catalog import Catalog
from raftlog.metadata.commands import PROPOSED_BYTES_MAX, UnknownCommand, decode_command, encoded_problem
from raftlog.metadata.noun import Refusal, Refused, Result
from raftlog.metadata.state import MetadataState
from raftlog.raft.group import RaftGroup
from raftlog.raft.values import NotLeader, Outcome, Role
from raftlog.records.batch import stamp
from raftlog.records.record import NewRecord, decode_batch, encode_batch
from raftlog.storage.entry import Entry, EntryKind, Payload
from raftlog.storage.store import Store
from raftlog.types import METADATA_GROUP, BrokerId, RaftIndex, Term

METADATA_DIRNAME: Final = "__cluster_metadata-0"

SNAPSHOT_AFTER_BYTES: Final = 4 * 1024 * 1024
"""Bytes of commands between two snapshots of the state, or as many as the last one had, if that is more: a
start replays them, in about a second."""

SNAPSHOT_STEP: Final = 2000
"""Partitions or offsets that are encoded for a snapshot after the commands of one turn: two milliseconds."""

IMAGE_BYTES_FULL: Final = 64 * 1024 * 1024
"""A catalog of more takes no more topics and no more offsets. A snapshot goes to a peer in one message, and
is never larger than twice this and a bit: what came since the last one was the first to be too large."""

MAX_WAITING: Final = 10_000
"""Proposals that wait at once; beyond it a proposer is told to come back."""

WAITING_BYTES_MAX: Final = 16 * 1024 * 1024
"""Bytes of the proposals that wait at once."""

RESULTS_KEPT: Final = 2 * MAX_WAITING
"""Results that can be looked up; more than can be waited for."""

log = logging.getLogger("raftlog.cluster")


class ProposalFailed(Exception):
    """The command will not be applied, or (`may_still_happen`) nobody knows. Both may be tried again, unless
    it `is_final`: there is something wrong with the command itself."""

    def __init__(self, reason: str, *, may_still_happen: bool, is_final: bool = False) -> None:
        super().__init__(reason)
        self.may_still_happen = may_still_happen
        self.is_final = is_final


OnDone = Callable[[RaftIndex | ProposalFailed], None]


class MetadataGroup:
    """Implements `raft.machine.StateMachine` for the metadata group."""

    def __init__(self, group: RaftGroup, state: MetadataState, on_change: Callable[[], None]) -> None:
        """`on_change` is called after entries were applied and when the leadership moved."""
        self.group = group
        self.state = state
        self._on_change = on_change
        self._results: dict[RaftIndex, Result] = {}
        self._waiting = 0
        self._waiting_bytes = 0
        self._applied = group.log.saved.index
        self._image_bytes = len(group.log.saved.state)
        self._bytes_since_image = 0
        self._imaged = self._applied
        self._last_at_start = group.log.last_index
        self._applied_before = RaftIndex(0)
        if group.log.saved.state:
            state.restore(group.log.saved.state)

    def __repr__(self) -> str:
        role = self.group.role.name.lower()
        return f"<MetadataGroup {role} term={self.group.term} applied={self.catalog.applied_index}>"

    @property
    def catalog(self) -> Catalog:
        return self.state.catalog

    @property
    def is_leader(self) -> bool:
        return self.group.is_leader

    @property
    def is_ready(self) -> bool:
        """This broker leads, and has applied all that earlier leaders committed. What this leader commits may
        still wait to be applied: one turn applies a bounded part."""
        leadership = self.group.leading.leadership
        if leadership is None or not leadership.has_committed:
            return False
        return self._applied >= leadership.first_index

    @property
    def is_caught_up(self) -> bool:
        """Whether everything that this broker's log held at its start has been applied, or replaced, and
        everything that had been applied before the log was lost. A damaged log says nothing about what is
        in it."""
        known = max(self._last_at_start, self._applied_before)
        return self.group.log.damage.lost is None and self._applied >= known

    @property
    def leader(self) -> BrokerId | None:
        return self.group.leader

    @property
    def is_full(self) -> bool:
        """Whether the catalog takes no more topics and no more offsets."""
        return self._image_bytes > IMAGE_BYTES_FULL

    def propose_checked(self, command: bytes, *, now_ms: int, on_done: OnDone) -> None:
        """As `propose`, for an encoded command of whom it was not: nothing enters the log that a broker of
        this cluster cannot apply."""
        problem = encoded_problem(command, self.catalog, is_full=self.is_full)
        if problem is not None:
            on_done(ProposalFailed(problem, may_still_happen=False, is_final=True))
        else:
            self.propose(command, now_ms=now_ms, on_done=on_done)

    def propose(self, command: bytes, *, now_ms: int, on_done: OnDone) -> None:
        """Propose an encoded command on the leader; `on_done` is called once, with the index at which it
        was applied here."""
        size = len(command)
        if self._waiting >= MAX_WAITING or self._waiting_bytes + size > WAITING_BYTES_MAX:
            on_done(ProposalFailed("too many commands are waiting", may_still_happen=False))
            return
        assert size <= PROPOSED_BYTES_MAX, size
        batch = encode_batch([NewRecord(now_ms, None, command, ())])
        stamp(batch, self.group.log.log_end_offset, self.group.term)

        def resolved(outcome: Outcome, entry: Entry) -> None:
            self._waiting -= 1
            self._waiting_bytes -= size
            match outcome:
                case Outcome.COMMITTED:
                    on_done(entry.index)
                case Outcome.WILL_NOT_HAPPEN:
                    on_done(ProposalFailed("the leader changed", may_still_happen=False))
                case Outcome.MAY_STILL_HAPPEN:
                    on_done(ProposalFailed("the leader changed", may_still_happen=True))

        entry = self.group.leading.propose(EntryKind.BATCH, memoryview(batch), 1, resolved)
        if isinstance(entry, NotLeader):
            on_done(ProposalFailed("this broker does not lead the metadata group", may_still_happen=False))
            return
        self._waiting += 1
        self._waiting_bytes += size

    def result_at(self, index: RaftIndex) -> Result | None:
        """What the command at `index` came to; None when it is not applied yet, or applied long ago."""
        return self._results.get(index)

    def save(self) -> None:
        """Keep the state as of the last applied entry and let the log before it go. All of it at once: for a
        broker that stops."""
        if self._applied > self.group.log.saved.index:
            self.state.imaging.give_up()
            self._keep(self.state.to_bytes(), self._applied)

    def _snapshot_step(self) -> None:
        """Begin a snapshot when it is due, or go on with the one that was begun."""
        imaging = self.state.imaging
        if not imaging.is_under_way:
            due = SNAPSHOT_AFTER_BYTES if self.is_full else max(SNAPSHOT_AFTER_BYTES, self._image_bytes)
            if self._bytes_since_image < due:
                return
            imaging.begin()
            self._imaged, self._bytes_since_image = self._applied, 0
        image = imaging.step(SNAPSHOT_STEP)
        if image is not None:
            self._keep(image, self._imaged)

    def _keep(self, image: bytes, index: RaftIndex) -> None:
        self._image_bytes = len(image)
        self.group.log.saved.save(image, index, drop_before=True)

    @property
    def applied_index(self) -> RaftIndex:
        """The last entry that is in the catalog."""
        return self._applied

    # raft.machine.StateMachine

    def apply(self, entries: Sequence[Entry], now: float) -> None:
        for entry in entries:
            if entry.kind is EntryKind.BATCH:
                self._results[entry.index] = apply_entry(self.state, entry.index, entry.payload)
                self._bytes_since_image += len(entry.payload)
        while len(self._results) > RESULTS_KEPT:
            del self._results[next(iter(self._results))]
        self._applied = entries[-1].index
        self._snapshot_step()
        self._on_change()

    def leadership_changed(self, role: Role, term: Term, leader: BrokerId | None) -> None:
        self._on_change()

    def truncated(self, from_index: RaftIndex) -> None:
        self._last_at_start = min(self._last_at_start, RaftIndex(from_index - 1))

    def restore(self, state: bytes, index: RaftIndex) -> None:
        self.state.restore(state or MetadataState().to_bytes())
        self._applied_before = max(self._applied_before, self._applied)
        self._applied = index
        self._image_bytes, self._bytes_since_image = len(state), 0
        self._on_change()


def apply_entry(state: MetadataState, index: RaftIndex, batch: Payload) -> Result:
    """Apply the command in an entry of the metadata group's log. What is no command is refused, here as on
    every other broker. Raises NewerFormat for a command that this build does not know."""
    (record,) = decode_batch(batch)
    try:
        command = decode_command(record.value or b"")
    except UnknownCommand as error:
        raise NewerFormat(
            f"entry {index} of the cluster's metadata is of a newer raftlog: {error}; start this broker with"
            " the version that the others have"
        ) from error
    except InvalidInput as error:
        log.warning("entry %d of the metadata changes nothing: %s", index, error)
        return Refused(Refusal.MALFORMED, str(error))
    return state.apply(command, index)


def open_metadata_group(me: ThisBroker, store: Store, founders: frozenset[BrokerId], now: float) -> RaftGroup:
    """The metadata group on this broker's disk. A broker that is no founder learns first."""
    group_log = store.logs.get(METADATA_GROUP)
    if group_log is None:
        group_log = store.create_log(METADATA_GROUP, METADATA_DIRNAME, may_lack=store.is_rejoining)
    return RaftGroup(
        METADATA_GROUP,
        me.id,
        group_log,
        founders,
        learners=frozenset({me.id}) - founders,
        timing=me.timing,
        rng=me.rng,
        now=now,
        preferred=me.id == min(founders),
        eager_commit=True,
    )
