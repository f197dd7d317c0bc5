"""Which messages share a frame, and in which lane it goes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from raftlog.raft.messages import Append, Message, Repair, Snapshot, payload_size
from raftlog.transport.lanes import PIECE_BYTES, Lane
from raftlog.transport.wire import Buffers, encode
from raftlog.types import METADATA_GROUP

FRAME_PAYLOAD_BYTES: Final = 1 << 20
"""Payloads that share a frame; a longer one has its own."""


def frames_of(messages: Sequence[Message]) -> list[tuple[Lane, Buffers]]:
    """One turn's messages to a peer as frames, each for its lane. All in one when they are few bytes."""
    frame = encode(messages)
    if sum(map(len, frame)) <= PIECE_BYTES:
        return [(Lane.LOG, frame)]
    return split(messages)


def split(messages: Sequence[Message]) -> list[tuple[Lane, Buffers]]:
    """A frame of what is urgent, and frames of what belongs to logs: each group's messages in their order."""
    lanes: dict[Lane, list[list[Message]]] = {lane: [[]] for lane in Lane}
    filled = dict.fromkeys(Lane, 0)
    for message in messages:
        lane, size = lane_of(message), payload_size(message)
        if filled[lane] and filled[lane] + size > FRAME_PAYLOAD_BYTES:
            lanes[lane].append([])
            filled[lane] = 0
        lanes[lane][-1].append(message)
        filled[lane] += size
    return [(lane, encode(frame)) for lane, frames in lanes.items() for frame in frames if frame]


def lane_of(message: Message) -> Lane:
    if not isinstance(message, Append | Repair | Snapshot):
        return Lane.URGENT
    return Lane.METADATA if message.group == METADATA_GROUP else Lane.LOG
