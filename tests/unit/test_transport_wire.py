"""Frames: one table both ways, whole and cut, and what must be refused."""

from __future__ import annotations

import random
import struct

import cbor2
import pytest

from raftlog.errors import InvalidInput
from raftlog.raft.messages import (
    Append,
    AppendReject,
    AppendReply,
    Heartbeat,
    HeartbeatReply,
    Message,
    PreVote,
    PreVoteReply,
    Rejoin,
    Repair,
    RepairRequest,
    Snapshot,
    TimeoutNow,
    Vote,
    VoteReply,
    Welcome,
)
from raftlog.storage.entry import Entry, EntryKind
from raftlog.transport.wire import (
    FRAME_BYTES_MAX,
    Note,
    decode,
    decode_hello,
    encode,
    encode_hello,
    encode_note,
    frame_size,
)
from raftlog.types import GroupKey

A = GroupKey(b"group-a-000000000000")
B = GroupKey(b"group-b-000000000000")
BIG = 2**40

ENTRIES = [
    Entry(8, 3, EntryKind.NOOP, b"", 100, 100),  # type: ignore[arg-type]
    Entry(9, 3, EntryKind.BATCH, b"payload", 100, 107),  # type: ignore[arg-type]
    Entry(10, 4, EntryKind.MEMBERSHIP, b"\x81\x01", 107, 107),  # type: ignore[arg-type]
    Entry(11, 4, EntryKind.BATCH, bytes(range(256)) * 100, 107, 108),  # type: ignore[arg-type]
]

MESSAGES: list[Message] = [
    Append(A, 4, 7, 3, 6, ENTRIES),  # type: ignore[arg-type]
    Append(A, 4, 0, 0, 0, []),  # type: ignore[arg-type]
    AppendReply(A, 4, BIG),  # type: ignore[arg-type]
    AppendReject(B, 4, 9, 7, 2),  # type: ignore[arg-type]
    Heartbeat(A, 4, BIG, 17),  # type: ignore[arg-type]
    HeartbeatReply(B, 4, 10, 17),  # type: ignore[arg-type]
    PreVote(A, 5, 10, 4, False),  # type: ignore[arg-type]
    PreVoteReply(A, 4, 5, True, False),  # type: ignore[arg-type]
    Vote(A, 5, 10, 4, True, False),  # type: ignore[arg-type]
    VoteReply(A, 5, True),  # type: ignore[arg-type]
    Snapshot(A, 5, 100, 4, 1000, b"membership", b"state" * 1000),  # type: ignore[arg-type]
    TimeoutNow(A, 5),  # type: ignore[arg-type]
    Rejoin(A, 5, 2**48),  # type: ignore[arg-type]
    Welcome(A, 5, 2**48, 10),  # type: ignore[arg-type]
    RepairRequest(A, 5, 8),  # type: ignore[arg-type]
    Repair(A, 5, 8, ENTRIES),  # type: ignore[arg-type]
]


def plain(message: Message) -> Message:
    """With bytes where a decoded message has views."""
    if isinstance(message, Append):
        entries = [entry._replace(payload=bytes(entry.payload)) for entry in message.entries]
        return message._replace(entries=entries)
    return message


def frame(messages: list[Message]) -> bytes:
    return b"".join(encode(messages))


def messages_of(data: bytes | bytearray) -> list[Message]:
    messages = decode(memoryview(data))
    assert not isinstance(messages, Note)
    return messages


@pytest.mark.parametrize("message", MESSAGES, ids=lambda m: type(m).__name__)
def test_every_message_comes_back(message: Message) -> None:
    data = frame([message])
    assert frame_size(int.from_bytes(data[:4], "big")) == len(data)
    assert [plain(m) for m in messages_of(data)] == [message]


def test_a_frame_holds_many_messages_of_many_groups() -> None:
    decoded = [plain(m) for m in messages_of(frame(MESSAGES))]
    assert sorted(decoded, key=repr) == sorted(MESSAGES, key=repr)
    in_order = (Append, AppendReject, Vote, TimeoutNow)
    assert [m for m in decoded if isinstance(m, in_order)] == [m for m in MESSAGES if isinstance(m, in_order)]


def test_payloads_are_sent_from_where_they_lie_and_read_where_they_lie() -> None:
    buffers = encode([MESSAGES[0]])
    assert any(buffer is ENTRIES[3].payload for buffer in buffers)
    data = bytearray(b"".join(buffers))
    (append,) = messages_of(data)
    assert isinstance(append, Append)
    data[-1] ^= 0xFF
    assert append.entries[3].payload[-1] == ENTRIES[3].payload[-1] ^ 0xFF


