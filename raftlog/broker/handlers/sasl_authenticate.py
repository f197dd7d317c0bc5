"""SaslAuthenticate (36), v0 to v2: log in, by the mechanism that was chosen.

Behaviour: a login that is refused is answered in the first place where it can be, with a text, after a while,
and the connection ends. For OAUTHBEARER too: RFC 7628's own answer makes aiokafka wait for ever. A session
that ends is said with its length, and SaslHandshake begins the next one (KIP-368). A broker that may not
decide, since it does not hear the metadata leader, lets nobody in: its catalog may have an old password.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from raftlog.broker.call import Call
from raftlog.broker.gate import LoginRefused
from raftlog.broker.judging import audit_login, may_decide
from raftlog.broker.registry import Answer
from raftlog.protocol.errors import ErrorCode

if TYPE_CHECKING:
    from raftlog.protocol.requests import SaslAuthenticateRequest

LASTS_MAX_S: Final = (2**31 - 1) / 1000
"""Of a session, as some clients read it."""


NOT_CHOSEN: Final = "none"
"""In the audit log, for the mechanism of who has not named one."""


async def handle(call: Call, request: SaslAuthenticateRequest) -> Answer | None:
    if not await may_decide(call):
        return None
    gate = call.origin.gate
    try:
        if gate is None:
            raise LoginRefused(
                ErrorCode.ILLEGAL_SASL_STATE, f"listener {call.origin.listener} asks for no login"
            )
        answer, session = await gate.authenticate(request.auth_bytes)
    except LoginRefused as refused:
        mechanism = gate.mechanism if gate is not None else ""
        audit_login(call, user=refused.user, mechanism=mechanism or NOT_CHOSEN, why=refused.why)
        call.refuse("a login", refused.why)
        return {"error_code": refused.code, "error_message": str(refused), "auth_bytes": b""}
    if session is not None and not call.backend.enforcement.is_current:
        call.disconnect("while it logged in this broker stopped hearing the metadata leader")
        return None
    if session is not None:
        audit_login(call, user=session.principal.removeprefix("User:"), mechanism=gate.mechanism)
    lasts_s = float("inf") if session is None else session.lasts_s
    return {
        "error_code": ErrorCode.NONE,
        "error_message": None,
        "auth_bytes": answer,
        "session_lifetime": int(min(lasts_s, LASTS_MAX_S) * 1000) if lasts_s < float("inf") else 0,
    }
