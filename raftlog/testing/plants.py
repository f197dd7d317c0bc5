"""Bugs that are planted into raftlog on purpose, to see whether its tests find them.

Each replaces a method or two, and puts in their place what somebody might have written. The simulator finds
all of them, in the profiles that `tests.sim.planted` names; the chaos suite finds those that can show in real
processes, which are started with one (`raftlog.testing.serve`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from types import SimpleNamespace
from typing import Any, Final, cast

from raftlog.cluster import upkeep
from raftlog.cluster.group_records import GroupRecords
from raftlog.cluster.moves import Arrived, Change, Step, next_step
from raftlog.cluster.transactions.coordinator import TransactionCoordinator
from raftlog.metadata.catalog import Catalog
from raftlog.metadata.commands import encode_command
from raftlog.metadata.offset_table import Offsets
from raftlog.metadata.transaction_ends import EndTransaction
from raftlog.metadata.transaction_steps import Stepped, Verdict
from raftlog.metadata.transactions import StageOffsets
from raftlog.partition.compacting import Compacting
from raftlog.partition.log_start import LogStart, encode_log_start
from raftlog.partition.markers import Marker
from raftlog.partition.partition import Partition
from raftlog.partition.producers import NewBatch, Producers
from raftlog.partition.producing import Producing
from raftlog.partition.reading import Reading
from raftlog.partition.transactions import MarkerVerdict, Transactions
from raftlog.partition.values import FetchResult, PartitionError, ProduceResult
from raftlog.raft import following, leadership, membership, replica, turning
from raftlog.raft.driver import Driver
from raftlog.raft.flow import Ready
from raftlog.raft.messages import Append, AppendReply, HeartbeatReply
from raftlog.raft.values import Membership, Outcome
from raftlog.storage import recovery
from raftlog.storage.entry import EntryKind
from raftlog.storage.group_log import GroupLog
from raftlog.storage.index import Place
from raftlog.storage.log_entries import LogEntries
from raftlog.storage.segment_reader import SegmentReader, Slice
from raftlog.types import BrokerId, FilePosition, Offset, RaftIndex

Patch = tuple[Any, str, Any]
"""What to put in the place of what: the owner, the attribute's name, and the value."""


def _without_commit_guard() -> Patch:
    """GroupLog refuses to commit what is not synced; whoever forgets the rule would not have that either."""
    original = GroupLog.commit_to

    def commit_to(self: GroupLog, index: RaftIndex) -> Any:
        self.entries.synced_index = max(self.entries.synced_index, min(index, self.last_index))
        return original(self, index)

    return GroupLog, "commit_to", commit_to


def _ack_before_fsync() -> list[Patch]:
    """What is written counts as synced."""
    original = LogEntries.note_written

    def note_written(self: LogEntries) -> None:
        original(self)
        self.note_synced()

    return [(LogEntries, "note_written", note_written)]


def _leader_counts_unsynced() -> list[Patch]:
    """The leader's own entry counts from when it is appended."""
    original = leadership.Leadership.committable_index

    def committable_index(self: Any) -> RaftIndex:
        log = self._log
        synced, log.entries.synced_index = log.entries.synced_index, log.last_index
        try:
            return original(self)
        finally:
            log.entries.synced_index = synced

    return [(leadership.Leadership, "committable_index", committable_index), _without_commit_guard()]


def _acked_by_the_leader_alone() -> list[Patch]:
    """acks=1: what is on the leader's own disk is committed."""

    def committable_index(self: Any) -> RaftIndex:
        log = self._log
        index = min(log.entries.synced_index, log.last_index)
        return RaftIndex(max(index, log.commit_index) if index >= self.first_index else log.commit_index)

    return [(leadership.Leadership, "committable_index", committable_index)]


def _stale_leader() -> list[Patch]:
    """A leader does not ask whether it still is one, and answers what it knows."""

    def confirm_leadership(self: Reading, now: float, then: Callable[[bool], None]) -> None:
        then(self._group.is_ready)

    def has_quorum(self: Any, now: float, bytes_heard: Mapping[BrokerId, float]) -> bool:
        return True

    return [
        (Reading, "confirm_leadership", confirm_leadership),
        (leadership.Leadership, "has_quorum", has_quorum),
    ]


def _vote_not_synced() -> list[Patch]:
    """Term and vote are written with the next block, and nobody waits for it."""

    def on_hard_state(self: Any) -> None:
        pass

    return [(replica.Replica, "on_hard_state", on_hard_state)]


