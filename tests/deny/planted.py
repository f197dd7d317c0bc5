"""Bugs that the register must find, each in the place of what somebody might have written."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final

from raftlog.broker.authentication import Authentication, Login
from raftlog.broker.gate import Gate
from raftlog.broker.handlers import fetch
from raftlog.cluster.authorizer import Authorizer
from raftlog.cluster.enforcement import Enforcement
from raftlog.protocol.sasl import PlainMessage
from raftlog.types import BrokerId

Patch = tuple[Any, str, Any]


def _no_second_look() -> Patch:
    """A long poll that wakes is not judged again."""
    return fetch, "_judged_again", lambda call, topics: topics


def _lease_by_receipt() -> Patch:
    """The lease counts from when the answer came, not from when it was asked for."""

    def extend(self: Enforcement, asked_at: float) -> None:
        original(self, self._clock())

    original = Enforcement._extend
    return Enforcement, "_extend", extend


def _live_brokers_only() -> Patch:
    """Who is not heard of is not waited for."""

    def others(self: Enforcement) -> list[BrokerId]:
        return self._peers.live()

    return Enforcement, "_others", others


def _decisions_outlive_rules() -> Patch:
    """What was decided is remembered, whatever the rules become."""

    def allows(self: Authorizer, *question: Any) -> bool:
        self._as_of = self.changed_at
        return original(self, *question)

    original = Authorizer.allows
    return Authorizer, "allows", allows


def _sessions_outlive_passwords() -> Patch:
    """Who has logged in is never asked again."""

    def check_session(self: Gate) -> None:
        pass

    return Gate, "check_session", check_session


def _passwords_are_remembered() -> Patch:
    """A password of PLAIN that was good is good, whatever the user's is by now."""

    async def check_password(self: Authentication, said: PlainMessage) -> Login | None:
        login = await original(self, said)
        if login is not None:
            known[id(self), said.user, said.password] = login
        old, new = known.get((id(self), said.user, said.password)), self.users.of(said.user)
        if login is None and old is not None and old.mechanism in new:
            return Login(old.user, old.mechanism, new[old.mechanism])
        return login

    known: dict[tuple[int, str, bytes], Login] = {}
    original = Authentication.check_password
    return Authentication, "check_password", check_password


def _decides_without_lease() -> Patch:
    """A broker that hears nobody goes on by what it has."""
    return Enforcement, "is_current", property(lambda self: True)


PLANTS: Final[Mapping[str, Mapping[str, Callable[[], Patch]]]] = {
    "denies": {
        "recheck": _no_second_look,
        "receipt": _lease_by_receipt,
        "live": _live_brokers_only,
        "cache": _decisions_outlive_rules,
    },
    "credentials": {
        "sessions": _sessions_outlive_passwords,
        "remembered": _passwords_are_remembered,
        "lease": _decides_without_lease,
        "live": _live_brokers_only,
    },
}


@contextmanager
def planted(register: str, name: str) -> Iterator[None]:
    owner, attribute, value = PLANTS[register][name]()
    before = vars(owner)[attribute]
    setattr(owner, attribute, value)
    try:
        yield
    finally:
        setattr(owner, attribute, before)
