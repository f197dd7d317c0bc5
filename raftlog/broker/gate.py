"""What a connection may do before it is known who is at the other end, and how it is found out.

    START -- SaslHandshake --> CHOSEN -- SaslAuthenticate, once or twice --> OPEN
                                 |                                             | a session that may end
                                 v                                             v SaslHandshake: again, the
                               REFUSED: a text, and the end                    same user by the same mechanism

A gate decides by the number of an API alone: nothing else of a request is looked at before the connection is
open. One whose session has run out is closed at its next request, and so is one whose user has another
password by now, or none.
"""

from __future__ import annotations

from dataclasses import replace
from enum import Enum, auto
from typing import Final

import trio

from raftlog.broker.authentication import Authentication, Login
from raftlog.broker.mechanisms import Exchange, Session, WrongPassword, exchange_of
from raftlog.errors import InvalidInput
from raftlog.protocol.api import ApiKey
from raftlog.protocol.errors import ErrorCode

REQUESTS_MAX: Final = 8
VERSIONS_ASKED_MAX: Final = 3
"""ApiVersions among them."""

_BEFORE: Final = (ApiKey.API_VERSIONS, ApiKey.SASL_HANDSHAKE, ApiKey.SASL_AUTHENTICATE)


class _State(Enum):
    START = auto()
    CHOSEN = auto()
    REFUSED = auto()
    OPEN = auto()


class LoginRefused(Exception):
    """`args[0]` is what the client is told, `why` what the log is told, and `user` whose name was given, if
    any."""

    def __init__(self, code: ErrorCode, text: str, why: str | None = None, user: str | None = None) -> None:
        super().__init__(text)
        self.code = code
        self.why = why or text
        self.user = user