def _replies_without_term() -> list[Patch]:
    """An acknowledgement is believed whatever term it is of."""
    original = turning.Turning.step

    def step(self: Any, sender: BrokerId, message: Any, now: float) -> None:
        if type(message) in (AppendReply, HeartbeatReply):
            message = message._replace(
                term=self.replica.term, match_index=min(message.match_index, self.log.last_index)
            )
            if type(message) is HeartbeatReply:
                message = AppendReply(message.group, message.term, message.match_index)
        original(self, sender, message, now)

    def hear_idle_reply(self: Any, sender: BrokerId, reply: Any, now: float) -> bool:
        return False

    return [(turning.Turning, "step", step), (turning.Turning, "hear_idle_reply", hear_idle_reply)]


def _truncation_of_matching() -> list[Patch]:
    """A follower drops everything behind an append's first entry, as SyncObj does."""
    original = following.Following.append

    def append(self: Any, message: Append, term: Any) -> Any:
        log, first = self._log, RaftIndex(message.prev_index + 1)
        fits = log.term_at(message.prev_index) == message.prev_term
        if fits and log.commit_index < first <= log.last_index:
            log.truncate_from(first)
        return original(self, message, term)

    return [(following.Following, "append", append)]


def _truncation_below_commit() -> list[Patch]:
    """A follower trusts a leader's append more than its own commit index."""
    original = following.Following.append

    def append(self: Any, message: Append, term: Any) -> Any:
        log, first = self._log, RaftIndex(message.prev_index + 1)
        if message.entries and log.first_index <= first <= log.last_index:
            log.truncate_from(first)
        return original(self, message, term)

    def truncate_from(self: GroupLog, index: RaftIndex) -> None:
        if index <= self.commit_index:
            keep = self._committed.entries(self.first_index, 1 << 30, index - self.first_index)
            end = keep[-1] if keep else None
            self.commit_index = RaftIndex(index - 1)
            self.last_index = min(self.last_index, RaftIndex(index - 1))
            if end is not None:
                self.last_term, self.high_watermark = end.term, end.next_offset
                self.log_end_offset = end.next_offset
            self.entries.truncate_from(index)
            del self.entries.memory[:]
            self.entries.memory_first = index
            return
        truncate(self, index)

    truncate = GroupLog.truncate_from
    return [(following.Following, "append", append), (GroupLog, "truncate_from", truncate_from)]


def _votes_counted_twice() -> list[Patch]:
    """Answers are counted, not voters."""
    from raftlog.raft import elections

    original = elections.Elections.on_vote_reply

    def on_vote_reply(self: Any, sender: BrokerId, reply: Any, now: float) -> None:
        self._votes.discard(sender)
        original(self, sender, reply, now)

    return [(elections.Elections, "on_vote_reply", on_vote_reply)]


def _stored_commit_trusted() -> list[Patch]:
    """A restart takes everything in its log for committed."""
    original = recovery._Replay.finish

    def finish(self: Any) -> None:
        for key, log in self.logs.items():
            self._end_tail(log)
            self._committed[key] = log.last_index
        original(self)

    return [(recovery._Replay, "finish", finish)]


def _high_watermark_at_the_end() -> list[Patch]:
    """A fetch is told of, and given, what is not committed."""
    original = Reading.fetch

    def fetch(self: Any, offset: int, max_bytes: int, **rest: Any) -> FetchResult:
        log, is_leader = self._log, self._group.is_leader
        result = original(self, min(offset, log.high_watermark) if is_leader else offset, max_bytes, **rest)
        if is_leader and log.high_watermark <= offset < log.log_end_offset:
            tail = log.entries.read(RaftIndex(log.commit_index + 1), 1 << 20, 1000)
            found = [one for one in tail if one.kind is EntryKind.BATCH and one.next_offset > offset]
            data = memoryview(b"".join(bytes(one.payload) for one in found))
            next_offset = found[-1].next_offset
            piece = Slice(cast(Any, None), FilePosition(0), len(data), next_offset, False, data)
            result = result._replace(slice=piece, last_stable_offset=next_offset)
        return result._replace(high_watermark=log.log_end_offset)

    return [(Reading, "fetch", fetch)]


def _unchecked_bytes() -> list[Patch]:
    """What a segment gives to clients is not held to its checksums."""

    def read(self: SegmentReader, place: Place, end: Place, term_at: object) -> Slice:
        return self._slice(place, end)

    return [(SegmentReader, "read", read)]


def _dedupe_off() -> list[Patch]:
    def check(self: Producers, header: Any) -> Any:
        return NewBatch()

    return [(Producers, "check", check)]


def _apply_twice() -> list[Patch]:
    """The last entry that was applied is applied again when the leadership moves."""

    original = Driver._resolve

    def resolve(self: Any, member: Any, ready: Ready, now: float) -> None:
        original(self, member, ready, now)
        entries = ready.committed
        is_batch = len(entries) > 1 and entries[-1].kind is EntryKind.BATCH
        if is_batch and member.group.is_leader and not member.is_removed:
            member.machine.apply(entries[-1:], now)

    return [(Driver, "_resolve", resolve)]


