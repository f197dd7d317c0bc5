"""A login by each mechanism: a client's messages in, answers out, and in the end who it is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from raftlog.broker.authentication import Authentication, Login
from raftlog.errors import InvalidInput
from raftlog.protocol.sasl import OAUTHBEARER, PLAIN, read_bearer, read_plain
from raftlog.protocol.scram import ScramServer, Verifier

if TYPE_CHECKING:
    from raftlog.broker.tokens import Tokens


class WrongPassword(InvalidInput):
    """The client is told the same whatever the reason is; the log is told the user, too."""

    def __init__(self, user: str, mechanism: str) -> None:
        super().__init__(f"authentication failed: user or password is wrong ({mechanism})")
        self.user = user


@dataclass(frozen=True, slots=True)
class Session:
    """What a login comes to."""

    principal: str
    login: Login | None
    lasts_s: float = float("inf")
    """How long what was shown is good."""


class Exchange(Protocol):
    """One login."""

    async def step(self, token: bytes) -> tuple[bytes, Session | None]:
        """The answer to a client's message, and the session once there is one. Raises InvalidInput for a
        login that is refused. Cancelled, nobody is logged in."""
        ...


def exchange_of(mechanism: str, authentication: Authentication, host: str) -> Exchange:
    """A login by a mechanism that is offered, of a client at `host`."""
    if mechanism == PLAIN:
        return _Plain(authentication, host)
    if mechanism == OAUTHBEARER:
        assert authentication.tokens is not None, "the mechanism is not on"
        return _Bearer(authentication.tokens)
    return _Scram(mechanism, authentication, host)


class _Plain:
    def __init__(self, authentication: Authentication, host: str) -> None:
        self._authentication = authentication
        self._host = host

    async def step(self, token: bytes) -> tuple[bytes, Session | None]:
        said = read_plain(token)
        await self._authentication.wait_for_turn(self._host)
        login = await self._authentication.check_password(said)
        if login is None:
            raise WrongPassword(said.user, PLAIN)
        return b"", Session(f"User:{login.user}", login)


class _Scram:
    def __init__(self, mechanism: str, authentication: Authentication, host: str) -> None:
        self._mechanism = mechanism
        self._authentication = authentication
        self._host = host
        self._server = ScramServer(mechanism, self._find)
        self._login: Login | None = None

    def _find(self, user: str) -> Verifier:
        verifier, self._login = self._authentication.verifier(self._mechanism, user)
        return verifier

    async def step(self, token: bytes) -> tuple[bytes, Session | None]:
        server = self._server
        if not server.user:
            return server.challenge(token), None
        await self._authentication.wait_for_turn(self._host)
        proof, login = server.judge(token), self._login
        if proof is None or login is None or not login.holds(self._authentication.users):
            raise WrongPassword(server.user, self._mechanism)
        if server.is_old:
            self._authentication.note_old(self._host)
        return proof, Session(f"User:{login.user}", login)


class _Bearer:
    def __init__(self, tokens: Tokens) -> None:
        self._tokens = tokens

    async def step(self, token: bytes) -> tuple[bytes, Session | None]:
        user, lasts_s = await self._tokens.check(read_bearer(token))
        return b"", Session(f"User:{user}", None, lasts_s)