def test_heartbeats_of_a_thousand_groups_fit_in_little() -> None:
    beats: list[Message] = [
        Heartbeat(GroupKey(i.to_bytes(20, "big")), 4, 7, 1)  # type: ignore[arg-type]
        for i in range(1000)
    ]
    data = frame(beats)
    assert len(data) < 1000 * 48
    assert decode(memoryview(data)) == beats


def test_every_cut_is_refused() -> None:
    data = frame(MESSAGES[:1] + MESSAGES[10:11])[:4000]
    whole = frame(MESSAGES[:1] + MESSAGES[10:11])
    for length in [*range(200), *range(200, len(data), 97)]:
        with pytest.raises(InvalidInput):
            decode(memoryview(whole[:length]))


def test_flipped_bits_are_refused_or_decode_to_messages() -> None:
    """The frame has no checksum (TCP and the batches' CRCs are theirs); nothing else may be raised."""
    rng = random.Random(1)
    whole = frame(MESSAGES)
    for _ in range(3000):
        data = bytearray(whole)
        for _ in range(rng.randint(1, 4)):
            data[rng.randrange(600)] ^= 1 << rng.randrange(8)
        try:
            assert isinstance(decode(memoryview(data)), list | Note)
        except InvalidInput:
            pass


def with_header(header: object, payloads: bytes = b"") -> memoryview:
    encoded = cbor2.dumps(header)
    return memoryview(struct.pack(">II", 4 + len(encoded) + len(payloads), len(encoded)) + encoded + payloads)


def pack_append(entries: list[tuple[int, int, int, int]], term: int = 1) -> bytes:
    fixed = struct.pack(">20sqqqqq", A, term, 1, 1, 1, 1)
    return fixed + b"".join(struct.pack(">qBIi", *entry) for entry in entries)


@pytest.mark.parametrize(
    "header",
    [
        None,
        [],
        [b"", b"", b""],
        [b"x", b"", b"", []],
        ["", "x", "", []],
        [b"", b"", b"x", []],
        [b"", b"", b"", {}],
        [b"", b"", b"", [None]],
        [b"", b"", b"", [[99, A, 1]]],
        [b"", b"", b"", [[True, A, 1, 1, 1, 1]]],
        [b"", b"", b"", [[0, b"short", 1, 1, 1, 1]]],
        [b"", b"", b"", [[0, A, -1, 1, 1, 1]]],
        [b"", b"", b"", [[0, A, 2**63, 1, 1, 1]]],
        [b"", b"", b"", [[0, A, 1]]],
        [b"", b"", b"", [[0, A, 1, 1, 1, 1, 1]]],
        [b"", b"", b"", [[0, A, 1, "1", 1, 1]]],
        [b"", b"", b"", [[4, A, 1, 1]]],
        [b"", b"", b"", [b""]],
        [b"", b"", b"", [pack_append([(1, 0, 5, 1)])]],
        [b"", b"", b"", [pack_append([(1, 9, 0, 1)])]],
        [b"", b"", b"", [pack_append([(-1, 0, 0, 1)])]],
        [b"", b"", b"", [pack_append([(1, 0, 0, -1)])]],
        [b"", b"", b"", [pack_append([], term=-1)]],
        [b"", b"", b"", [pack_append([]) + b"x"]],
        [b"", b"", b"", [[8, A, 1, 1, 1, 1, b"", 5]]],
        [b"", b"", b"", [[8, A, 1, 1, 1, 1, "", 0]]],
    ],
    ids=repr,
)
def test_bad_headers_are_refused(header: object) -> None:
    with pytest.raises(InvalidInput):
        decode(with_header(header))


def test_bytes_behind_the_last_payload_are_refused() -> None:
    with pytest.raises(InvalidInput):
        decode(with_header([b"", b"", b"", []], b"x"))


def test_deep_nesting_is_refused() -> None:
    data = b"\x81" * 100_000
    with pytest.raises(InvalidInput):
        decode(memoryview(struct.pack(">II", 4 + len(data), len(data)) + data))


@pytest.mark.parametrize("size", [0, 3, FRAME_BYTES_MAX + 1, 2**32 - 1])
def test_lengths_that_cannot_be_are_refused(size: int) -> None:
    with pytest.raises(InvalidInput):
        frame_size(size)


def test_notes_and_hellos_come_back() -> None:
    (data,) = encode_note(b"anything")
    assert decode(memoryview(bytes(data))) == Note(b"anything")
    hello: dict[str, int | str | None] = {"broker": 1, "cluster": None}
    assert decode_hello(memoryview(encode_hello(hello))) == hello
    for wrong in (bytes(data), frame(MESSAGES[:2]), b"GET / HTTP/1.1\r\n\r\n"):
        with pytest.raises(InvalidInput):
            decode_hello(memoryview(wrong))
