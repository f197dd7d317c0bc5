"""Whatever is written, aborted, compacted, cut off and given to another replica: the log folds to a dict.

The model is the list of all that was ever written, by offset, and how each transaction ended. The log must
hold the last committed value of every key, nothing that the list does not have at that offset, and nothing
aborted whose transaction is forgotten.
"""

from __future__ import annotations

import random
from typing import NamedTuple

import cbor2
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from raftlog.partition.markers import Marker, decode_marker, encode_marker
from raftlog.records.batch import Codec, iter_headers, read_header, stamp
from raftlog.records.record import NewRecord, decode_batch, encode_batch
from raftlog.storage.compaction.cleaner import clean
from raftlog.storage.compaction.job import AbortedRange
from raftlog.storage.entry import Entry, EntryKind
from raftlog.storage.inspect import verify
from raftlog.types import Offset, RaftIndex, Term
from tests.compaction_world import KEY, World, follow, take
from tests.sim.virtual_disk import VirtualDisk

PRODUCERS = 3
KEYS = 24
"""So many that what is written last of a key often lies in what is compacted."""

Written = dict[int, tuple[bytes | None, bytes | None, int]]
"""By offset: key, value, and the producer whose transaction it is in, -1 for none."""


class State(NamedTuple):
    """What a partition's saved state has of transactions."""

    open: dict[int, int]
    aborted: list[AbortedRange]
    stands_at: int = 0
    """The last entry that it knows of."""

    def encode(self) -> bytes:
        return cbor2.dumps([self.open, [list(each) for each in self.aborted], self.stands_at])

    @classmethod
    def decode(cls, data: bytes) -> State:
        opened, aborted, stands_at = cbor2.loads(data) if data else ({}, [], 0)
        return cls(opened, [AbortedRange(*each) for each in aborted], stands_at)


class Partition(World):
    """The log with its transactions, and the model."""

    def __init__(self, seed: int) -> None:
        super().__init__(seed)
        self.flush()
        self.written: Written = {}
        self.ends: list[tuple[int, int, bool]] = []
        """Of each transaction: its producer, its marker's offset, whether it was committed."""
        self.state = State({}, [])
        self.applied = 0

    # What is written

    def write(self, key: bytes, value: bytes | None, producer: int, codec: Codec) -> None:
        end = self.log.log_end_offset
        records = [
            NewRecord(1000 + end, key, value),
            NewRecord(1000 + end, b"k%d" % (end % KEYS), b"%d" % end),
        ]
        is_open = producer >= 0
        data = encode_batch(
            records,
            codec=codec,
            transactional=is_open,
            producer_id=producer,
            producer_epoch=0 if is_open else -1,
            base_sequence=0 if is_open else -1,
        )
        stamp(data, end, 1)
        self.log.append(Term(1), EntryKind.BATCH, data, len(records))
        for offset, record in enumerate(records, end):
            self.written[offset] = record.key, record.value, producer
        self.commit()

    def end_transaction(self, producer: int, *, commit: bool) -> None:
        data = encode_marker(Marker(producer, 0, commit, 1, 1), 1000)
        stamp(data, self.log.log_end_offset, 1)
        offset = self.log.append(Term(1), EntryKind.BATCH, data, 1).base_offset
        self.ends.append((producer, offset, commit))
        self.commit()

    def commit(self) -> None:
        self.flush()
        self.log.commit_to(self.log.last_index)
        self.apply()

    def apply(self) -> None:
        while self.applied < self.log.commit_index:
            for entry in self.log.entries.read(RaftIndex(self.applied + 1), 1 << 20, 1000):
                if entry.index > self.state.stands_at:  # what a copy brings may be newer than where it ends
                    self.apply_entry(entry)
                    self.state = self.state._replace(stands_at=entry.index)
                self.applied = entry.index
        self.log.saved.save(self.state.encode(), RaftIndex(self.applied))

    def apply_entry(self, entry: Entry) -> None:
        if entry.kind is not EntryKind.BATCH:
            return
        header = read_header(entry.payload)
        if header.is_control:
            marker = decode_marker(header, entry.payload)
            first = self.state.open.pop(marker.producer_id, None)
            if first is not None and not marker.is_commit:
                self.state.aborted.append(AbortedRange(marker.producer_id, first, entry.base_offset))
        elif header.is_transactional:
            self.state.open.setdefault(header.producer_id, entry.base_offset)

    @property
    def stable(self) -> int:
        return min(self.state.open.values(), default=self.log.high_watermark)

    # What is done to the log

    def compact(self, purge: bool, key_map_bytes: int) -> None:
        found = self.find(offset=Offset(self.stable))
        if not found.segments:
            return
        passes = self.log.cleaning.passes
        purge_to = passes.purge_to(0 if purge else 1 << 60)
        self.passes += 1
        job = self.log.cleaning.job(
            found,
            purge_to=purge_to,
            aborted=list(self.state.aborted),
            target=self.store.aside.begin_pass(f"{self.passes}"),
            key_map_bytes=key_map_bytes,
            bytes_per_second=0,
        )
        assert self.log.cleaning.take(found, clean(self.disk, job))
        kept = [each for each in self.state.aborted if each.marker_offset >= purge_to]
        self.state = self.state._replace(aborted=kept)
        self.log.saved.save(self.state.encode(), RaftIndex(self.applied))

    def cut(self, power: bool) -> None:
        if power:
            self.disk.power_loss()
        self.reopen()
        self.state, self.applied = State.decode(self.log.saved.state), self.log.saved.index
        self.commit()

    def move(self) -> None:
        """Another replica, which has nothing, is given what was compacted, and then entries; and it leads."""
        source = self.log
        copy = source.cleaning.copy() if source.cleaning.clean_index else None
        self.disk = VirtualDisk(random.Random(self.disk.rng.random()))
        self.store = self.open()
        self.log = self.store.create_log(KEY, "t-0.x")
        self.flush()
        if copy is not None:
            take(self, copy)
            source.cleaning.end_copy(copy)
        follow(self, source)
        self.state, self.applied = State.decode(self.log.saved.state), self.log.saved.index
        self.commit()

    # What must hold

    def check(self) -> None:
        expected: dict[bytes | None, bytes | None] = {}
        for offset in sorted(self.written):
            if offset >= self.stable:
                break
            key, value, producer = self.written[offset]
            if producer < 0 or self.was_committed(producer, offset):
                expected[key] = value
        folded: dict[bytes | None, bytes | None] = {}
        offset = 0
        while (piece := self.log.reader.read(Offset(offset), 300, None)) is not None:
            data = bytes(piece.read())
            for at, header in iter_headers(data):
                if header.is_control:
                    continue
                for record in decode_batch(data, at):
                    assert self.written[record.offset][:2] == (record.key, record.value)
                    if record.offset < self.stable and not self.is_aborted(header.producer_id, record.offset):
                        folded[record.key] = record.value
            offset = piece.next_offset
        assert offset == self.log.high_watermark
        assert with_values(folded) == with_values(expected)

    def was_committed(self, producer: int, offset: int) -> bool:
        return next(commit for owner, marker, commit in self.ends if owner == producer and marker > offset)

    def is_aborted(self, producer: int, offset: int) -> bool:
        """As a consumer knows it: by the list that the log's state keeps."""
        return any(
            producer == each.producer_id and each.first_offset <= offset < each.marker_offset
            for each in self.state.aborted
        )


