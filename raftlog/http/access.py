"""Who may do what over HTTP.

On loopback without a token everybody may do everything, as with the Kafka listener in plain text. Reached by
others and without a token, a broker answers probes and metrics and nothing else. Two more attacks come by way
of a person's browser: a page of another origin that posts here, and a name that is made to point here. What
such a page cannot send is asked for: a content type, a header, and a Host that is known.
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import logging
import socket
import time
from dataclasses import dataclass
from enum import Enum
from http.cookies import CookieError, SimpleCookie
from pathlib import Path
from typing import Final

from raftlog.config import BrokerConfig
from raftlog.errors import ConfigError
from raftlog.http.messages import JSON, Head, Refusal

SESSION_S: Final = 8 * 3600
COOKIE: Final = "raftlog-session"
TOKEN_CHARACTERS_MIN: Final = 16
SAFE: Final = ("GET", "HEAD")

SECURITY_HEADERS: Final = (
    (
        "Content-Security-Policy",
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self';"
        " base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script';"
        " trusted-types 'none'",
    ),
    ("X-Content-Type-Options", "nosniff"),
    ("Referrer-Policy", "no-referrer"),
    ("Cross-Origin-Opener-Policy", "same-origin"),
    ("Cross-Origin-Resource-Policy", "same-origin"),
    ("Cache-Control", "no-store"),
)

log = logging.getLogger("raftlog.http")


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

    @classmethod
    def read(cls, config: BrokerConfig) -> Tokens:
        """The files that the settings name. Raises ConfigError."""
        return cls(
            _token(config, "raftlog.http.token.file"), _token(config, "raftlog.http.viewer.token.file")
        )


class Access:
    """Judges heads."""

    def __init__(self, config: BrokerConfig, tokens: Tokens, *, is_loopback: bool) -> None:
        self._tokens = tokens
        self._is_loopback = is_loopback
        self._is_readonly = config.bool("raftlog.http.readonly")
        self._viewers_see_records = config.bool("raftlog.http.viewer.records")
        names = {"localhost", socket.gethostname(), *config.list("raftlog.http.hosts")}
        names |= {listener.host for listener in config.advertised_listeners}
        self._hosts = {name.lower() for name in names if name}

    @property
    def is_open(self) -> bool:
        """Whether a token is not asked for."""
        return self._is_loopback and self._tokens.admin is None and self._tokens.viewer is None

    def check(self, head: Head, need: Need) -> Role:
        """As whom a request is made. Raises Refusal."""
        if need is Need.PROBE or (need is Need.METRICS and not self._is_loopback):
            return Role.VIEWER
        self._check_host(head)
        if need is Need.METRICS:
            return Role.VIEWER
        if self._is_readonly and head.method not in SAFE and need is not Need.SESSION:
            raise Refusal(403, "READ_ONLY", "raftlog.http.readonly is set: nothing can be changed over HTTP")
        if head.method not in SAFE:
            _check_origin(head)
        role = self._role(head, need)
        if role is Role.VIEWER:
            if need is Need.CHANGE or (head.method not in SAFE and need is not Need.SESSION):
                raise Refusal(403, "FORBIDDEN", "a viewer changes nothing")
            if need is Need.RECORDS and not self._viewers_see_records:
                raise Refusal(
                    403, "FORBIDDEN", "a viewer sees no records: raftlog.http.viewer.records is not set"
                )
        return role

    def _check_host(self, head: Head) -> None:
        """A page whose name was made to point here has its own name in Host."""
        host = head.headers.get("host", "")
        name = host.rpartition(":")[0] if not host.endswith("]") and ":" in host else host
        name = name.strip("[]").lower()
        if name in self._hosts or _is_address(name):
            return
        raise Refusal(
            421,
            "BAD_REQUEST",
            f"{name[:100]!r} is no name of this broker that it knows; raftlog.http.hosts adds some",
        )

    def _role(self, head: Head, need: Need) -> Role:
        if self.is_open:
            return Role.ADMIN
        if self._tokens.admin is None and self._tokens.viewer is None:
            raise Refusal(
                403,
                "FORBIDDEN",
                "the broker listens for others than this machine, and raftlog.http.token.file is not set:"
                " only probes and metrics are served",
            )
        role = self.role_of_token(_bearer(head)) or self._role_of_cookie(head)
        if role is None:
            if need is Need.SESSION:
                return Role.VIEWER
            raise Refusal(
                401,
                "UNAUTHENTICATED",
                "a token is asked for: Authorization: Bearer …",
                headers=(("WWW-Authenticate", "Bearer"),),
            )
        return role

    def role_of_token(self, token: bytes) -> Role | None:
        """Whose token it is; nobody's is None. The comparison takes as long for any."""
        found = None
        for role, known in ((Role.VIEWER, self._tokens.viewer), (Role.ADMIN, self._tokens.admin)):
            if known is not None and hmac.compare_digest(token, known):
                found = role
        return found

    # Sessions: any broker with the same token takes them, and another token ends them all

    def cookie_for(self, role: Role, now: float) -> str:
        """What Set-Cookie says. `now` is the wall clock."""
        until = int(now + SESSION_S)
        value = f"{role.value}.{until}.{self._signature(role, until)}"
        return f"{COOKIE}={value}; HttpOnly; SameSite=Strict; Path=/; Max-Age={SESSION_S}"

    def _role_of_cookie(self, head: Head) -> Role | None:
        try:
            morsel = SimpleCookie(head.headers.get("cookie", "")).get(COOKIE)
            name, until, signature = morsel.value.split(".") if morsel else ("", "0", "")
            role, end = Role(name), int(until)
        except (ValueError, CookieError):
            return None
        if self._token_of(role) is None or end < time.time():
            return None
        expected = self._signature(role, end)  # as bytes: text that is not ASCII is not compared
        return role if hmac.compare_digest(signature.encode(), expected.encode()) else None

    def _signature(self, role: Role, until: int) -> str:
        token = self._token_of(role) or b""
        return hmac.new(token, f"session {role.value} {until}".encode(), hashlib.sha256).hexdigest()

    def _token_of(self, role: Role) -> bytes | None:
        return self._tokens.admin if role is Role.ADMIN else self._tokens.viewer


