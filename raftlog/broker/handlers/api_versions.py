"""ApiVersions (18), v0 to v4: what this broker speaks.

Behaviour: lists exactly what the registry serves. To a version that is not served the answer is v0 with
error 35 and the range of this API (KIP-511): see `registry.unsupported_version_answer`.
Features (KIP-584): consoles read Kafka's version from `metadata.version`; no client decides anything by it.
What is finalized of raftlog's own is `raftlog.metadata.level`. Producers go by `transaction.version`: what
belongs to its level 2 is told together with it, since some look at the versions of APIs alone (KIP-890).
`raftlog.expected_offset` is only supported, and says that Produce may name the offset that it expects.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from raftlog.broker.call import Call
from raftlog.broker.registry import Answer, served
from raftlog.metadata.catalog import METADATA_LEVEL, Catalog
from raftlog.metadata.commands import LEVEL_KNOWN
from raftlog.metadata.features import (
    TRANSACTION_VERSION,
    TRANSACTION_VERSIONS,
    features_epoch,
    transaction_version,
)
from raftlog.protocol import expected_offset
from raftlog.protocol.api import ApiKey
from raftlog.protocol.codec import frame_response
from raftlog.protocol.encode import Fields, encode
from raftlog.protocol.errors import ErrorCode

if TYPE_CHECKING:
    from raftlog.protocol.requests import ApiVersionsRequest

KAFKAS_FEATURE: Final = "metadata.version"
KAFKA_4_0: Final = 25
"""The level of Kafka 4.0's last metadata.version, 4.0-IV3."""

BEFORE_EPOCHS: Final = {ApiKey.PRODUCE: 11, ApiKey.TXN_OFFSET_COMMIT: 4, ApiKey.END_TXN: 4}
"""The last versions of the first protocol of transactions. Those behind are served, but not told, while that
is finalized: who was told before goes on with them until its connection ends."""

_SOFTWARE: Final = re.compile(r"[a-zA-Z0-9](?:[a-zA-Z0-9\-.]*[a-zA-Z0-9])?")


def handle(call: Call, request: ApiVersionsRequest) -> Answer | None:
    if call.version >= 3 and not (
        _SOFTWARE.fullmatch(request.client_software_name)
        and _SOFTWARE.fullmatch(request.client_software_version)
    ):
        return {"error_code": ErrorCode.INVALID_REQUEST, "api_keys": []}
    if call.version >= 3:
        call.origin.software.name = request.client_software_name
    call.reply_chunks(
        frame_response(
            call.api,
            call.version,
            call.header.correlation_id,
            [_body(call.version, call.backend.catalog)],
        )
    )
    return None


_bodies: dict[int, tuple[int, bytes]] = {}
"""The answers' bodies by version, each with the epoch of its features: they are the same for everyone."""


def _body(version: int, catalog: Catalog) -> bytes:
    epoch = features_epoch(catalog)
    known = _bodies.get(version)
    if known is None or known[0] != epoch:
        known = _bodies[version] = epoch, _encode_body(version, catalog)
    return known[1]


def _encode_body(version: int, catalog: Catalog) -> bytes:
    limits = BEFORE_EPOCHS if transaction_version(catalog) < TRANSACTION_VERSIONS[1] else {}
    fields: dict[str, object] = {
        "error_code": 0,
        "api_keys": [
            {"api_key": api.key, "min_version": api.first, "max_version": limits.get(api.key, api.last)}
            for api in served()
        ],
    }
    if version >= 3:
        fields |= _features(catalog)
    return b"".join(encode(ApiKey.API_VERSIONS, version, "response", fields))


def _features(catalog: Catalog) -> Fields:
    ranges = {
        KAFKAS_FEATURE: (KAFKA_4_0, KAFKA_4_0),
        METADATA_LEVEL: (1, LEVEL_KNOWN),
        TRANSACTION_VERSION: TRANSACTION_VERSIONS,
        expected_offset.FEATURE: (1, 1),
    }
    return {
        "supported_features": [
            {"name": name, "min_version": low, "max_version": high} for name, (low, high) in ranges.items()
        ],
        "finalized_features_epoch": features_epoch(catalog),
        "finalized_features": [
            {"name": name, "max_version_level": at, "min_version_level": at}
            for name, at in finalized(catalog).items()
        ],
    }


def finalized(catalog: Catalog) -> dict[str, int]:
    """Every feature that clients are told of, with its level."""
    return {
        KAFKAS_FEATURE: KAFKA_4_0,
        METADATA_LEVEL: catalog.metadata_level,
        TRANSACTION_VERSION: transaction_version(catalog),
    }
