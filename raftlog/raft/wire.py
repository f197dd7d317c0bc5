"""Raft messages as frames: a length, a small CBOR header, and the raw payloads behind it.

    frame     u32 bytes that follow | u32 bytes of header | header | payloads, one behind the other
    header    CBOR [heartbeats, heartbeat replies, messages]; heartbeats packed, of all groups together
    message   [type, group, numbers…]; an append's entries as [term, kind, size, records] each
    note      CBOR bytes instead of the list: what the cluster layer says, opaque here
    hello     CBOR map: the first frame each way of a connection

Payload bytes are never inside CBOR and never copied to be framed; a decoded entry is a view of the frame.
Everything that comes in is checked: whatever cannot be is InvalidInput, which costs the sender its
connection. It knows neither sockets nor groups.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Any, Final, NamedTuple, TypeAlias

import cbor2

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
    Snapshot,
    TimeoutNow,
    Vote,
    VoteReply,
    Welcome,
)
from raftlog.storage.entry import Entry, EntryKind
from raftlog.types import GROUP_KEY_SIZE, GroupKey, Offset, RaftIndex, Term

FORMAT_VERSION: Final = 1
FRAME_BYTES_MAX: Final = 256 << 20
"""A frame holds one turn's messages to one peer: a window of appends, or a snapshot."""
HEADER_BYTES_MAX: Final = 16 << 20
PREFIX_SIZE: Final = 8

Buffers: TypeAlias = list[bytes | bytearray | memoryview]

_PREFIX = struct.Struct(">II")
_HEARTBEAT = struct.Struct(f">{GROUP_KEY_SIZE}sqqq")
_INT_MAX: Final = 2**63 - 1
_KINDS: Final = {int(kind): kind for kind in EntryKind}

_PLAIN: Final[tuple[type[Any], ...]] = (
    AppendReply,
    AppendReject,
    PreVote,
    PreVoteReply,
    Vote,
    VoteReply,
    TimeoutNow,
    Rejoin,
    Welcome,
)
"""Messages of nothing but numbers; their place here, and their fields' order, are the format."""
_NUMBER_OF: Final = {kind: number for number, kind in enumerate(_PLAIN)}
_APPEND: Final = len(_PLAIN)
_SNAPSHOT: Final = _APPEND + 1


def encode(messages: Sequence[Message]) -> Buffers:
    """One frame, as buffers to be sent one behind the other."""
    heartbeats: list[bytes] = []
    replies: list[bytes] = []
    others: list[list[Any]] = []
    buffers: Buffers = [b""]
    size = 0
    for message in messages:
        match message:
            case Append(group, term, prev_index, prev_term, commit_index, entries):
                described: list[int] = []
                for entry in entries:
                    length = len(entry.payload)
                    described += (entry.term, entry.kind, length, entry.next_offset - entry.base_offset)
                    if length:
                        buffers.append(entry.payload)
                        size += length
                offset = entries[0].base_offset if entries else 0
                others.append([_APPEND, group, term, prev_index, prev_term, commit_index, offset, described])
            case Heartbeat():
                heartbeats.append(_HEARTBEAT.pack(*message))
            case HeartbeatReply():
                replies.append(_HEARTBEAT.pack(*message))
            case Snapshot():
                others.append([_SNAPSHOT, *message[:6], len(message.state)])
                buffers.append(message.state)
                size += len(message.state)
            case _:
                others.append([_NUMBER_OF[type(message)], *message])
    header = cbor2.dumps([b"".join(heartbeats), b"".join(replies), others])
    buffers[0] = _frame_header(header, size)
    return buffers


def encode_note(body: bytes) -> Buffers:
    """A frame for the layer above."""
    return [_frame_header(cbor2.dumps(body))]


def encode_hello(fields: dict[str, int | str | None]) -> bytes:
    """The first frame of a connection."""
    return _frame_header(cbor2.dumps(fields))


def decode_hello(frame: memoryview) -> dict[str, Any]:
    """Raises InvalidInput for anything but a hello."""
    header, payloads = _split(frame)
    value = _loads(header)
    if not isinstance(value, dict) or payloads or not all(type(key) is str for key in value):
        raise InvalidInput("the first frame is no hello")
    return value


def _frame_header(header: bytes, payload_size: int = 0) -> bytes:
    return _PREFIX.pack(4 + len(header) + payload_size, len(header)) + header


def _split(frame: memoryview) -> tuple[memoryview, memoryview]:
    """Header and payloads of a whole frame."""
    if len(frame) < PREFIX_SIZE:
        raise InvalidInput(f"a frame of {len(frame)} bytes")
    size, header_size = _PREFIX.unpack_from(frame)
    start = PREFIX_SIZE + header_size
    if size + 4 != len(frame) or start > len(frame) or header_size > HEADER_BYTES_MAX:
        raise InvalidInput(f"a frame of {len(frame)} bytes says {size}, with a header of {header_size}")
    return frame[PREFIX_SIZE:start], frame[start:]


def _loads(header: memoryview) -> Any:
    try:
        return cbor2.loads(header.tobytes())
    except Exception as error:  # cbor2 raises more kinds than it documents
        raise InvalidInput(f"a frame's header does not decode: {error!r}") from error


