"""What is kept of a log beside its entries: the state of its state machine, and all that the snapshot file
says of the committed part."""

from __future__ import annotations

from collections.abc import Callable

from raftlog.errors import SafetyError
from raftlog.storage.checkpoint import CheckpointJob
from raftlog.storage.committed import CommittedLog
from raftlog.storage.disk import Disk
from raftlog.storage.entry import Entry, LogPoint
from raftlog.storage.epochs import Epochs
from raftlog.storage.filling import Copy
from raftlog.storage.log_damage import LogDamage
from raftlog.storage.passes import Passes
from raftlog.storage.promises import Promises
from raftlog.storage.segment_reader import TermAt
from raftlog.storage.snapshot import LogImage
from raftlog.types import RaftIndex, Term


class Saved:
    """Of one log, through all its lives. Plain attributes, to be read by everyone:

    state, index   the state machine's last saved state, and the entry it stands at
    """

    def __init__(
        self,
        disk: Disk,
        promises: Promises,
        damage: LogDamage,
        term_at: TermAt,
        start_moved: Callable[[], None],
    ) -> None:
        """`start_moved` is told that entries are gone."""
        self._disk = disk
        self._promises, self._damage = promises, damage
        self._term_at = term_at
        self._start_moved = start_moved

    def begin(
        self,
        dirname: str,
        image: LogImage,
        committed: CommittedLog,
        epochs: Epochs,
        passes: Passes,
        memberships: list[Entry],
        *,
        has_file: bool,
    ) -> None:
        """The log stands where `image` says, in the folder `dirname`. `has_file`: its snapshot file
        is there."""
        self.state, self.index = image.state, image.snapshot_index
        self._key, self._dirname = image.key, dirname
        self._committed, self._epochs, self._passes = committed, epochs, passes
        self._memberships = memberships
        self._has_file = has_file

    def save(self, state: bytes, index: RaftIndex, *, drop_before: bool = False) -> None:
        """Keep the state machine's state as of entry `index` (committed); durable with the next
        checkpoint. With `drop_before` the entries up to `index` are dropped (metadata group)."""
        if index > self._committed.end.index or index < self.index:
            raise SafetyError(f"{self._dirname}: a snapshot at {index} after one at {self.index}")
        self.state, self.index = state, index
        self.note_changed()
        if drop_before:
            self._committed.drop_to(index, self._term_of(index))
            self._start_moved()

    def note_changed(self) -> None:
        """See that the next checkpoint writes the snapshot file."""
        self._committed.is_changed = True

    def capture(self, job: CheckpointJob) -> list[object]:
        """Give `job` what makes the committed part durable, and return the log's line in the checkpoint:
        its name, term and vote, and how far it was committed."""
        committed = self._committed
        for segment in committed.take_dirty():
            job.add_segment(segment)
        if committed.is_changed:
            gone_to = max(committed.start.index, committed.clean_index)
            image = LogImage(
                key=self._key,
                start=committed.start,
                log_start_offset=committed.log_start_offset,
                commit=committed.end,
                internal=list(committed.internal.values()),
                segments=[segment.extent for segment in committed.segments],
                epochs=self._epochs.lines_to(committed.end.index),
                membership=self._membership_at(gone_to),
                snapshot_index=self.index,
                state=self.state,
                wal_sequence=job.start_sequence,
                damage=self._damage.lost,
                may_lack=self._promises.may_lack,
                passes=self._passes.saved(),
            )
            job.snapshots.append((committed.folder, image))
            self._has_file = True
            committed.is_changed = False
        job.doomed += committed.doomed.take()
        active = committed.segments[-1].extent.to_list() if committed.segments else None
        hard_state = self._promises.hard_state
        return [self._key, self._dirname, self._has_file, hard_state, committed.end, active]

    def copy(self) -> Copy:
        """The log up to the last entry that compaction has been over, with the state that was saved last,
        which may be a later one: a state machine passes over what its state has."""
        committed = self._committed
        index = committed.clean_index
        segments = [each.extent for each in committed.segments if each.last_index <= index]
        commit = LogPoint(index, self._term_of(index), segments[-1].next_offset)
        image = LogImage(
            key=self._key,
            start=committed.start,
            log_start_offset=min(committed.log_start_offset, commit.offset),
            commit=commit,
            epochs=self._epochs.lines_to(index),
            membership=self._membership_at(index),
            segments=segments,
            snapshot_index=index,
            state=self.state,
            passes=self._passes.lines,
        )
        return Copy(self._disk, committed.folder, image)

    def _membership_at(self, index: RaftIndex) -> Entry | None:
        return next((entry for entry in reversed(self._memberships) if entry.index <= index), None)

    def _term_of(self, index: RaftIndex) -> Term:
        term = self._term_at(index)
        assert term is not None, index
        return term
