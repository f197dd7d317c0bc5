"""A change of who may do what, or how much: proposed, applied, and in force everywhere before the answer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from raftlog.broker.call import Call
from raftlog.cluster.metadata_group import ProposalFailed
from raftlog.metadata.noun import Command, Refused
from raftlog.protocol.errors import ErrorCode
from raftlog.rights import words


class Changed(NamedTuple):
    """What a change came to."""

    code: ErrorCode
    text: str | None


async def change_everywhere(call: Call, commands: Sequence[Command], level: int) -> Changed:
    """Have them applied one after the other. A failure ends it: what was applied before stays. `level` is
    the metadata level that they take."""
    backend = call.backend
    if backend.catalog.metadata_level < level:
        text = "a broker of the cluster has an older raftlog, which does not know this: upgrade it first"
        return Changed(ErrorCode.UNSUPPORTED_VERSION, text)
    for command in commands:
        result = await backend.proposer.propose(command)
        if isinstance(result, ProposalFailed):
            code = ErrorCode.REQUEST_TIMED_OUT if result.may_still_happen else ErrorCode.NOT_CONTROLLER
            return Changed(code, str(result))
        if isinstance(result, Refused):
            return Changed(ErrorCode.INVALID_REQUEST, result.detail)
    await backend.enforcement.everywhere()
    return Changed(ErrorCode.NONE, None)


def audit_change(call: Call, event: str, **fields: str | int) -> None:
    """An administrator has changed something: in the audit log, whoever that is."""
    origin = call.origin
    call.backend.notes.audit.event(
        event,
        principal=origin.principal,
        listener=origin.listener,
        host=origin.host,
        client_id=call.client_id,
        api=words(call.api),
        index=call.backend.catalog.applied_index,
        **fields,
    )
