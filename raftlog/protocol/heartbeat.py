"""The answer to a Heartbeat by hand, the one that every member of every group asks for all the time."""

from __future__ import annotations

import struct

_V0 = struct.Struct(">iih")
_V1 = struct.Struct(">iiih")
_V4 = struct.Struct(">iiBihB")


def encode_heartbeat_response(version: int, correlation_id: int, error: int) -> bytes:
    """The whole frame, its length included. Versions 0 to 4."""
    if version >= 4:
        return _V4.pack(12, correlation_id, 0, 0, error, 0)
    if version >= 1:
        return _V1.pack(10, correlation_id, 0, error)
    return _V0.pack(6, correlation_id, error)
