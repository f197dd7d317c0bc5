"""A store in memory with the interface of raftlog.storage.store, whose disk can lose power and stall.

For the Raft tests: it knows what is pending, written and synced, and nothing of files.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from types import SimpleNamespace

from raftlog.errors import DiskFailed, SafetyError
from raftlog.storage.entry import Entry, EntryKind, HardState
from raftlog.storage.log_damage import Rot
from raftlog.types import BrokerId, GroupKey, Offset, RaftIndex, Term


class MemoryLog:
    """One group's log; see raftlog.storage.group_log.GroupLog. It is each of its parts itself."""

    def __init__(self, key: GroupKey, store: MemoryStore) -> None:
        self.key = key
        self.dirname = "memory"
        self.lost: str | None = None
        self.rot: Rot | None = None
        self.on_rot: Callable[[], None] = lambda: None
        self.refused: str | None = None
        self.cleaning = SimpleNamespace(clean_index=0)
        self._may_lack = False
        self.state = b""
        self.commit_index = RaftIndex(0)
        self.synced_index = RaftIndex(0)
        self.truncations: list[int] = []
        self._store = store
        self._hard_state = HardState(Term(0), None)
        self._start = (0, 0, 0)
        self._entries: list[Entry] = []
        self._start_membership: Entry | None = None

    def __deepcopy__(self, memo: object) -> MemoryLog:
        twin = copy.copy(self)
        twin._entries = list(self._entries)
        twin.truncations = []
        return twin

    @property
    def entries(self) -> MemoryLog:
        return self

    promises = damage = saved = entries

    @property
    def problem(self) -> str | None:
        return self.lost or (self.rot.problem if self.rot is not None else None)

    def has_from(self, index: RaftIndex) -> bool:
        return index >= self.first_index

    @property
    def may_lack(self) -> bool:
        return self._may_lack

    @may_lack.setter
    def may_lack(self, value: bool) -> None:
        if value != self._may_lack:
            self._may_lack = value
            self._store.changed(self)

    @property
    def hard_state(self) -> HardState:
        return self._hard_state

    @hard_state.setter
    def hard_state(self, value: HardState) -> None:
        old = self._hard_state
        if value.term < old.term or (value.term == old.term and old.voted_for not in (None, value.voted_for)):
            raise SafetyError(f"{old} becomes {value}")
        self._hard_state = value
        self._store.changed(self)

    @property
    def first_index(self) -> RaftIndex:
        return RaftIndex(self._start[0] + 1)

    @property
    def index(self) -> RaftIndex:
        return RaftIndex(self._start[0])

    @property
    def last_index(self) -> RaftIndex:
        return RaftIndex(self._start[0] + len(self._entries))

    @property
    def last_term(self) -> Term:
        return self._entries[-1].term if self._entries else Term(self._start[1])

    @property
    def log_end_offset(self) -> Offset:
        return self._entries[-1].next_offset if self._entries else Offset(self._start[2])

    @property
    def memberships(self) -> list[Entry]:
        before = [self._start_membership] if self._start_membership else []
        return before + [e for e in self._entries if e.kind is EntryKind.MEMBERSHIP]

    def term_at(self, index: RaftIndex) -> Term | None:
        position = index - self._start[0] - 1
        if position == -1:
            return Term(self._start[1])
        return self._entries[position].term if 0 <= position < len(self._entries) else None

    def append(self, term: Term, kind: EntryKind, payload: bytes, record_count: int) -> Entry:
        base = self.log_end_offset
        entry = Entry(RaftIndex(self.last_index + 1), term, kind, payload, base, Offset(base + record_count))
        self._entries.append(entry)
        self._store.changed(self)
        return entry

    def check_received(self, entries: Sequence[Entry]) -> None:
        """Payloads are any bytes here."""

    def give_up(self, problem: str) -> None:
        self.rot, self.lost = None, problem

    def repair(self, entries: Sequence[Entry]) -> None:
        self.rot = None

    def append_entries(self, entries: Sequence[Entry]) -> None:
        for entry in entries:
            if entry.index != self.last_index + 1 or entry.base_offset != self.log_end_offset:
                raise SafetyError(f"{entry} does not follow {self.last_index}")
            self._entries.append(entry)
        self._store.changed(self)

    def truncate_from(self, index: RaftIndex) -> None:
        if index <= self.commit_index:
            raise SafetyError(f"truncation from {index}, committed is {self.commit_index}")
        self.truncations.append(index)
        del self._entries[index - self._start[0] - 1 :]
        self.synced_index = RaftIndex(min(self.synced_index, index - 1))
        self._store.changed(self)

    def commit_within(self, index: RaftIndex, cost_max: float) -> tuple[RaftIndex, int]:
        return index, 0

    def commit_to(self, index: RaftIndex) -> list[Entry]:
        if index > self.synced_index:
            raise SafetyError(f"commit of {index}, synced is {self.synced_index}")
        first = self.commit_index - self._start[0]
        self.commit_index = max(index, self.commit_index)
        return self._entries[first : self.commit_index - self._start[0]]

    def read(self, from_index: RaftIndex, max_bytes: int, max_count: int) -> list[Entry]:
        if from_index < self.first_index:
            raise LookupError(from_index)
        position = from_index - self._start[0] - 1
        found = self._entries[position : position + 1]
        size = len(found[0].payload) if found else 0
        for entry in self._entries[position + 1 : position + max_count]:
            size += len(entry.payload)
            if size > max_bytes:
                break
            found.append(entry)
        return found

    def reset(
        self, index: RaftIndex, term: Term, offset: Offset, state: bytes, membership: Entry | None = None
    ) -> None:
        self._start = (index, term, offset)
        self._entries = []
        self._start_membership = membership
        self.commit_index = index
        self.synced_index = RaftIndex(0)
        self.state = state
        self.lost = None
        self._store.changed(self)

    def drop_before(self, index: RaftIndex, state: bytes) -> None:
        """What saved.save(drop_before=True) does: entries up to `index` go."""
        assert index <= self.commit_index
        gone = self._entries[: index - self._start[0]]
        for entry in gone:
            if entry.kind is EntryKind.MEMBERSHIP:
                self._start_membership = entry
        self._start = (index, gone[-1].term, gone[-1].next_offset)
        self._entries = self._entries[len(gone) :]
        self.state = state
        self._store.changed(self)


