"""What it was, when the first four bytes of a client are no length of a Kafka request.

Clients of other protocols find the Kafka port by a mistake in some address. Whoever reads the log should see
that, and where to look; a person with a browser or curl gets a line to read. The first bytes alone decide.
"""

from __future__ import annotations

from typing import Final

from raftlog.broker.signposts import Signposts
from raftlog.errors import InvalidInput

_HTTP_TEXT: Final = "This port speaks Kafka's protocol, not HTTP: use a Kafka client.\n"
_HTTP_HEAD: Final = (
    "HTTP/1.1 400 Bad Request\r\nConnection: close\r\nContent-Type: text/plain; charset=utf-8\r\n"
    "Content-Length: %d\r\n\r\n"
)
_TLS_TEXT: Final = "This listener speaks plain text.\n"
"""No TLS, so that clients say "wrong version number" rather than that the connection was closed."""

_HTTP: Final = (b"GET ", b"HEAD", b"POST", b"PUT ", b"DELE", b"OPTI", b"PATC", b"CONN", b"TRAC")
_TLS_HANDSHAKE: Final = b"\x16\x03"
_OTHERS: Final = {
    b"PRI ": "an HTTP/2 request: no HTTP is served here; was another port meant?",
    b"SSH-": "an SSH client: was another port meant?",
    b"AMQP": "an AMQP client: was another port meant?",
    b"EHLO": "an SMTP client: was another port meant?",
    b"PROX": "a PROXY protocol header, which is not served: switch it off at the load balancer",
    b"\r\n\r\n": "a PROXY protocol header, which is not served: switch it off at the load balancer",
}


class Stranger(InvalidInput):
    """Another protocol's client."""

    def told(self, signposts: Signposts, client: str) -> tuple[str, bytes]:
        """What the log is to say, and what the client at this address is told before it is closed."""
        return str(self), b""


class _HttpClient(Stranger):
    def told(self, signposts: Signposts, client: str) -> tuple[str, bytes]:
        look = signposts.to_http(client)
        text = f"{_HTTP_TEXT}{look}\n".encode()
        return f"{self}. {look}", (_HTTP_HEAD % len(text)).encode("ascii") + text


class _TlsClient(Stranger):
    def told(self, signposts: Signposts, client: str) -> tuple[str, bytes]:
        look = f"{signposts.to_tls()} {signposts.to_http(client)}"
        return f"{self}. {look}", f"{_TLS_TEXT}{look}\n".encode()


def recognize(head: bytes) -> Stranger | None:
    """Who begins with these four bytes; None for nobody known."""
    if head in _HTTP:
        return _HttpClient("an HTTP request: this port speaks Kafka's protocol")
    if head.startswith(_TLS_HANDSHAKE):
        return _TlsClient(
            "a TLS handshake: this listener is in plain text; set the client's security.protocol to PLAINTEXT"
        )
    what = _OTHERS.get(head)
    return None if what is None else Stranger(what)
