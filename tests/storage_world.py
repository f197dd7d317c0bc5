"""A store on a virtual disk beside a model of it that is too simple to be wrong.

The model of a group is a list of entries. What a crash may leave is exactly known: the state at the last
synced write or, when a write was under way, the state at that one; for all groups together, since a
write is one block. `crash_check` opens the store again and compares everything that can be read.
"""

from __future__ import annotations

import copy
import random
from collections.abc import Iterator
from dataclasses import dataclass, field

from raftlog.records.batch import stamp
from raftlog.records.record import NewRecord, encode_batch
from raftlog.storage.checkpoint import CheckpointJob
from raftlog.storage.entry import LOG_BEGIN, Entry, EntryKind, HardState, LogPoint
from raftlog.storage.group_log import NO_HARD_STATE, GroupLog
from raftlog.storage.store import Store, StoreSettings, WriteTicket
from raftlog.types import BrokerId, GroupKey, Offset, RaftIndex, Term, group_key
from tests.sim.virtual_disk import PowerLost, VirtualDisk

ROOT = "/data"
SETTINGS = StoreSettings(
    node_id=BrokerId(1),
    cluster_id="c",
    wal_file_bytes=24 << 10,
    checkpoint_bytes=20 << 10,
    recent_bytes_max=2000,
    open_files_max=4,
    segment_bytes=700,
    index_interval_bytes=150,
)


def batch(log: GroupLog, term: int, records: int, size: int, timestamp: int = 1000) -> bytearray:
    """A batch of `records` records with values of `size` bytes, stamped to come next in `log`."""
    data = encode_batch(
        [
            NewRecord(timestamp + number, b"k", bytes((number + size & 0xFF,)) * size)
            for number in range(records)
        ]
    )
    stamp(data, log.log_end_offset, term)
    return data


def plain(entry: Entry) -> Entry:
    """The entry with its payload as bytes, for comparison and keeping."""
    return entry._replace(payload=bytes(entry.payload), kind=EntryKind(entry.kind))


def expire(log: GroupLog, now_ms: int, retention_ms: int, retention_bytes: int) -> bool:
    """Retention of one replica; whether segments went."""
    log.retention.delete_before(log.retention.expired_to(now_ms, retention_ms, retention_bytes))
    return log.retention.drop_deleted(log.commit_index)


def roll(log: GroupLog) -> None:
    """See that the next batch begins a segment."""
    log._committed._is_closed = bool(log._committed.segments)


def all_entries(log: GroupLog) -> list[Entry]:
    """Everything in the log, asked for in small pieces."""
    found: list[Entry] = []
    index = log.first_index
    while index <= log.last_index:
        entries = log.entries.read(index, 500, 7)
        assert entries, (log, index)
        found += map(plain, entries)
        index = RaftIndex(found[-1].index + 1)
    return found


def all_bytes(log: GroupLog, max_bytes: int = 400) -> bytes:
    """Everything that readers see, slice by slice."""
    parts = []
    offset = log.retention.start_offset
    while (piece := log.reader.read(offset, max_bytes)) is not None:
        parts.append(piece.read())
        assert len(parts[-1]) == piece.length and piece.next_offset > offset
        offset = piece.next_offset
    assert offset == log.high_watermark, (log, offset)
    return b"".join(parts)


@dataclass(slots=True)
class GroupModel:
    """What a group's log must hold; `entries` goes back to the last reset, whatever retention took."""

    start: LogPoint = LOG_BEGIN
    entries: list[Entry] = field(default_factory=list)
    hard_state: HardState = NO_HARD_STATE
    commit: int = 0
    log_start: int = 0
    life: int = 0
    """Which creation or reset it stems from."""

    def __deepcopy__(self, memo: object) -> GroupModel:
        return GroupModel(
            self.start, list(self.entries), self.hard_state, self.commit, self.log_start, self.life
        )

    @property
    def last_index(self) -> int:
        return self.start.index + len(self.entries)

    def truncate_from(self, index: int) -> None:
        del self.entries[index - self.start.index - 1 :]


