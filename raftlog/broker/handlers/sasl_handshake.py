"""SaslHandshake (17), v0 to v1: refused, since a listener in plain text asks for no credentials.

Behaviour: ILLEGAL_SASL_STATE, as Kafka answers there: a client that is set up for SASL is told at once.
Missing on purpose: SASL, which is not built yet.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from raftlog.broker.call import Call
from raftlog.broker.registry import Answer
from raftlog.protocol.errors import ErrorCode

if TYPE_CHECKING:
    from raftlog.protocol.requests import SaslHandshakeRequest


def handle(call: Call, request: SaslHandshakeRequest) -> Answer:
    call.refuse(request.mechanism, "the listener is in plain text and asks for no credentials")
    return {"error_code": ErrorCode.ILLEGAL_SASL_STATE, "mechanisms": []}
