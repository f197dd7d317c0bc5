"""A client's connection by a listener in TLS, before its first request."""

from __future__ import annotations

import ssl
import time

from raftlog.broker.origin import ANONYMOUS
from raftlog.broker.principals import principal_of
from raftlog.broker.strangers import recognize
from raftlog.errors import InvalidInput
from raftlog.net.stream import PlainStream
from raftlog.net.tls import TlsStream, begins_with_tls, first_bytes, secure, tls_in_words


async def secure_client(plain: PlainStream, context: ssl.SSLContext, protocol: str) -> tuple[TlsStream, str]:
    """The connection in TLS, and the principal of the certificate that the client showed, if any. `protocol`
    is what clients have to be set up with.

    Raises InvalidInput that says what the client did instead, and OSError. Then the connection is closed, and
    who spoke plain text is told nothing: a Java client takes an alert of TLS for the size of an answer, and
    runs out of memory.
    """
    try:
        head = await first_bytes(plain)
        if not head:
            raise ConnectionAbortedError("it left without a word")
        if not begins_with_tls(head):
            stranger = recognize(head)
            what = f" ({stranger})" if stranger else f": set the client's security.protocol to {protocol}"
            raise InvalidInput(f"it speaks plain text to a listener in TLS{what}")
        stream = await secure(plain, context)
    except ssl.SSLError as error:
        raise InvalidInput(tls_in_words(error) or str(error)) from None
    finally:
        plain.close()  # its socket is the other stream's, if there is one
    try:
        certificate = stream.peer_certificate()
        return stream, principal_of(certificate) if certificate else ANONYMOUS
    except InvalidInput:
        stream.close()
        raise


def lasts_s(stream: TlsStream) -> float:
    """How long the certificate is good that the client showed, in seconds; for ever without one."""
    certificate = stream.peer_certificate()
    if not certificate:
        return float("inf")
    return ssl.cert_time_to_seconds(certificate["notAfter"]) - time.time()