def _check_origin(head: Head) -> None:
    """What a page of another origin cannot send without being asked first, and would say of itself."""
    headers = head.headers
    if headers.get("content-type", "").partition(";")[0].strip() != JSON:
        raise Refusal(403, "FORBIDDEN", f"a change has Content-Type: {JSON}")
    if headers.get("x-raftlog-csrf") != "1":
        raise Refusal(403, "FORBIDDEN", "a change has the header X-Raftlog-CSRF: 1")
    if headers.get("sec-fetch-site", "same-origin") != "same-origin":
        raise Refusal(403, "FORBIDDEN", "the request comes from a page of another site")
    origin = headers.get("origin")
    if origin is not None and origin.partition("://")[2] != headers.get("host"):
        raise Refusal(403, "FORBIDDEN", "the request comes from a page of another origin")


def _bearer(head: Head) -> bytes:
    scheme, _, token = head.headers.get("authorization", "").partition(" ")
    return token.strip().encode() if scheme.lower() == "bearer" else b""


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name.partition("%")[0])
    except ValueError:
        return False
    return True


def _token(config: BrokerConfig, key: str) -> bytes | None:
    path = config.str(key)
    if not path:
        return None
    try:
        token = Path(path).read_bytes().strip()
    except OSError as error:
        raise ConfigError(f"{key} = {path!r}: {error.strerror}") from error
    if len(token) < TOKEN_CHARACTERS_MIN or any(not 32 < byte < 127 for byte in token):
        raise ConfigError(
            f"{key} = {path!r}: a token is at least {TOKEN_CHARACTERS_MIN} printable characters without"
            " spaces; `openssl rand -hex 32` makes one"
        )
    return token