def _two_changes_at_once() -> list[Patch]:
    """Members are exchanged in one step, and while the step before is not committed."""

    def step(
        leader: BrokerId, current: Membership, voters: Sequence[BrokerId], learners: Sequence[BrokerId] = ()
    ) -> Step:
        wanted = Membership(frozenset(voters), frozenset(learners))
        found = next_step(leader, current, voters, learners)
        if isinstance(found, Arrived) or leader not in wanted.voters:
            return found
        strangers = wanted.voters - current.members
        return Change(Membership(current.voters, current.learners | strangers) if strangers else wanted)

    def refuse(self: Any, wanted: Membership, leader: BrokerId, commit_index: RaftIndex) -> str | None:
        return None

    return [(upkeep, "next_step", step), (membership.Memberships, "refuse", refuse)]


def _woken_by_entries_only() -> list[Patch]:
    """Of what a write holds, only new entries wake their group when it is synced: not a term or a vote."""
    original = Driver._write

    def write(self: Any) -> Any:
        ticket = original(self)
        if ticket is not None:
            self._written = [
                m for m in self._written if m.group.log.entries.synced_index < m.group.log.last_index
            ]
        return ticket

    return [(Driver, "_write", write)]


def _snapshot_misses_changes() -> list[Patch]:
    """A group that changes while a snapshot is made is left out of it."""

    def about_to_change(self: Offsets, group: str) -> None:
        self._wanted.pop(group, None)

    return [(Offsets, "_about_to_change", about_to_change)]


def _generation_not_awaited() -> list[Patch]:
    keep = GroupRecords.keep

    def keep_and_tell(self: Any, command: Any, on_kept: Any, /) -> None:
        on_kept(True, self._now())
        keep(self, command, lambda is_kept, now: None)

    return [(GroupRecords, "keep", keep_and_tell)]


def _deleted_here_alone() -> list[Patch]:
    """DeleteRecords is answered when the leader's own files say so."""

    def delete_before(self: Partition, offset: int, *, now: float, on_done: Any) -> None:
        log = self.log
        target = log.high_watermark if offset == -1 else offset
        if self.group.is_ready and log.retention.start_offset < target <= log.high_watermark:
            log.retention.delete_before(Offset(target))
            on_done(None, log.retention.start_offset)
        else:
            on_done(PartitionError.NOT_LEADER, -1)

    return [(Partition, "delete_before", delete_before)]


def _deletion_not_awaited() -> list[Patch]:
    """DeleteRecords is answered when the command has been proposed."""

    def move_to(self: LogStart, offset: Offset, on_moved: Any) -> None:
        self._group.leading.propose(EntryKind.NOOP, encode_log_start(offset), 0, lambda outcome, entry: None)
        on_moved(Outcome.COMMITTED)

    def delete_before(self: Partition, offset: int, *, now: float, on_done: Any) -> None:
        original(self, offset, now=now, on_done=lambda error, start: on_done(error, max(start, offset)))

    original = Partition.delete_before
    return [(LogStart, "move_to", move_to), (Partition, "delete_before", delete_before)]


def _retention_of_each_replica() -> list[Patch]:
    """Every replica drops what is too much by its own segments."""

    def tick(self: Partition, now_ms: int, **rest: Any) -> None:
        original(self, now_ms, **rest | {"retention_due": False})
        settings = self.settings
        start = self.log.retention.expired_to(now_ms, settings.retention_ms, settings.retention_bytes)
        self.log.retention.delete_before(start)

    original = Partition.tick
    return [(Partition, "tick", tick)]


def _marker_unchecked() -> list[Patch]:
    """Whatever marker comes ends what is open: a late copy, that of an older epoch or coordinator."""

    def check(self: Transactions, marker: Marker, known_epoch: int) -> MarkerVerdict:
        return MarkerVerdict.NEEDED

    return [(Transactions, "check", check)]


def _stable_at_the_high_watermark() -> list[Patch]:
    """What is committed by Raft is taken for decided by transactions."""

    def last_stable_offset(self: Transactions) -> Offset:
        return self._log.high_watermark

    return [(Transactions, "last_stable_offset", property(last_stable_offset))]


def _staged_offsets_count() -> list[Patch]:
    """A group's offsets count when the producer sends them, before the transaction is decided."""
    original = StageOffsets.apply

    def apply(self: StageOffsets, catalog: Catalog, index: RaftIndex) -> Any:
        result = original(self, catalog, index)
        known = catalog.transactions.get(self.transactional_id)
        for (group_id, topic, partition), row in (known.staged if known is not None else {}).items():
            catalog.group_offsets.change(group_id, topic)[partition] = row
        return result

    return [(StageOffsets, "apply", apply)]


