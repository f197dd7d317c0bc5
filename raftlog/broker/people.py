"""Users of the cluster where no Kafka connection is: over HTTP they show a password, and have their rights.

The same credentials, refusals and rules as on Kafka's listeners; a broker that may not decide knows nobody.
"""

from __future__ import annotations

import trio

from raftlog.broker.authentication import Authentication, Login
from raftlog.broker.backend import Backend
from raftlog.errors import InvalidInput
from raftlog.metadata.acls import kept_host
from raftlog.protocol.sasl import read_plain
from raftlog.rights import Operation, ResourceKind

MECHANISM = "HTTP Basic"


class Person:
    """Somebody who has shown a password."""

    def __init__(self, backend: Backend, login: Login) -> None:
        self._backend = backend
        self._login = login
        self.principal = f"User:{login.user}"

    def __repr__(self) -> str:
        return f"<Person {self.principal}>"

    @property
    def is_known(self) -> bool:
        """Whether the password is still the user's, as far as this broker may decide."""
        return self._backend.enforcement.is_current and self._login.holds(self._backend.catalog.users)

    def may(self, host: str, operation: Operation, kind: ResourceKind, name: str) -> bool:
        authorizer = self._backend.authorizer
        return authorizer is None or authorizer.allows(self.principal, kept_host(host), operation, kind, name)


class People:
    """Checks passwords, for all HTTP clients of a broker."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self._authentication = Authentication(backend.config, backend.catalog)

    async def log_in(self, user: str, password: bytes, host: str) -> Person | None:
        """Who that is; None, after a while, for nobody. Cancelled, nobody is logged in."""
        asked_at, audit, authentication = trio.current_time(), self._backend.notes.audit, self._authentication
        await authentication.wait_for_turn(host)
        try:
            shown = read_plain(b"\0".join((b"", user.encode(), password)))
            login = await authentication.check_password(shown)
        except InvalidInput:  # nobody can have that name, or that password
            login = None
        said = {"principal": f"User:{user}", "mechanism": MECHANISM, "host": host}
        if login is not None and login.holds(authentication.users):
            audit.event("login", **said)
            return Person(self._backend, login)
        authentication.note_refusal(host)
        audit.folded("login refused", (host, MECHANISM), trio.current_time(), why="a wrong password", **said)
        await authentication.hold(asked_at)
        return None
