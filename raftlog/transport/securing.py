"""Makes a connection with a peer one that nobody else reads or writes, before the two greet each other.

Without a secret it is in plain text, as it comes. With one it is TLS, by certificates that are made of the
secret (`secret`). While a cluster is on its way from the first to the second, a broker that has the secret
takes both, and dials in TLS first (`raftlog.peer.secret.required=false`).
"""

from __future__ import annotations

import ssl
from typing import Final, NamedTuple

from raftlog.errors import InvalidInput
from raftlog.net.stream import PlainStream, Stream
from raftlog.net.tls import begins_with_tls, first_bytes, secure, tls_in_words
from raftlog.transport.secret import PeerCredentials, broker_of, host_name
from raftlog.types import BrokerId

ENDED_EARLY: Final = (
    "it ended the connection before it said hello: have both brokers the cluster's secret"
    " (raftlog.peer.secret.file)?"
)


class Secured(NamedTuple):
    """A connection that may be greeted over."""

    stream: Stream
    proven: BrokerId | None
    """Who the other side has proved to be; None in plain text, where anybody may be anyone."""


class Securing:
    """How one broker does it."""

    def __init__(self, credentials: PeerCredentials | None = None, *, is_required: bool = True) -> None:
        """Without credentials all is plain. `is_required`: nothing is plain with them."""
        self._credentials = credentials
        self._takes_plain = credentials is None or not is_required
        self.ways = [secured for secured in (True, False) if self._has(secured)]
        """How to dial, as `dialled` takes it, the better way first."""

    def _has(self, secured: bool) -> bool:
        return self._credentials is not None if secured else self._takes_plain

    async def accepted(self, stream: PlainStream) -> Secured:
        """For who was dialled. Raises InvalidInput or OSError."""
        credentials = self._credentials
        head = b"" if credentials is None else await first_bytes(stream)
        if credentials is None or not head or (self._takes_plain and not begins_with_tls(head)):
            return Secured(stream, None)  # what is no hello, the greeting finds out
        if not begins_with_tls(head):
            if head[0] == 0:
                raise InvalidInput(
                    "it has no secret of the cluster: it speaks plain text (raftlog.peer.secret.file)"
                )
            raise InvalidInput(f"it begins with {head!r}, which no broker sends")
        try:
            secured = await secure(stream, credentials.accepting)
        except ssl.SSLError as error:
            raise InvalidInput(why_not_secured(error)) from None
        proven = broker_of(secured.peer_certificate())
        if proven is None:
            secured.close()
            raise InvalidInput("its certificate names no broker")
        return Secured(secured, proven)

    async def dialled(self, stream: PlainStream, peer: BrokerId, *, secured: bool) -> Secured:
        """For who dials a peer. Raises InvalidInput or OSError."""
        if not secured or self._credentials is None:
            return Secured(stream, None)
        try:
            return Secured(await secure(stream, self._credentials.dialling, host_name(peer)), peer)
        except ssl.SSLError as error:
            raise InvalidInput(why_not_secured(error)) from None


def why_not_secured(error: ssl.SSLError) -> str:
    """In words, with what is to be done."""
    if isinstance(error, ssl.SSLCertVerificationError):
        if "mismatch" in error.verify_message:
            return f"another broker answers than the one that should be there: {error.verify_message}"
        return f"the other side has another secret of the cluster: {error.verify_message}"
    if error.reason is not None and error.reason.endswith("_ALERT_UNKNOWN_CA"):
        return "the other side has another secret of the cluster, and says so"
    if error.reason == "PEER_DID_NOT_RETURN_A_CERTIFICATE":
        return "it shows no certificate, and so has no secret of the cluster"
    if isinstance(error, ssl.SSLEOFError):
        return ENDED_EARLY
    return tls_in_words(error) or str(error)
