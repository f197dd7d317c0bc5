"""ApiVersions (18), v0 to v4: what this broker speaks.

Behaviour: lists exactly what the registry serves. To a version that is not served the answer is v0 with
error 35 and the range of this API (KIP-511): see `registry.unsupported_version_answer`.
Features (KIP-584): consoles read Kafka's version from `metadata.version`; no client decides anything by it.
What is finalized of raftlog's own is `raftlog.metadata.level`.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from raftlog.broker.call import Call
from raftlog.broker.registry import Answer, served
from raftlog.metadata.catalog import METADATA_LEVEL
from raftlog.metadata.commands import LEVEL_KNOWN
from raftlog.protocol.api import ApiKey
from raftlog.protocol.codec import frame_response
from raftlog.protocol.encode import Fields, encode
from raftlog.protocol.errors import ErrorCode

if TYPE_CHECKING:
    from raftlog.protocol.requests import ApiVersionsRequest

KAFKAS_FEATURE: Final = "metadata.version"
KAFKA_4_0: Final = 25
"""The level of Kafka 4.0's last metadata.version, 4.0-IV3."""

_SOFTWARE: Final = re.compile(r"[a-zA-Z0-9](?:[a-zA-Z0-9\-.]*[a-zA-Z0-9])?")


def handle(call: Call, request: ApiVersionsRequest) -> Answer | None:
    if call.version >= 3 and not (
        _SOFTWARE.fullmatch(request.client_software_name)
        and _SOFTWARE.fullmatch(request.client_software_version)
    ):
        return {"error_code": ErrorCode.INVALID_REQUEST, "api_keys": []}
    call.reply_chunks(
        frame_response(
            call.api,
            call.version,
            call.header.correlation_id,
            [_body(call.version, call.backend.catalog.metadata_level)],
        )
    )
    return None


_bodies: dict[tuple[int, int], bytes] = {}
"""The answers' bodies by version and metadata level: they are the same for everyone."""


def _body(version: int, level: int) -> bytes:
    key = version, level
    if key not in _bodies:
        _bodies[key] = _encode_body(version, level)
    return _bodies[key]


def _encode_body(version: int, level: int) -> bytes:
    keys = [{"api_key": api.key, "min_version": api.first, "max_version": api.last} for api in served()]
    fields: dict[str, object] = {"error_code": 0, "api_keys": keys}
    if version >= 3:
        fields |= _features(level)
    return b"".join(encode(ApiKey.API_VERSIONS, version, "response", fields))


def _features(level: int) -> Fields:
    """The epoch of what is finalized must grow with every change, and the level does."""
    ranges = {KAFKAS_FEATURE: (KAFKA_4_0, KAFKA_4_0), METADATA_LEVEL: (1, LEVEL_KNOWN)}
    finalized = {KAFKAS_FEATURE: KAFKA_4_0, METADATA_LEVEL: level}
    return {
        "supported_features": [
            {"name": name, "min_version": low, "max_version": high} for name, (low, high) in ranges.items()
        ],
        "finalized_features_epoch": level,
        "finalized_features": [
            {"name": name, "max_version_level": at, "min_version_level": at} for name, at in finalized.items()
        ],
    }