class Gate:
    """One connection's."""

    __slots__ = (
        "_authentication",
        "_ends_at",
        "_exchange",
        "_host",
        "_lifetime_s",
        "_listener",
        "_login",
        "_requests",
        "_revision",
        "_state",
        "_versions_asked",
        "mechanism",
        "offered",
        "principal",
    )

    def __init__(self, authentication: Authentication, host: str, listener: str) -> None:
        self._authentication = authentication
        self._host = host
        self._lifetime_s = authentication.lifetime_s(listener)
        self._listener = listener
        self._state = _State.START
        self.mechanism = ""
        """The one that was chosen last."""
        self._exchange: Exchange | None = None
        self._login: Login | None = None
        self._revision = authentication.users.revision
        self._ends_at = float("inf")
        self._requests = self._versions_asked = 0
        self.offered = authentication.mechanisms(host, listener)
        """The mechanisms that the client may choose from."""
        self.principal: str | None = None
        """Who it is, once that is known."""

    def __repr__(self) -> str:
        return f"<Gate {self._state.name.lower()} {self.principal or ''}>"

    @property
    def is_open(self) -> bool:
        """Whether the client has logged in, and is not about to do so again."""
        return self._state is _State.OPEN

    @property
    def is_refused(self) -> bool:
        """Whether the connection ends once its last answer is out."""
        return self._state is _State.REFUSED

    def admit(self, api: int) -> None:
        """Let a request in. Raises InvalidInput for one that is not to be looked at."""
        if self._state is _State.OPEN:
            return
        if api not in _BEFORE:
            if self.principal is not None:
                raise InvalidInput("it asks for something in the middle of another login")
            raise InvalidInput(
                f"it asks for something (API {api}) before it has logged in: set the client's"
                f" security.protocol as listener {self._listener} has it, SASL_PLAINTEXT or SASL_SSL"
            )
        self._requests += 1
        self._versions_asked += api == ApiKey.API_VERSIONS
        if self._requests > REQUESTS_MAX or self._versions_asked > VERSIONS_ASKED_MAX:
            raise InvalidInput(f"it has not logged in within {self._requests - 1} requests")
        if api == ApiKey.API_VERSIONS and self._state is not _State.START:
            raise InvalidInput("it asks for versions in the middle of a login")

    def check_session(self) -> None:
        """To be asked where a request is handled, after all that it waited for. Raises InvalidInput when
        there is no session any more."""
        if trio.current_time() > self._ends_at:
            raise InvalidInput(f"the session of {self.principal} ran out, and it did not log in again")
        users = self._authentication.users
        if self._revision is not users.revision:
            if self._login is not None and not self._login.holds(users):
                raise InvalidInput(f"the password of {self.principal} was changed, or the user was removed")
            self._revision = users.revision

    def choose(self, mechanism: str, version: int) -> ErrorCode:
        """SaslHandshake. Version 0 would go on with tokens that are no requests; no client is known to."""
        if self._state is _State.OPEN and self._lifetime_s == float("inf"):
            return ErrorCode.ILLEGAL_SASL_STATE
        is_in_turn = self._state in (_State.START, _State.OPEN)
        self._state = _State.REFUSED
        if not is_in_turn:
            return ErrorCode.ILLEGAL_SASL_STATE
        if version == 0:
            return ErrorCode.UNSUPPORTED_VERSION
        if mechanism not in self.offered:
            return ErrorCode.UNSUPPORTED_SASL_MECHANISM
        if self.principal is not None and mechanism != self.mechanism:
            return ErrorCode.SASL_AUTHENTICATION_FAILED
        self._state, self.mechanism, self._requests = _State.CHOSEN, mechanism, 0
        self._exchange = exchange_of(mechanism, self._authentication, self._host)
        return ErrorCode.NONE

    async def hold(self) -> None:
        """Wait before what is refused is answered."""
        await self._authentication.hold(trio.current_time())

    async def authenticate(self, token: bytes) -> tuple[bytes, Session | None]:
        """SaslAuthenticate: what the mechanism says next, and the session once there is one. Raises
        LoginRefused, after a while. Cancelled, nobody is logged in."""
        if self._state is not _State.CHOSEN or self._exchange is None:
            self._state = _State.OPEN if self._state is _State.OPEN else _State.REFUSED
            raise LoginRefused(ErrorCode.ILLEGAL_SASL_STATE, "SaslAuthenticate without a SaslHandshake")
        asked_at = trio.current_time()
        try:
            answer, session = await self._exchange.step(token)
            if session is not None:
                session = self._begin(session)
            return answer, session
        except InvalidInput as error:
            refused = error
        self._state, self._exchange = _State.REFUSED, None
        count = self._authentication.note_refusal(self._host)
        await self._authentication.hold(asked_at)
        user = refused.user if isinstance(refused, WrongPassword) else None
        why = self._why(refused, count)
        raise LoginRefused(ErrorCode.SASL_AUTHENTICATION_FAILED, str(refused), why, user)

    def _begin(self, session: Session) -> Session:
        """Open. Raises InvalidInput when the connection is somebody else's."""
        if self.principal not in (None, session.principal):
            raise InvalidInput(f"the connection belongs to {self.principal}")
        if session.login is not None and not session.login.holds(self._authentication.users):
            # It was changed while a thread worked on what was shown.
            raise WrongPassword(session.login.user, self.mechanism)
        session = replace(session, lasts_s=min(session.lasts_s, self._lifetime_s))
        self._state, self._exchange, self._login = _State.OPEN, None, session.login
        self._revision = self._authentication.users.revision
        self._ends_at = trio.current_time() + session.lasts_s
        self.principal = session.principal
        return session

    def _why(self, refused: InvalidInput, count: int) -> str:
        why = str(refused)
        if isinstance(refused, WrongPassword):
            is_known = refused.user in self._authentication.users
            what = "a wrong password of" if is_known else "there is no"
            why = f"{what} user {refused.user!r} ({self.mechanism})"
        return f"{why}; {count} of this address within a minute"
