"""Raft messages as frames: a length, a small CBOR header, and the raw payloads behind it.

    frame     u32 bytes that follow | u32 bytes of header | header | payloads, one behind the other
    header    CBOR [heartbeats, heartbeat replies, append replies, messages]
    message   bytes: an append, packed; a list: [type, group, numbers…]
    note      CBOR bytes instead of the list: what the cluster layer says, opaque here
    hello     CBOR map: the first frame each way of a connection

What is said thousands of times a second is packed (all groups' heartbeats behind each other), the rest is
plain CBOR. Payload bytes are never inside CBOR and never copied to be framed; a decoded entry is a view of
the frame. Everything that comes in is checked: whatever cannot be is InvalidInput, which costs the sender
its connection. It knows neither sockets nor groups.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
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
    Repair,
    RepairRequest,
    Snapshot,
    TimeoutNow,
    Vote,
    VoteReply,
    Welcome,
)
from raftlog.storage.entry import Entry, EntryKind
from raftlog.types import GROUP_KEY_SIZE, RaftIndex

FORMAT_VERSION: Final = 1
FRAME_BYTES_MAX: Final = 256 << 20
"""A frame holds one turn's messages to one peer: a window of appends, or a snapshot."""
HEADER_BYTES_MAX: Final = 16 << 20
PREFIX_SIZE: Final = 8

Buffers: TypeAlias = list[bytes | bytearray | memoryview]

_PREFIX = struct.Struct(">II")
_HEARTBEAT = struct.Struct(f">{GROUP_KEY_SIZE}sqqq")
_REPLY = struct.Struct(f">{GROUP_KEY_SIZE}sqq")
_APPEND = struct.Struct(f">{GROUP_KEY_SIZE}sqqqqq")
"""Group, term, previous index and term, commit index, base offset of the first entry; entries follow."""
_ENTRY = struct.Struct(">qBIi")
"""Term, kind, bytes of payload, records."""
_INT_MAX: Final = 2**63 - 1
_KINDS: Final = {int(kind): kind for kind in EntryKind}

_PLAIN: Final[dict[int, type[Any]]] = {
    0: AppendReject,
    1: PreVote,
    2: PreVoteReply,
    3: Vote,
    4: VoteReply,
    5: TimeoutNow,
    6: Rejoin,
    7: Welcome,
    9: RepairRequest,
}
"""Messages of nothing but numbers; their own number, and their fields' order, are the format."""
_NUMBER_OF: Final = {kind: number for number, kind in _PLAIN.items()}
_SNAPSHOT: Final = 8
_REPAIR: Final = 10


def encode(messages: Sequence[Message]) -> Buffers:
    """One frame, as buffers to be sent one behind the other."""
    heartbeats: list[bytes] = []
    heartbeat_replies: list[bytes] = []
    append_replies: list[bytes] = []
    others: list[bytes | list[Any]] = []
    buffers: Buffers = [b""]
    size = 0
    for message in messages:
        kind = type(message)
        if kind is Append:
            packed, entries = _pack_append(message)
            others.append(packed)
            for entry in entries:
                if entry.payload:
                    buffers.append(entry.payload)
                    size += len(entry.payload)
        elif kind is AppendReply:
            append_replies.append(_REPLY.pack(*message))
        elif kind is Heartbeat:
            heartbeats.append(_HEARTBEAT.pack(*message))
        elif kind is HeartbeatReply:
            heartbeat_replies.append(_HEARTBEAT.pack(*message))
        elif isinstance(message, Repair):
            packed, entries = _pack_append((*message[:2], message.entry_index - 1, 0, 0, message.entries))
            others.append([_REPAIR, message.group, packed])
            buffers += [entry.payload for entry in entries if entry.payload]
            size += sum([len(entry.payload) for entry in entries])
        elif isinstance(message, Snapshot):
            others.append([_SNAPSHOT, *message[:6], len(message.state)])
            buffers.append(message.state)
            size += len(message.state)
        else:
            others.append([_NUMBER_OF[kind], *message])
    packs = b"".join(heartbeats), b"".join(heartbeat_replies), b"".join(append_replies)
    buffers[0] = _frame_header(cbor2.dumps([*packs, others]), size)
    return buffers


