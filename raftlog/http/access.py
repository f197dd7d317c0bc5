"""Who may do what over HTTP.

On loopback without a token everybody may do everything, as with the Kafka listener in plain text. Reached by
others a broker without a token answers probes and metrics and nothing else. With an authorizer clients are
users of the cluster, who show their password and have the rights that ACLs give them, or have a token;
metrics name topics, and are for those who may describe the cluster. Two more attacks come by way of a
person's browser: a page of another origin that posts here, and a name that is made to point here. What such a
page cannot send is asked for: a content type, a header, and a Host that is known.
"""

from __future__ import annotations

import hashlib
import hmac
import time
from dataclasses import replace
from http.cookies import CookieError, SimpleCookie
from typing import Final

from raftlog.config import BrokerConfig
from raftlog.http.guard import (
    SAFE,
    Hosts,
    Need,
    Role,
    Tokens,
    bearer,
    check_site,
    read_token,
    unauthenticated,
)
from raftlog.http.messages import JSON, Head, Refusal, Response
from raftlog.http.people import Directory, Person, Visitors
from raftlog.rights import CLUSTER_NAME, Operation, ResourceKind

SESSION_S: Final = 8 * 3600
COOKIE: Final = "raftlog-session"
TOPIC_AT: Final = 3
"""Where in a path the topic is whose records are wanted: /api/v1/topics/NAME/…"""

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


def secured(response: Response) -> Response:
    """With the headers that every answer has, where it does not set one itself."""
    named = {key for key, _ in response.headers}
    more = tuple(pair for pair in SECURITY_HEADERS if pair[0] not in named)
    return replace(response, headers=response.headers + more)


def tokens_of(config: BrokerConfig) -> Tokens:
    """Those of the files that the settings name. Raises ConfigError."""

    def read(setting: str) -> bytes | None:
        path = config.str(setting)
        return read_token(path, setting) if path else None

    return Tokens(read("raftlog.http.token.file"), read("raftlog.http.viewer.token.file"))


class Access:
    """Judges heads."""

    def __init__(
        self, config: BrokerConfig, tokens: Tokens, *, is_loopback: bool, directory: Directory | None = None
    ) -> None:
        """`directory` knows the users of the cluster."""
        self._visitors = None if directory is None else Visitors(directory)
        self._tokens = tokens
        self._is_loopback = is_loopback
        self._is_authorized = bool(config.str("authorizer.class.name"))
        self.is_readonly = config.bool("raftlog.http.readonly")
        self._viewers_see_records = config.bool("raftlog.http.viewer.records")
        advertised = [listener.host for listener in config.advertised_listeners]
        names = [*config.list("raftlog.http.hosts"), *advertised]
        self._hosts = Hosts(names, of="broker", setting="raftlog.http.hosts")

    @property
    def is_open(self) -> bool:
        """Whether a token is not asked for."""
        return self._is_loopback and not self._tokens and not self._is_authorized

    def sees_records(self, role: Role) -> bool:
        return role is Role.ADMIN or self._viewers_see_records

    async def recognize(self, head: Head) -> None:
        """Check the password of a request that has one, before `check`. Raises Refusal."""
        if self._visitors is not None:
            await self._visitors.recognize(head)

    def check(self, head: Head, need: Need) -> Role:
        """As whom a request is made. Raises Refusal."""
        is_metrics = need is Need.METRICS and not self._is_authorized
        if need is Need.PROBE or (is_metrics and not self._is_loopback):
            return Role.VIEWER
        self._hosts.check(head)
        if is_metrics:
            return Role.VIEWER
        if self.is_readonly and head.method not in SAFE and need is not Need.SESSION:
            raise Refusal(403, "READ_ONLY", "raftlog.http.readonly is set: nothing can be changed over HTTP")
        if head.method not in SAFE:
            _check_origin(head)
        role = self._role(head, need)
        if role is Role.VIEWER:
            if need is Need.CHANGE or (head.method not in SAFE and need is not Need.SESSION):
                raise Refusal(403, "FORBIDDEN", "a viewer changes nothing")
            if need is Need.RECORDS and not self.sees_records(role):
                raise Refusal(
                    403, "FORBIDDEN", "a viewer sees no records: raftlog.http.viewer.records is not set"
                )
        return role

    def _role(self, head: Head, need: Need) -> Role:
        if self.is_open:
            return Role.ADMIN
        person = None if self._visitors is None else self._visitors.person_of(head)
        if person is not None:
            return _role_of(person, head, need)
        if self._visitors is None and not self._tokens:
            why = "has an authorizer" if self._is_authorized else "listens for others than this machine"
            raise Refusal(
                403,
                "FORBIDDEN",
                f"the broker {why}, and raftlog.http.token.file is not set: only probes and metrics are"
                " served",
            )
        role = self.role_of_token(bearer(head)) or self._role_of_cookie(head)
        if role is None:
            if need is Need.SESSION:
                return Role.VIEWER
            raise unauthenticated("a token" if self._visitors is None else "a user's password, or a token,")
        return role

    def role_of_token(self, token: bytes) -> Role | None:
        """Whose token it is; nobody's is None. The comparison takes as long for any."""
        return self._tokens.role_of(token)

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
        if self._tokens.of(role) is None or end < time.time():
            return None
        expected = self._signature(role, end)  # as bytes: text that is not ASCII is not compared
        return role if hmac.compare_digest(signature.encode(), expected.encode()) else None

    def _signature(self, role: Role, until: int) -> str:
        token = self._tokens.of(role) or b""
        return hmac.new(token, f"session {role.value} {until}".encode(), hashlib.sha256).hexdigest()


def _role_of(person: Person, head: Head, need: Need) -> Role:
    """What a user of the cluster may do over HTTP. Raises Refusal."""
    if person.may(head.peer, Operation.ALTER, ResourceKind.CLUSTER, CLUSTER_NAME):
        role = Role.ADMIN
    elif person.may(head.peer, Operation.DESCRIBE, ResourceKind.CLUSTER, CLUSTER_NAME):
        role = Role.VIEWER
    else:
        raise Refusal(403, "FORBIDDEN", f"{person.principal} may not Describe Cluster")
    if need is Need.RECORDS:
        topic = head.path[TOPIC_AT] if len(head.path) > TOPIC_AT else ""
        if not person.may(head.peer, Operation.READ, ResourceKind.TOPIC, topic):
            raise Refusal(403, "FORBIDDEN", f"{person.principal} may not Read Topic {topic[:200]!r}")
    return role


def _check_origin(head: Head) -> None:
    """What a page of another origin cannot send without being asked first, and would say of itself."""
    headers = head.headers
    if headers.get("content-type", "").partition(";")[0].strip() != JSON:
        raise Refusal(403, "FORBIDDEN", f"a change has Content-Type: {JSON}")
    if headers.get("x-raftlog-csrf") != "1":
        raise Refusal(403, "FORBIDDEN", "a change has the header X-Raftlog-CSRF: 1")
    check_site(head)