Model = dict[GroupKey, GroupModel]


class World:
    """The store, its disk, and the model at three times: now, at the last write, at the last sync."""

    def __init__(self, seed: int, settings: StoreSettings = SETTINGS) -> None:
        self.disk = VirtualDisk(random.Random(seed))
        self.rng = random.Random(seed)
        self.settings = settings
        self.now: Model = {}
        self.written: Model = {}
        self.synced: Model = {}
        self.states: dict[tuple[GroupKey, int], set[bytes]] = {}
        self.ticket: WriteTicket | None = None
        self.is_put = False
        """Whether the ticket's block is written, and may wait for its sync."""
        self.job: CheckpointJob | None = None
        self.stops_in_recovery = False
        """Whether the power may go off again while a store is recovered."""
        self.lives = 0
        self.committed: dict[int, int] = {}
        """What was ever committed, by life."""
        self.store = self.open()

    def open(self) -> Store:
        return Store.open(self.disk, ROOT, self.settings, rng=random.Random(7))

    def pick(self, number: int) -> tuple[GroupLog, GroupModel] | None:
        keys = sorted(self.now)
        if not keys:
            return None
        key = keys[number % len(keys)]
        return self.store.logs[key], self.now[key]

    def new_life(self, commit: int) -> int:
        self.lives += 1
        self.committed[self.lives] = commit
        return self.lives

    # What can be done. `number` is any integer; it chooses the group and the size.

    def do_create(self, number: int) -> None:
        if len(self.now) < 3:
            key = group_key(bytes(16), number % 4)
            if key not in self.now:
                self.store.create_log(key, f"t-{number % 4}.x")
                self.now[key] = GroupModel(life=self.new_life(0))

    def do_delete(self, number: int) -> None:
        picked = self.pick(number)
        if picked is not None:
            self.store.delete_log(picked[0].key)
            del self.now[picked[0].key]

    def do_append(self, number: int) -> None:
        picked = self.pick(number)
        if picked is None:
            return
        log, model = picked
        term = max(log.last_term, log.promises.hard_state.term, 1)
        kind = EntryKind(max(0, number % 8 - 5))
        if kind is EntryKind.BATCH:
            size = 30_000 if number % 64 == 63 else number % 200
            entry = log.append(Term(term), kind, batch(log, term, 1 + number % 3, size), 1 + number % 3)
        else:
            entry = log.append(Term(term), kind, b"m%d" % number, 0)
        model.entries.append(plain(entry))

    def do_vote(self, number: int) -> None:
        picked = self.pick(number)
        if picked is not None:
            log, model = picked
            log.promises.hard_state = HardState(
                Term(log.promises.hard_state.term + 1), BrokerId(number % 3) if number % 2 else None
            )
            model.hard_state = log.promises.hard_state

    def do_truncate(self, number: int) -> None:
        picked = self.pick(number)
        if picked is not None:
            log, model = picked
            index = log.commit_index + 1 + number % 5
            log.truncate_from(RaftIndex(index))
            model.truncate_from(index)

    def do_commit(self, number: int) -> None:
        picked = self.pick(number)
        if picked is not None:
            log, model = picked
            index = min(log.commit_index + number % 6, log.entries.synced_index)
            before = log.commit_index
            committed = log.commit_to(RaftIndex(index))
            model.commit = self.committed[model.life] = max(model.commit, log.commit_index)
            expected = model.entries[before - model.start.index : max(index, before) - model.start.index]
            assert [plain(entry) for entry in committed] == expected

    def do_reset(self, number: int) -> None:
        picked = self.pick(number)
        if picked is not None:
            log, model = picked
            point = LogPoint(
                RaftIndex(number % 40), Term(max(1, log.last_term) + number % 2), Offset(number % 100)
            )
            state = b"state %d" % number
            log.reset(*point, state)
            self.states.setdefault((log.key, point.index), set()).add(state)
            life = self.new_life(point.index)
            self.now[log.key] = GroupModel(point, [], model.hard_state, point.index, point.offset, life)

    def do_delete_before(self, number: int) -> None:
        picked = self.pick(number)
        if picked is not None:
            log, model = picked
            log.retention.delete_before(Offset(log.retention.start_offset + number % 8))
            model.log_start = log.retention.start_offset

    def do_expire(self, number: int) -> None:
        picked = self.pick(number)
        if picked is not None:
            log, model = picked
            expire(log, 1000, -1, 100 * (number % 16))
            model.log_start = log.retention.start_offset

    def do_snapshot(self, number: int) -> None:
        picked = self.pick(number)
        if picked is not None:
            log, model = picked
            index = log.commit_index - number % 3
            if index >= max(log.saved.index, log.first_index - 1):
                state = b"snapshot %d" % number
                log.saved.save(state, RaftIndex(index), drop_before=number % 4 == 0)
                self.states.setdefault((log.key, index), set()).add(state)
                model.log_start = log.retention.start_offset

    def do_roll(self, number: int) -> None:
        picked = self.pick(number)
        if picked is not None:
            roll(picked[0])

    def do_write(self, number: int) -> None:
        if self.ticket is None and self.store.has_pending:
            self.written = copy.deepcopy(self.now)
            self.ticket = self.store.write()
            self.is_put = False
            if number % 2:
                self.do_put(number)

    def do_put(self, number: int) -> None:
        if self.ticket is not None:
            self.ticket.write()
            self.is_put = True

    def do_sync(self, number: int) -> None:
        if self.ticket is not None:
            self.ticket.sync()
            self.synced = self.written
            self.store.synced(self.ticket)
            self.ticket = None

    def do_turn(self, number: int) -> None:
        self.do_sync(number)
        self.do_write(number)
        self.do_sync(number)

    def do_begin_checkpoint(self, number: int) -> None:
        if self.job is None and self.store.checkpoint_due:
            self.job = self.store.begin_checkpoint()

    def do_force_checkpoint(self, number: int) -> None:
        is_idle = self.ticket is None and not self.store.has_pending
        if self.job is None and is_idle and not self.store.checkpoint_due:
            self.job = self.store.begin_checkpoint()

    def do_run_checkpoint(self, number: int) -> None:
        self.do_begin_checkpoint(number)
        if self.job is not None and not self.job.is_done:
            self.job.run()

    def do_finish_checkpoint(self, number: int) -> None:
        if self.job is not None and self.job.is_done and not self.job_recorded:
            self.store.finish_checkpoint(self.job)
            self.job_recorded = True
            self.do_turn(number)
            self.do_turn(number)
            self.job, self.job_recorded = None, False

    job_recorded = False

    def do_read(self, number: int) -> None:
        picked = self.pick(number)
        if picked is not None:
            self.check_log(*picked)

    def do_kill(self, number: int) -> None:
        self.disk.kill()
        self.recover([self.written if self.ticket is not None and self.is_put else self.synced])

    def do_power_loss(self, number: int) -> None:
        self.disk.power_loss()
        self.recover([self.written, self.synced] if self.ticket is not None else [self.synced])

    def do_restart(self, number: int) -> None:
        """A clean stop: everything pending is kept."""
        self.store.close()
        self.ticket = None
        commits = {key: model.commit for key, model in self.now.items()}
        self.recover([self.now])
        for key, log in self.store.logs.items():
            assert log.commit_index == commits[key], (log, commits)

    # What must hold.

    def recover(self, candidates: list[Model]) -> None:
        """Open the store again; it must be in one of the states given. Go on from there."""
        self.ticket, self.job, self.job_recorded = None, None, False
        self.store = self.open()
        failures = []
        for candidate in candidates:
            model = copy.deepcopy(candidate)
            try:
                self.check_recovered(model)
            except AssertionError as error:
                failures.append(error)
                continue
            self.now, self.synced = model, copy.deepcopy(model)
            return
        raise AssertionError("; ".join(f"as {number}: {error}" for number, error in enumerate(failures)))

    def check_recovered(self, model: Model) -> None:
        assert set(self.store.logs) == set(model), "the groups"
        for key, log in self.store.logs.items():
            group = model[key]
            assert log.damage.lost is None, log.damage.lost
            assert log.promises.hard_state == group.hard_state, log
            assert log.last_index == group.last_index, (log, group.last_index)
            assert log.entries.synced_index == log.last_index, log
            assert log.commit_index <= self.committed[group.life], log
            assert log.retention.start_offset >= group.log_start, (log, group.log_start)
            group.commit = log.commit_index
            group.log_start = log.retention.start_offset
            self.check_log(log, group)
            if log.saved.state:
                assert log.saved.state in self.states[key, log.saved.index]

    def check_log(self, log: GroupLog, model: GroupModel) -> None:
        assert log.commit_index == model.commit
        assert log.first_index > model.start.index
        assert log.last_index == model.last_index
        kept = model.entries[log.first_index - 1 - model.start.index :]
        assert all_entries(log) == kept
        for entry in kept:
            assert log.term_at(entry.index) == entry.term
        assert log.term_at(RaftIndex(log.last_index + 1)) is None
        before = model.entries[: log.first_index - 1 - model.start.index]
        assert log.term_at(RaftIndex(log.first_index - 1)) == (
            before[-1].term if before else model.start.term
        )
        assert log.log_end_offset == (model.entries[-1].next_offset if model.entries else model.start.offset)
        assert log.retention.start_offset <= log.high_watermark <= log.log_end_offset
        assert all_bytes(log) == b"".join(
            bytes(entry.payload)
            for entry in kept
            if entry.kind is EntryKind.BATCH
            and entry.index <= log.commit_index
            and entry.next_offset > log.retention.start_offset
        )
        memberships = [entry for entry in model.entries if entry.kind is EntryKind.MEMBERSHIP]
        gone = [entry for entry in memberships if entry.index < log.first_index]
        assert [plain(entry) for entry in log.memberships] == gone[-1:] + memberships[len(gone) :]

    def __iter__(self) -> Iterator[GroupLog]:
        return iter(self.store.logs.values())