def _pack_append(append: Any) -> tuple[bytes, Sequence[Entry]]:
    group, term, prev_index, prev_term, commit_index, entries = append
    if not entries:
        return _APPEND.pack(group, term, prev_index, prev_term, commit_index, 0), entries
    parts = [_APPEND.pack(group, term, prev_index, prev_term, commit_index, entries[0].base_offset)]
    pack = _ENTRY.pack
    for _, entry_term, kind, payload, base_offset, next_offset in entries:
        parts.append(pack(entry_term, kind, len(payload), next_offset - base_offset))
    return b"".join(parts), entries


def encode_note(body: bytes) -> Buffers:
    """A frame for the layer above."""
    return [_frame_header(cbor2.dumps(body))]


def encode_hello(fields: Mapping[str, int | str | bytes | None]) -> bytes:
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


def frame_size(length: int) -> int:
    """Bytes of the whole frame that begins with a length; raises InvalidInput."""
    if not 4 <= length <= FRAME_BYTES_MAX:
        raise InvalidInput(f"a frame of {length} bytes; {FRAME_BYTES_MAX} is the most")
    return length + 4


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
        heartbeats, heartbeat_replies, append_replies, others = value
        messages: list[Message] = []
        if heartbeats:
            messages += [Heartbeat._make(item) for item in _HEARTBEAT.iter_unpack(heartbeats)]
        if heartbeat_replies:
            messages += [HeartbeatReply._make(item) for item in _HEARTBEAT.iter_unpack(heartbeat_replies)]
        if append_replies:
            messages += [AppendReply._make(item) for item in _REPLY.iter_unpack(append_replies)]
    except (TypeError, ValueError, struct.error) as error:
        raise InvalidInput(f"a frame's header does not unpack: {error!r}") from error
    if not isinstance(others, list):
        raise InvalidInput(f"a frame's messages are a {type(others).__name__}")
    message: Message
    for other in others:
        if type(other) is bytes:
            message, payloads = _decode_append(other, payloads)
        elif type(other) is list and len(other) >= 3:
            message, payloads = _decode_message(other, payloads)
        else:
            raise InvalidInput("a message is neither an append nor a list")
        messages.append(message)
    if payloads:
        raise InvalidInput(f"{len(payloads)} bytes behind a frame's last payload")
    return messages


def _decode_message(fields: list[Any], payloads: memoryview) -> tuple[Message, memoryview]:
    number, group = fields[0], fields[1]
    if type(number) is not int or not 0 <= number <= _REPAIR:
        raise InvalidInput(f"a message of type {number!r}")
    if type(group) is not bytes or len(group) != GROUP_KEY_SIZE:
        raise InvalidInput("a message without a group")
    if number == _SNAPSHOT:
        return _decode_snapshot(fields, payloads)
    if number == _REPAIR:
        return _decode_repair(fields, payloads)
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


def _decode_append(packed: bytes, payloads: memoryview) -> tuple[Append, memoryview]:
    described = memoryview(packed)[_APPEND.size :]
    if len(packed) < _APPEND.size or len(described) % _ENTRY.size:
        raise InvalidInput(f"an append of {len(packed)} bytes")
    group, term, prev_index, prev_term, commit_index, offset = _APPEND.unpack_from(packed)
    if min(term, prev_index, prev_term, commit_index, offset) < 0:
        raise InvalidInput("an append with a negative number")
    entries: list[Entry] = []
    index = prev_index
    position, end = 0, len(payloads)
    for entry_term, kind_number, size, records in _ENTRY.iter_unpack(described):
        index += 1
        kind = _KINDS.get(kind_number)
        stop = position + size
        if kind is None or stop > end or entry_term < 0 or records < 0:
            raise InvalidInput(f"entry {index} of kind {kind_number} with {size} of {end - position} bytes")
        next_offset = offset + records
        entries.append(Entry(index, entry_term, kind, payloads[position:stop], offset, next_offset))
        position = stop
        offset = next_offset
    append = Append(group, term, prev_index, prev_term, commit_index, entries)
    return append, payloads[position:] if position else payloads


def _decode_repair(fields: list[Any], payloads: memoryview) -> tuple[Repair, memoryview]:
    if len(fields) != 3 or type(fields[2]) is not bytes:
        raise InvalidInput("a repair without its fields")
    append, payloads = _decode_append(fields[2], payloads)
    return Repair(append.group, append.term, RaftIndex(append.prev_index + 1), append.entries), payloads


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
