"""UpdateFeatures (57), v0 to v2: an administrator finalizes the level of a feature (KIP-584, KIP-778).

Behaviour: `transaction.version` may go from 2 to 1 and back, also while transactions are open: clients keep
the protocol that they began with until they connect anew. All of a request or nothing. The other features
have one level, which may be asked for and changes nothing: `raftlog.metadata.level` rises by itself with the
last broker that is upgraded.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from raftlog.broker.call import Call
from raftlog.broker.handlers.api_versions import finalized
from raftlog.broker.registry import Answer
from raftlog.cluster.metadata_group import ProposalFailed
from raftlog.metadata.catalog import Catalog
from raftlog.metadata.features import (
    TRANSACTION_EPOCHS_LEVEL,
    TRANSACTION_VERSION,
    TRANSACTION_VERSIONS,
    ChooseFeatureLevel,
)
from raftlog.metadata.noun import Refused
from raftlog.protocol.errors import ErrorCode
from raftlog.protocol.requests import allows_downgrade

if TYPE_CHECKING:
    from raftlog.protocol.requests import FeatureUpdateKey, UpdateFeaturesRequest

UPGRADE: Final = 1
DOWNGRADES: Final = (2, 3)
"""Safe, and unsafe: here no level loses anything."""
WITHOUT_RESULTS_FROM: Final = 2

_Problem = tuple[ErrorCode, str]


async def handle(call: Call, request: UpdateFeaturesRequest) -> Answer:
    catalog = call.backend.catalog
    problems: dict[str, _Problem] = {}
    if len({update.feature for update in request.feature_updates}) < len(request.feature_updates):
        twice = ErrorCode.INVALID_REQUEST, "a feature is named twice"
        return _answer(call, request, {update.feature: twice for update in request.feature_updates})
    for update in request.feature_updates:
        problem = _problem(catalog, update, _kind(call, update))
        if problem is not None:
            problems[update.feature] = ErrorCode.INVALID_UPDATE_VERSION, problem
    if not problems and not request.validate_only:
        problems = await _choose(call, request)
    return _answer(call, request, problems)


def _kind(call: Call, update: FeatureUpdateKey) -> int:
    if call.version >= 1:
        return update.upgrade_type
    return DOWNGRADES[0] if allows_downgrade(update) else UPGRADE


def _problem(catalog: Catalog, update: FeatureUpdateKey, kind: int) -> str | None:
    name, level = update.feature, update.max_version_level
    known = finalized(catalog).get(name)
    if known is None:
        return f"feature {name[:100]!r} is not known here"
    if kind not in (UPGRADE, *DOWNGRADES):
        return f"there is no upgrade of type {kind}"
    if level == known:
        return None
    if name != TRANSACTION_VERSION:
        return f"{name} is {known}, and nobody sets it"
    first, last = TRANSACTION_VERSIONS
    if not first <= level <= last:
        return f"{name} has the levels {first} to {last}, not {level}"
    if level < known and kind == UPGRADE:
        return f"{name} is {known}: to go down to {level} takes a downgrade"
    if level > known and kind in DOWNGRADES:
        return f"{name} is {known}: to go up to {level} takes an upgrade"
    if catalog.metadata_level < TRANSACTION_EPOCHS_LEVEL:
        return f"{name} {level} takes brokers that all know it; some are of an older build"
    return None


async def _choose(call: Call, request: UpdateFeaturesRequest) -> dict[str, _Problem]:
    known = finalized(call.backend.catalog)
    for update in request.feature_updates:
        name, level = update.feature, update.max_version_level
        if level == known[name]:
            continue
        result = await call.backend.proposer.propose(ChooseFeatureLevel(name=name, level=level))
        if isinstance(result, ProposalFailed):
            return {name: (ErrorCode.NOT_CONTROLLER, "nobody leads the metadata")}
        if isinstance(result, Refused):
            return {name: (ErrorCode.INVALID_UPDATE_VERSION, result.detail)}
    return {}


def refused(request: UpdateFeaturesRequest, code: ErrorCode, text: str) -> Answer:
    return {
        "error_code": code,
        "error_message": text,
        "results": [
            {"feature": update.feature, "error_code": code, "error_message": text}
            for update in request.feature_updates
        ],
    }


def _answer(call: Call, request: UpdateFeaturesRequest, problems: dict[str, _Problem]) -> Answer:
    none: tuple[ErrorCode, str | None] = ErrorCode.NONE, None
    first = next(iter(problems.values()), none)
    is_whole = call.version >= WITHOUT_RESULTS_FROM or first[0] is ErrorCode.NOT_CONTROLLER
    code, message = first if is_whole else none
    return {
        "error_code": code,
        "error_message": message,
        "results": [
            {
                "feature": update.feature,
                "error_code": problems.get(update.feature, none)[0],
                "error_message": problems.get(update.feature, none)[1],
            }
            for update in request.feature_updates
        ],
    }