def frame_size(prefix: bytes | bytearray | memoryview) -> int:
    """Bytes of the whole frame that begins with `prefix` (4 bytes at least); raises InvalidInput."""
    size = int.from_bytes(prefix[:4], "big")
    if not 4 <= size <= FRAME_BYTES_MAX:
        raise InvalidInput(f"a frame of {size} bytes; {FRAME_BYTES_MAX} is the most")
    return size + 4


class Note(NamedTuple):
    """What the layer above sent with `encode_note`."""

    body: bytes


def decode(frame: memoryview) -> list[Message] | Note:
    """The messages of one whole frame; payloads are views of it. Raises InvalidInput."""
    header, payloads = _split(frame)
    value = _loads(header)
    if type(value) is bytes and not payloads:
        return Note(value)
    try:
        heartbeats, replies, others = value
        messages: list[Message] = [Heartbeat._make(item) for item in _HEARTBEAT.iter_unpack(heartbeats)]
        messages += [HeartbeatReply._make(item) for item in _HEARTBEAT.iter_unpack(replies)]
    except (TypeError, ValueError, struct.error) as error:
        raise InvalidInput(f"a frame's header is not three lists: {error!r}") from error
    if not isinstance(others, list):
        raise InvalidInput(f"a frame's messages are a {type(others).__name__}")
    for fields in others:
        if not isinstance(fields, list) or len(fields) < 3:
            raise InvalidInput("a message is no list")
        message, payloads = _decode_message(fields, payloads)
        messages.append(message)
    if payloads:
        raise InvalidInput(f"{len(payloads)} bytes behind a frame's last payload")
    return messages


def _decode_message(fields: list[Any], payloads: memoryview) -> tuple[Message, memoryview]:
    number, group = fields[0], fields[1]
    if type(number) is not int or not 0 <= number <= _SNAPSHOT:
        raise InvalidInput(f"a message of type {number!r}")
    if type(group) is not bytes or len(group) != GROUP_KEY_SIZE:
        raise InvalidInput("a message without a group")
    if number == _APPEND:
        return _decode_append(fields, payloads)
    if number == _SNAPSHOT:
        return _decode_snapshot(fields, payloads)
    kind = _PLAIN[number]
    if len(fields) != len(kind._fields) + 1:
        raise InvalidInput(f"a {kind.__name__} of {len(fields)} fields")
    for name, value in zip(kind._fields[1:], fields[2:], strict=True):
        if name in ("granted", "fresh", "transfer"):
            if type(value) is not bool:
                raise InvalidInput(f"{kind.__name__}.{name} is {value!r}")
        else:
            _check_number(kind.__name__, name, value)
    message: Message = kind._make(fields[1:])
    return message, payloads


def _check_number(kind: str, name: str, value: Any) -> None:
    if type(value) is not int or not 0 <= value <= _INT_MAX:
        raise InvalidInput(f"{kind}.{name} is {value!r}")


def _decode_append(fields: list[Any], payloads: memoryview) -> tuple[Append, memoryview]:
    if len(fields) != 8 or type(fields[7]) is not list or len(fields[7]) % 4:
        raise InvalidInput("an append whose entries are not described in fours")
    described: list[Any] = fields[7]
    for value in fields[2:7]:
        _check_number("Append", "field", value)
    for value in described:
        if type(value) is not int or not 0 <= value <= _INT_MAX:
            raise InvalidInput(f"an entry with {value!r}")
    _, group, term, prev_index, prev_term, commit_index, offset, _ = fields
    entries: list[Entry] = []
    index = prev_index
    position, end = 0, len(payloads)
    numbers = iter(described)
    for entry_term, kind_number, size, records in zip(numbers, numbers, numbers, numbers, strict=True):
        index += 1
        kind = _KINDS.get(kind_number)
        if kind is None or size > end - position:
            raise InvalidInput(f"entry {index} of kind {kind_number} with {size} of {end - position} bytes")
        next_offset = offset + records
        payload = payloads[position : position + size]
        entries.append(
            Entry(RaftIndex(index), Term(entry_term), kind, payload, Offset(offset), Offset(next_offset))
        )
        position += size
        offset = next_offset
    append = Append(
        GroupKey(group), Term(term), RaftIndex(prev_index), Term(prev_term), RaftIndex(commit_index), entries
    )
    return append, payloads[position:]


def _decode_snapshot(fields: list[Any], payloads: memoryview) -> tuple[Snapshot, memoryview]:
    if len(fields) != 8 or type(fields[6]) is not bytes:
        raise InvalidInput("a snapshot without its fields")
    _, group, term, index, index_term, offset, membership, size = fields
    for value in (term, index, index_term, offset, size):
        _check_number("Snapshot", "field", value)
    if size > len(payloads):
        raise InvalidInput(f"a snapshot of {size} bytes, {len(payloads)} are left")
    state = bytes(payloads[:size])
    snapshot = Snapshot(group, term, index, index_term, offset, membership, state)
    return snapshot, payloads[size:]
