"""Whether this broker may decide about who asks at all, and what the audit log is told of those who do.

A broker that does not hear the metadata leader may have an old password, and old rules: it waits, and lets
its clients go in the end.
"""

from __future__ import annotations

from typing import Final

import trio

from raftlog.broker.call import Call
from raftlog.rights import words

PATIENCE_S: Final = 5.0
"""How long a request waits for this broker to hear the metadata leader again; then its client should look for
another broker."""


async def may_decide(call: Call) -> bool:
    """Whether this broker knows who may log in and do what; it waits for that a while. If not, the connection
    is closed."""
    enforcement = call.backend.enforcement
    if not enforcement.is_current:
        with trio.move_on_after(PATIENCE_S):
            await enforcement.wait_until_current()
    if not enforcement.is_current:
        call.disconnect("this broker does not hear the metadata leader, and decides nothing")
        return False
    return True


def audit_login(call: Call, *, user: str | None, mechanism: str, why: str | None = None) -> None:
    """Somebody has logged in or, with `why`, was refused. Refusals of one address are folded, whatever name
    they give."""
    origin, audit = call.origin, call.backend.notes.audit
    said = {
        "principal": None if user is None else f"User:{user}",
        "mechanism": mechanism,
        "listener": origin.listener,
        "host": origin.host,
        "client_id": call.client_id,
    }
    if why is None:
        audit.event("login", **said)
    else:
        audit.folded("login refused", (origin.host, origin.listener), call.now, why=why, **said)


def audit_asking(call: Call, *, is_required: bool) -> bool:
    """An administrator asks for a change. What a super user does is told, and with `is_required` any change,
    before it is made: False when that could not be written."""
    origin, audit, authorizer = call.origin, call.backend.notes.audit, call.backend.authorizer
    said = {
        "principal": origin.principal,
        "listener": origin.listener,
        "host": origin.host,
        "client_id": call.client_id,
        "api": words(call.api),
    }
    if authorizer is not None and authorizer.is_super_user(origin.principal):
        audit.folded("super user", (origin.principal, origin.host, int(call.api)), call.now, **said)
    return not is_required or audit.event("change asked for", **said)
