"""What is known to be wrong with a group's log, and how it is mended.

There are two cases. The bytes of an entry are not what was written, and the log still knows which entries it
has: `rot`, which the group has repaired from another replica. Or it is not known any more what the log holds:
`lost`, which only a log that begins anew mends.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from raftlog.errors import DamagedBatch, DamagedLog, FileRefused, InvalidInput
from raftlog.storage.committed import CommittedLog
from raftlog.storage.disk import NOT_THE_DISKS, Health
from raftlog.storage.entry import Entry
from raftlog.storage.index import Place
from raftlog.storage.log_entries import LogEntries
from raftlog.types import FilePosition, Offset, RaftIndex


@dataclass(frozen=True, slots=True)
class Rot:
    """A committed entry whose bytes are not what was written, where it lies, and how that was found."""

    place: Place
    problem: str

    @property
    def index(self) -> RaftIndex:
        return self.place.index


class LogDamage:
    """Of one log, through all its lives. Plain attributes, to be read by everyone:

    lost     None, or why it is not known any more what the log holds; it outlives a restart
    rot      None, or an entry whose bytes are damaged in a log that is whole otherwise; it is found again
             after a restart
    """

    def __init__(self, health: Health) -> None:
        self._health = health
        self.on_rot: Callable[[], None] = lambda: None
        """Called when `rot` is found, by whoever reads, or goes with what is dropped. The group sets it."""

    def begin(self, dirname: str, committed: CommittedLog, lost: str | None) -> None:
        """The log stands in the folder `dirname` now."""
        self._dirname = dirname
        self._committed = committed
        self.lost = lost
        self.rot: Rot | None = None

    @property
    def problem(self) -> str | None:
        """What is wrong with the log, if anything is known to be."""
        return self.lost or (self.rot.problem if self.rot is not None else None)

    @contextmanager
    def reading(self) -> Iterator[None]:
        """What cannot be read is damage: it is remembered, reported and refused. What cannot be opened for
        now is FileRefused."""
        self._health.check()
        try:
            yield
        except DamagedBatch as error:
            place = Place(Offset(error.offset), RaftIndex(error.index), FilePosition(error.position))
            if self.rot is None:
                self.rot = Rot(place, str(error))
                self.on_rot()
            raise
        except DamagedLog as error:
            self.lost = self.lost or str(error)
            raise
        except OSError as error:
            if error.errno in NOT_THE_DISKS:
                raise FileRefused(f"{self._dirname}: {error}") from error
            self.lost = self.lost or f"{self._dirname}: {error}"
            raise DamagedLog(f"{self._dirname}: {error}") from error

    def repair(self, entries: Sequence[Entry]) -> None:
        """Write the entry that `rot` names, and what follows on it in `entries`, as another replica has them.
        Raises InvalidInput when they are not sound or not what belongs there, DamagedBatch when what lies
        behind them is damaged as well: that is the `rot` then."""
        rot = self.rot
        assert rot is not None
        LogEntries.check_received(entries)
        with self.reading():
            try:
                self._committed.repair(rot.place, entries)
            except InvalidInput:
                raise
            except DamagedLog:
                self.rot = None
                raise
        self.rot = None

    def give_up(self, problem: str) -> None:
        """The bytes that `rot` names cannot be had back: the log is as good as lost, until it is reset."""
        self.rot, self.lost, self._committed.is_changed = None, problem, True

    def forget_to(self, index: RaftIndex) -> None:
        """What lay up to `index` is gone, or was read again and found sound."""
        if self.rot is not None and self.rot.index <= index:
            self.rot = None
            self.on_rot()
