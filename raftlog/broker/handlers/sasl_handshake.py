"""SaslHandshake (17), v0 to v1: choose a mechanism to log in by.

Behaviour: on a listener without SASL, ILLEGAL_SASL_STATE as from Kafka: a client that is set up for it is
told at once. Java and librdkafka print the list of mechanisms beside the code, so the reason is in it. A
mechanism that is not offered is answered with those that are, after a while, as a wrong password is: refused
at once, librdkafka comes back twenty times a second.
Missing on purpose: v0, after which tokens come that are no requests; it is refused in Kafka's words.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from raftlog.broker.call import Call
from raftlog.broker.judging import audit_login
from raftlog.broker.registry import Answer
from raftlog.protocol.errors import ErrorCode

if TYPE_CHECKING:
    from raftlog.protocol.requests import SaslHandshakeRequest

NO_LOGIN: Final = "none, for it asks for no login. Set security.protocol to PLAINTEXT or SSL"
"""librdkafka prints the first 32 letters."""


async def handle(call: Call, request: SaslHandshakeRequest) -> Answer:
    if call.origin.gate is None:
        call.refuse(request.mechanism, f"listener {call.origin.listener} asks for no login")
        return {"error_code": ErrorCode.ILLEGAL_SASL_STATE, "mechanisms": [NO_LOGIN]}
    code = call.origin.gate.choose(request.mechanism, call.version)
    if code is not ErrorCode.NONE:
        audit_login(call, user=None, mechanism=request.mechanism, why=code.name)
        call.refuse(request.mechanism, f"{code.name}; there are {', '.join(call.origin.gate.offered)}")
        await call.origin.gate.hold()
    return {"error_code": code, "mechanisms": call.origin.gate.offered}
