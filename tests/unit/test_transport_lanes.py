"""Frames in lanes and pieces: what passes what, and that everything arrives as it was."""

from __future__ import annotations

import random

import pytest

from raftlog.errors import InvalidInput
from raftlog.net.frames import SCRATCH_SIZE
from raftlog.raft.messages import Append, Heartbeat, Message
from raftlog.storage.entry import Entry, EntryKind
from raftlog.transport.lanes import LANE_BYTES_MAX, LANE_FRAMES_MAX, PIECE_BYTES, Inflow, Lane, Outflow
from raftlog.transport.packing import frames_of, split
from raftlog.transport.wire import Buffers
from raftlog.types import METADATA_GROUP
from tests.unit.raft_cluster import KEY


def frame(size: int, fill: int = 0) -> bytes:
    return size.to_bytes(4, "big") + bytes([fill]) * size


def add(outflow: Outflow, lane: Lane, data: bytes) -> bool:
    return outflow.add(lane, [data], len(data))


def drain(outflow: Outflow, count: int | None = None) -> bytes:
    sent = b""
    while (count is None or len(sent) < count) and (buffers := outflow.take()):
        sent += b"".join(buffers)
    return sent


def inflow() -> Inflow:
    return Inflow(memoryview(bytearray(SCRATCH_SIZE)))


def receive(data: bytes) -> list[bytes]:
    into, frames = inflow(), []
    view = memoryview(data)
    while view:
        space = into.buffer()
        count = min(len(space), len(view))
        space[:count] = view[:count]
        del space
        view = view[count:]
        frames += [bytes(frame) for frame in into.received(count)]
    return frames


def test_an_urgent_frame_waits_for_a_piece_and_not_for_a_frame() -> None:
    outflow = Outflow(in_pieces=True)
    large = frame(8 << 20, 1)
    assert add(outflow, Lane.LOG, large)
    sent = drain(outflow, 1)
    assert len(sent) <= PIECE_BYTES + 8
    assert add(outflow, Lane.URGENT, frame(100, 2))
    sent += drain(outflow, len(sent) + 1)
    assert receive(sent) == [frame(100, 2)]
    assert receive(sent + drain(outflow)) == [frame(100, 2), large]
    assert outflow.bytes_waiting == 0


def test_frames_of_a_lane_keep_their_order_and_the_lower_lane_goes_first() -> None:
    outflow = Outflow(in_pieces=True)
    frames = [frame(300_000, 1), frame(10, 2), frame(600_000, 3), frame(20, 4)]
    for number, data in enumerate(frames):
        add(outflow, Lane.LOG if number % 2 == 0 else Lane.METADATA, data)
    assert receive(drain(outflow)) == [frames[1], frames[3], frames[0], frames[2]]


def test_a_broker_that_knows_no_pieces_gets_whole_frames() -> None:
    outflow = Outflow(in_pieces=False)
    add(outflow, Lane.LOG, frame(2 << 20))
    assert drain(outflow) == frame(2 << 20)


@pytest.mark.parametrize("seed", range(20))
def test_whatever_is_sent_arrives_however_it_is_cut(seed: int) -> None:
    """Random frames in random lanes, sent and read in random portions."""
    rng = random.Random(seed)
    noise = rng.randbytes(4_000_000)
    outflow, into = Outflow(in_pieces=True), inflow()
    sent: dict[Lane, list[bytes]] = {lane: [] for lane in Lane}
    received: list[bytes] = []
    wire = bytearray()

    def read(most: int) -> None:
        space = into.buffer()
        count = min(len(space), len(wire), most)
        space[:count] = wire[:count]
        del space, wire[:count]
        received.extend(map(bytes, into.received(count)))

    for _ in range(60):
        if rng.random() < 0.5:
            lane = rng.choice(list(Lane))
            size = rng.choice([4, 40, 5_000, PIECE_BYTES - 4, PIECE_BYTES, 700_000, 3_000_000])
            start = rng.randrange(len(noise) - size)
            data = size.to_bytes(4, "big") + noise[start : start + size]
            buffers: Buffers = [data[:10], memoryview(data)[10:]]
            assert outflow.add(lane, buffers, len(data))
            sent[lane].append(data)
        for _ in range(rng.randrange(6)):
            wire += b"".join(outflow.take())
        while wire and rng.random() < 0.9:
            read(rng.choice([1, 3, 7, 1000, 100_000, 1 << 20]))
    wire += drain(outflow)
    while wire:
        read(1 << 20)
    assert sorted(received) == sorted(data for frames in sent.values() for data in frames)
    for frames in sent.values():
        own = set(frames)
        assert [data for data in received if data in own] == frames


def test_a_full_lane_takes_no_more_and_the_others_do() -> None:
    outflow = Outflow(in_pieces=True)
    data = frame(1 << 20)
    while add(outflow, Lane.LOG, data):
        assert outflow.bytes_waiting <= LANE_BYTES_MAX + len(data)
    assert add(outflow, Lane.URGENT, frame(10))


def test_a_lane_of_small_frames_is_full_by_their_number() -> None:
    """Each costs more in objects than in bytes."""
    outflow = Outflow(in_pieces=True)
    for _ in range(LANE_FRAMES_MAX):
        assert add(outflow, Lane.URGENT, frame(4))
    assert not add(outflow, Lane.URGENT, frame(4))
    assert outflow.bytes_waiting < LANE_BYTES_MAX
    outflow.take()
    assert add(outflow, Lane.URGENT, frame(4))


@pytest.mark.parametrize(
    "data",
    [
        (1 << 31 | 3 << 28 | 10).to_bytes(4, "big") + frame(20),
        (1 << 31 | 2 << 28 | 0).to_bytes(4, "big") + frame(20),
        (1 << 31 | 2 << 28 | 100).to_bytes(4, "big") + frame(20) + bytes(100),
        (1 << 31 | 2 << 28 | 100).to_bytes(4, "big") + b"\xff" * 100,
    ],
    ids=["a lane that does not exist", "nothing", "more than the frame", "a frame too large"],
)
def test_a_piece_that_cannot_be_is_refused(data: bytes) -> None:
    with pytest.raises(InvalidInput):
        receive(data)


def append(group: object, size: int) -> Append:
    entry = Entry(1, 1, EntryKind.BATCH, bytes(size), 0, 1)  # type: ignore[arg-type]
    return Append(group, 1, 0, 0, 0, [entry])  # type: ignore[arg-type]


def test_a_turns_messages_are_one_frame_when_they_are_small_and_bounded_ones_when_not() -> None:
    beat: Message = Heartbeat(KEY, 1, 0, 1)  # type: ignore[arg-type]
    assert len(frames_of([append(KEY, 1000), beat, append(METADATA_GROUP, 10)])) == 1
    messages = [append(KEY, 900_000) for _ in range(100)] + [beat, append(METADATA_GROUP, 10)]
    frames = frames_of(messages)
    assert [lane for lane, _ in frames[:2]] == [Lane.URGENT, Lane.METADATA]
    assert max(sum(map(len, buffers)) for _, buffers in frames) < 2 << 20
    assert len(split(messages)) == 102