class MemoryTicket:
    def __init__(self, store: MemoryStore) -> None:
        self.store = store
        self.logs, store.touched = store.touched, {}
        self.image = {key: copy.deepcopy(log) for key, log in store.logs.items()}

    size = 0

    def sync(self) -> None:
        if self.store.fails:
            raise DiskFailed("the test's disk failed")
        self.store.durable = self.image
        self.store.syncs += 1


class MemoryStore:
    """See raftlog.storage.store.Store. `power_loss` gives the store that the next start finds."""

    checkpoint_due = False

    def __init__(self, durable: dict[GroupKey, MemoryLog] | None = None) -> None:
        self.durable = durable if durable is not None else {}
        self.logs: dict[GroupKey, MemoryLog] = {}
        for key, image in self.durable.items():
            log = self.logs[key] = copy.deepcopy(image)
            log._store = self
            log.synced_index = log.last_index
        self.has_pending = False
        self.touched: dict[MemoryLog, None] = {}
        self.fails = False
        self.syncs = 0

    def create_log(self, key: GroupKey, dirname: str = "") -> MemoryLog:
        log = self.logs[key] = MemoryLog(key, self)
        return log

    def changed(self, log: MemoryLog) -> None:
        self.has_pending = True
        self.touched[log] = None

    def write(self) -> MemoryTicket:
        self.has_pending = False
        return MemoryTicket(self)

    def synced(self, ticket: MemoryTicket) -> None:
        for key, image in ticket.image.items():
            log = self.logs.get(key)
            if log is not None:
                index = min(image.last_index, log.last_index)
                while index > 0 and log.term_at(index) != image.term_at(index):
                    index = RaftIndex(index - 1)
                log.synced_index = RaftIndex(max(log.synced_index, index))

    def power_loss(self) -> MemoryStore:
        return MemoryStore(self.durable)


def broker(number: int) -> BrokerId:
    return BrokerId(number)