def _decision_not_awaited() -> list[Patch]:
    """A producer is told that its transaction is decided when the entry has been proposed."""
    original = TransactionCoordinator._propose

    async def propose(self: Any, step: Any) -> Any:
        known = self._metadata.catalog.transactions.get(step.transactional_id)
        is_own = known is not None and (known.producer_id, known.epoch) == (step.producer_id, step.epoch)
        if not isinstance(step, EndTransaction) or not is_own or not known.partitions:
            return await original(self, step)
        self._metadata.propose(encode_command(step), now_ms=self._me.now_ms(), on_done=lambda index: None)
        return Stepped(Verdict.DONE, step.producer_id, step.epoch)

    return [(TransactionCoordinator, "_propose", propose)]


def _cleaning_above_what_is_stable() -> list[Patch]:
    """A pass of compaction reads up to the high watermark, open transactions and all."""
    original = Compacting.find

    def find(self: Any, settings: Any, now_ms: int) -> Any:
        transactions = self._transactions
        self._transactions = SimpleNamespace(last_stable_offset=self._log.high_watermark)
        try:
            return original(self, settings, now_ms)
        finally:
            self._transactions = transactions

    return [(Compacting, "find", find)]


def _cleaning_counts_aborted() -> list[Patch]:
    """A pass of compaction takes an aborted record for a key's last value."""
    original = Compacting.job

    def job(self: Any, found: Any, settings: Any, **rest: Any) -> Any:
        return replace(original(self, found, settings, **rest), aborted=[])

    return [(Compacting, "job", job)]


def _not_compared() -> list[Patch]:
    """The offset that a producer expects is read, and that is all."""

    def fits(self: Producing, expected_offset: int | None) -> bool:
        return True

    return [(Producing, "_fits", fits)]


def _compared_before_repeats() -> list[Patch]:
    """A batch is compared first, and a repeat finds itself in its way."""
    original = Producing._judge

    def judge(self: Producing, waiting: Any, now: float, *, membership: Any) -> None:
        if not self._fits(waiting.expected_offset):
            return self._answer_mismatch(waiting, now)
        return original(self, waiting, now, membership=membership)

    return [(Producing, "_judge", judge)]


def _mismatch_not_awaited() -> list[Patch]:
    """A leader says at once that its log ends elsewhere, whether or not it still leads and keeps its tail."""

    def answer_mismatch(self: Producing, waiting: Any, now: float) -> None:
        waiting.on_done(ProduceResult(PartitionError.OFFSET_MISMATCH, self._log.log_end_offset))

    return [(Producing, "_answer_mismatch", answer_mismatch)]


PLANTS: Final[Mapping[str, Callable[[], list[Patch]]]] = {
    "ack before fsync": _ack_before_fsync,
    "leader counts its unsynced entry": _leader_counts_unsynced,
    "ack by the leader alone": _acked_by_the_leader_alone,
    "a stale leader serves": _stale_leader,
    "vote not synced": _vote_not_synced,
    "replies without a term": _replies_without_term,
    "truncation of matching entries": _truncation_of_matching,
    "truncation below the commit index": _truncation_below_commit,
    "votes counted twice": _votes_counted_twice,
    "stored commit index trusted": _stored_commit_trusted,
    "high watermark at the log end": _high_watermark_at_the_end,
    "bytes served unchecked": _unchecked_bytes,
    "dedupe off": _dedupe_off,
    "records deleted on the leader alone": _deleted_here_alone,
    "deletion answered before it is replicated": _deletion_not_awaited,
    "retention of each replica": _retention_of_each_replica,
    "apply twice": _apply_twice,
    "two membership changes at once": _two_changes_at_once,
    "a synced vote wakes nobody": _woken_by_entries_only,
    "a snapshot misses what changes meanwhile": _snapshot_misses_changes,
    "a generation told before it is kept": _generation_not_awaited,
    "a marker without its epoch check": _marker_unchecked,
    "LSO from the high watermark": _stable_at_the_high_watermark,
    "staged offsets count at once": _staged_offsets_count,
    "a decision told before it is kept": _decision_not_awaited,
    "cleaning above the last stable offset": _cleaning_above_what_is_stable,
    "cleaning counts what was aborted": _cleaning_counts_aborted,
    "an expected offset is not compared": _not_compared,
    "compared before repeats are known": _compared_before_repeats,
    "a mismatch told before it is kept": _mismatch_not_awaited,
}


@contextmanager
def plant(name: str) -> Iterator[None]:
    """Have a bug until the context ends. Raises KeyError for a name that is none."""
    with ExitStack() as stack:
        for owner, attribute, value in PLANTS[name]():
            stack.callback(setattr, owner, attribute, getattr(owner, attribute))
            setattr(owner, attribute, value)
        yield
