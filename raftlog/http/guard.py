"""What every HTTP listener of the package asks of a request before it is anybody's: a host that is known, no
page of another site, and a token where there is one. It knows no route and no setting.
"""

from __future__ import annotations

import hmac
import ipaddress
import socket
from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Final

from raftlog.errors import ConfigError
from raftlog.http.messages import Head, Refusal

TOKEN_CHARACTERS_MIN: Final = 16
SAFE: Final = ("GET", "HEAD")


class Need(Enum):
    """What a route asks of its client."""

    PROBE = "probe"
    """Nothing: it tells nothing that matters."""
    METRICS = "metrics"
    READ = "read"
    RECORDS = "records"
    """To see what is in records."""
    CHANGE = "change"
    SESSION = "session"
    """To become somebody."""


class Role(Enum):
    ADMIN = "admin"
    VIEWER = "viewer"


@dataclass(frozen=True, slots=True)
class Tokens:
    admin: bytes | None
    viewer: bytes | None

    def __bool__(self) -> bool:
        return self.admin is not None or self.viewer is not None

    def of(self, role: Role) -> bytes | None:
        return self.admin if role is Role.ADMIN else self.viewer

    def role_of(self, token: bytes) -> Role | None:
        """Whose token it is; nobody's is None. The comparison takes as long for any."""
        found = None
        for role, known in ((Role.VIEWER, self.viewer), (Role.ADMIN, self.admin)):
            if known is not None and hmac.compare_digest(token, known):
                found = role
        return found


def read_token(path: str, setting: str) -> bytes:
    """The token in a file, which `setting` names. Raises ConfigError."""
    try:
        token = Path(path).read_bytes().strip()
    except OSError as error:
        raise ConfigError(f"{setting} = {path!r}: {error.strerror}") from error
    if len(token) < TOKEN_CHARACTERS_MIN or any(not 32 < byte < 127 for byte in token):
        raise ConfigError(
            f"{setting} = {path!r}: a token is at least {TOKEN_CHARACTERS_MIN} printable characters without"
            " spaces; `openssl rand -hex 32` makes one"
        )
    return token


def bearer(head: Head) -> bytes:
    """The token of a request; empty for none."""
    scheme, _, token = head.headers.get("authorization", "").partition(" ")
    return token.strip().encode() if scheme.lower() == "bearer" else b""


def unauthenticated(wanted: str = "a token") -> Refusal:
    return Refusal(
        401,
        "UNAUTHENTICATED",
        f"{wanted} is asked for: Authorization: Bearer …",
        headers=(("WWW-Authenticate", "Bearer"),),
    )


def are_loopback(sockets: Iterable[socket.socket]) -> bool:
    """Whether all listen for this machine alone."""
    hosts = (sock.getsockname()[0].partition("%")[0] for sock in sockets)
    return all(ipaddress.ip_address(host).is_loopback for host in hosts)


class Hosts:
    """The names that a request may be for. A page whose name was made to point here has its own name in
    Host."""

    def __init__(self, names: Iterable[str], *, of: str, setting: str) -> None:
        """This machine's own names, and these, which come from `setting`. `of` says what has them."""
        self._names = {name.lower() for name in ("localhost", socket.gethostname(), *names) if name}
        self._what, self._setting = of, setting

    def check(self, head: Head) -> None:
        """Raises Refusal."""
        host = head.headers.get("host", "")
        name = host.rpartition(":")[0] if not host.endswith("]") and ":" in host else host
        name = name.strip("[]").lower()
        if name not in self._names and not _is_address(name):
            raise Refusal(
                421,
                "BAD_REQUEST",
                f"{name[:100]!r} is no name of this {self._what} that it knows; {self._setting} adds some",
            )


def check_site(head: Head) -> None:
    """Refuse what a browser says that a page of another site sends."""
    if head.headers.get("sec-fetch-site", "same-origin") != "same-origin":
        raise Refusal(403, "FORBIDDEN", "the request comes from a page of another site")
    origin = head.headers.get("origin")
    if origin is not None and origin.partition("://")[2] != head.headers.get("host"):
        raise Refusal(403, "FORBIDDEN", "the request comes from a page of another origin")


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name.partition("%")[0])
    except ValueError:
        return False
    return True