def with_values(folded: dict[bytes | None, bytes | None]) -> dict[bytes | None, bytes | None]:
    return {key: value for key, value in folded.items() if value is not None}


STEPS = st.lists(
    st.tuples(
        st.sampled_from(
            (
                "put",
                "put",
                "put",
                "delete",
                "send",
                "send",
                "end",
                "compact",
                "compact",
                "cut",
                "keep",
                "move",
            )
        ),
        st.integers(0, 255),
    ),
    max_size=80,
)


def run(partition: Partition, name: str, number: int) -> None:
    key, codec = b"k%d" % (number % KEYS), Codec(number % 5)
    match name:
        case "put":
            partition.write(key, b"v%d" % number, -1, codec)
        case "delete":
            partition.write(key, None, -1, codec)
        case "send":
            partition.write(key, None if number % 7 == 0 else b"t%d" % number, number % PRODUCERS, codec)
        case "end":
            if number % PRODUCERS in partition.state.open:
                partition.end_transaction(number % PRODUCERS, commit=number % 2 == 0)
        case "compact":
            partition.compact(purge=number % 2 == 0, key_map_bytes=1 << 20 if number % 3 else 162 * 3)
        case "cut":
            partition.cut(power=number % 2 == 0)
        case "keep":
            partition.checkpoint()
        case "move":
            partition.move()


@given(seed=st.integers(0, 2**32), steps=STEPS)
@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_a_compacted_log_is_its_dict(seed: int, steps: list[tuple[str, int]]) -> None:
    partition = Partition(seed)
    for name, number in steps:
        run(partition, name, number)
        if name in ("compact", "cut", "move"):
            partition.check()
    partition.check()
    partition.checkpoint()
    assert verify(partition.disk, "/data").findings == []


WRITES = st.lists(
    st.tuples(st.sampled_from(("put", "put", "delete", "send", "end")), st.integers(0, 255)),
    min_size=30,
    max_size=50,
)


@given(seed=st.integers(0, 2**32), parts=st.lists(WRITES, min_size=1, max_size=3), number=st.integers(0, 255))
@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_a_replica_that_is_given_the_compacted_log_leads_on(
    seed: int, parts: list[list[tuple[str, int]]], number: int
) -> None:
    """Scenario 58. It is compacted, given to another, and cut off, again and again."""
    partition = Partition(seed)
    for steps in parts:
        for name, key in steps:
            run(partition, name, key)
        for name in ("compact", "move", "compact", "cut"):
            run(partition, name, number)
            partition.check()
    partition.checkpoint()
    assert verify(partition.disk, "/data").findings == []
