"""SaslAuthenticate (36), v0 to v2: refused, since a listener in plain text asks for no credentials.

Behaviour: ILLEGAL_SASL_STATE, as Kafka answers where no handshake came before.
Missing on purpose: SASL, which is not built yet.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from raftlog.broker.call import Call
from raftlog.broker.registry import Answer
from raftlog.protocol.errors import ErrorCode

if TYPE_CHECKING:
    from raftlog.protocol.requests import SaslAuthenticateRequest

MESSAGE: Final = "SaslAuthenticate on a listener in plain text, which asks for no credentials"


def handle(call: Call, request: SaslAuthenticateRequest) -> Answer:
    return {"error_code": ErrorCode.ILLEGAL_SASL_STATE, "error_message": MESSAGE, "auth_bytes": b""}