ACTIONS = {name[3:]: action for name, action in vars(World).items() if name.startswith("do_")}
del ACTIONS["begin_checkpoint"]  # running one begins it

LIKELY = [
    *ACTIONS,
    *["append"] * 8,
    *["turn"] * 4,
    *["commit"] * 6,
    *["run_checkpoint", "finish_checkpoint"] * 2,
]

_WRITING = ("write", "turn", "restart", "finish_checkpoint")


def run(world: World, steps: list[tuple[str, int]]) -> None:
    """Take the steps, and a power loss where the disk was told to stop the world, and one at the end."""
    for name, number in steps:
        step(world, name, number)
    lose_power(world, [])


def step(world: World, name: str, number: int) -> bool:
    """Take a step; False when the power went off in the middle of it (and the store was recovered)."""
    try:
        ACTIONS[name](world, number)
    except PowerLost:
        lose_power(world, [world.now] if name in _WRITING else [])
        return False
    return True


def lose_power(world: World, attempted: list[Model]) -> None:
    """`attempted`: states that a write may just have been bringing to the disk."""
    candidates = [*([world.written] if world.ticket is not None else []), *attempted, world.synced]
    while True:
        try:
            world.disk.power_loss()
            if world.stops_in_recovery and world.rng.random() < 0.5:
                world.disk.crash_after = world.disk.operations + world.rng.randrange(1, 20)
            world.recover(candidates)
            return
        except PowerLost:
            continue


def random_steps(rng: random.Random, count: int) -> list[tuple[str, int]]:
    steps = [(rng.choice(LIKELY), rng.randrange(256)) for _ in range(count)]
    return [("create", 0), ("create", 1), *steps]


def soak(seed: int, count: int) -> None:
    """A random schedule in which the power goes off anywhere, also while recovering."""
    rng = random.Random(seed)
    world = World(seed)
    world.stops_in_recovery = True
    for name, number in random_steps(rng, count):
        if world.disk.crash_after is None:
            world.disk.crash_after = world.disk.operations + rng.randrange(1, 120)
        step(world, name, number)
    world.disk.crash_after = None
    run(world, [])
