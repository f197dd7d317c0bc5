"""ApiVersions (18), v0 to v4: what this broker speaks.

Behaviour: lists exactly what the registry serves. To a version that is not served the answer is v0 with
error 35 and the range of this API (KIP-511): see `registry.unsupported_version_answer`.
Missing on purpose: features. Finalized ones decide what new clients dare to use, and there are none.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from raftlog.broker.call import Call
from raftlog.broker.registry import Answer, served
from raftlog.protocol.api import ApiKey
from raftlog.protocol.codec import frame_response
from raftlog.protocol.encode import encode
from raftlog.protocol.errors import ErrorCode

if TYPE_CHECKING:
    from raftlog.protocol.requests import ApiVersionsRequest

_SOFTWARE: Final = re.compile(r"[a-zA-Z0-9](?:[a-zA-Z0-9\-.]*[a-zA-Z0-9])?")


def handle(call: Call, request: ApiVersionsRequest) -> Answer | None:
    if call.version >= 3 and not (
        _SOFTWARE.fullmatch(request.client_software_name)
        and _SOFTWARE.fullmatch(request.client_software_version)
    ):
        return {"error_code": ErrorCode.INVALID_REQUEST, "api_keys": []}
    call.reply_chunks(
        frame_response(call.api, call.version, call.header.correlation_id, [_body(call.version)])
    )
    return None


_bodies: dict[int, bytes] = {}
"""The answers' bodies by version: they are the same for everyone."""


def _body(version: int) -> bytes:
    if version not in _bodies:
        _bodies[version] = _encode_body(version)
    return _bodies[version]


def _encode_body(version: int) -> bytes:
    keys = [{"api_key": api.key, "min_version": api.first, "max_version": api.last} for api in served()]
    return b"".join(encode(ApiKey.API_VERSIONS, version, "response", {"error_code": 0, "api_keys": keys}))
