"""Somebody's password is changed again and again, and taken away; that somebody goes on with old ones.

A password is gone once the change that replaces it has returned: no login by it and nothing of a session that
was begun with it may succeed from then on. One whose own setting had an unknown outcome may come late and be
in force again, so it is judged never. A password that was set for sure is refused by nobody until the next
change.
"""

from __future__ import annotations

import os
import random
import threading
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, Final

from raftlog.cluster.first_users import write_first_user
from raftlog.protocol.api import ApiKey
from raftlog.protocol.sasl import PLAIN, write_plain
from raftlog.protocol.scram import ScramClient, salted
from raftlog.security.credentials import credentials_of
from tests.deny.clients import ADMIN_HOST, Denied, Wire, now
from tests.deny.cue import Cue
from tests.deny.judge import Op, Register, violations

USER: Final = "alice"
ADMIN: Final = "admin"
ADMIN_PASSWORD: Final = "the administrator's"
MECHANISM: Final = "SCRAM-SHA-256"
ITERATIONS: Final = 4096
MAY_COME_LATE_S: Final = 60.0
"""How long after a change of unknown outcome it may be made yet: brokers go on trying for half a minute."""
SESSION_S: Final = 3.0
"""After so long a client logs in anew, with the newest password."""
_REFUSED: Final = 58


class Refused(OSError):
    """The login was refused, in words."""


class Session(Wire):
    """A connection that has logged in."""

    def __init__(self, port: int, source: str, user: str, password: str, mechanism: str = PLAIN) -> None:
        super().__init__(port, source)
        self.since = now()
        try:
            self._log_in(user, password, mechanism)
        except BaseException:
            self.close()
            raise

    def _log_in(self, user: str, password: str, mechanism: str) -> None:
        self.ask(ApiKey.SASL_HANDSHAKE, 1, mechanism=mechanism)
        if mechanism == PLAIN:
            self._show(write_plain(user, password))
            return
        scram = ScramClient(mechanism, user, password)
        scram.check(self._show(scram.prove(self._show(scram.first()))))

    def _show(self, token: bytes) -> bytes:
        answer = self.ask(ApiKey.SASL_AUTHENTICATE, 2, auth_bytes=token)
        if int(answer.error_code) == _REFUSED:
            raise Refused(answer.error_message)
        if answer.error_code:
            raise OSError(answer.error_code.name)
        return bytes(answer.auth_bytes)


class Passwords:
    """All that there ever were, by number, with what was done by them and when they were surely gone."""

    def __init__(self) -> None:
        self.newest = 0
        self.gone: dict[int, Register] = {}
        """Of those that were set for sure."""
        self.ops: dict[int, list[Op]] = {}
        self.refused: list[tuple[int, int, float, float]] = []
        """(password, broker, begun, ended)"""
        self.good: list[tuple[int, float, float]] = []
        """(password, when its setting had returned, when the next change began)"""

    def begin(self) -> int:
        """A password that is about to be set."""
        self.ops[self.newest + 1] = []
        self.newest += 1
        return self.newest

    def was_set(self, number: int, at: float, *, is_surely_last: bool) -> None:
        self.all_gone(at)
        self.gone[number] = Register()
        if is_surely_last:
            self.good.append((number, at, float("inf")))

    def all_gone(self, at: float) -> None:
        """A change that replaces or removes whatever there is has returned."""
        for register in self.gone.values():
            if not register.denied:
                register.deny_returned(at)

    def is_gone(self, number: int, at: float) -> bool:
        """Whether a password was surely replaced at a moment."""
        register = self.gone.get(number)
        return register is not None and register.window_of(at) is not None

    def change_begins(self, at: float) -> None:
        if self.good and self.good[-1][2] == float("inf"):
            self.good[-1] = (*self.good[-1][:2], at)

    def violations(self) -> Iterator[str]:
        for number, register in list(self.gone.items()):
            for line in violations(register, list(self.ops[number])):
                yield f"password {number}: {line}".replace("a deny", "its end")
        good = {number: (since, until) for number, since, until in list(self.good)}
        for number, broker, begun, ended in list(self.refused):
            since, until = good.get(number, (float("inf"), 0.0))
            if since <= begun and ended < until:
                yield (
                    f"password {number}: refused at broker {broker}, {begun - since:.3f} s after it was set,"
                    " and no other was"
                )


def text(number: int) -> str:
    return f"password {number} of {USER}"


class Owner:
    """The user at one broker: goes on with the newest password, or tries one of those before."""

    def __init__(self, broker: int, port: int, passwords: Passwords, rng: random.Random, number: int) -> None:
        """Each `number` has an address of its own, so that who is refused often waits alone."""
        self._broker, self._port, self._passwords, self._rng = broker, port, passwords, rng
        self._source = f"127.0.1.{number + 1}"
        self._acting: list[Denied] = []
        """One for each password that was good once."""
        self._logins = 0
        self._logins_checked = 0

    @property
    def tried(self) -> int:
        return self._logins + sum(each.tried for each in self._acting)

    @property
    def checked(self) -> int:
        """Calls that were begun with a password that was surely gone."""
        return self._logins_checked + sum(each.checked for each in self._acting)

    def open_newest(self) -> Session:
        return self._open(self._passwords.newest)

    def open_any(self) -> Session:
        newest = self._passwords.newest
        return self._open(self._rng.randint(max(newest - 3, 0), newest))

    def _open(self, number: int) -> Session:
        self._logins += 1
        if not number:
            raise OSError("there has been no password yet")
        begun = now()
        mechanism = self._rng.choice((PLAIN, MECHANISM))
        try:
            session = Session(self._port, self._source, USER, text(number), mechanism)
        except Refused:
            self._logins_checked += self._passwords.is_gone(number, begun)
            self._passwords.refused.append((number, self._broker, begun, now()))
            raise
        self._logins_checked += self._passwords.is_gone(number, begun)
        ops = self._passwords.ops.get(number, [])
        ops.append(Op("a login", self._broker, begun, now()))
        is_gone = partial(self._passwords.is_gone, number)
        self._acting.append(Denied(self._broker, ops, self._rng, is_gone))
        return session

    def step(self, what: str) -> Callable[[Wire], float]:
        def step(wire: Wire) -> float:
            assert isinstance(wire, Session)
            if now() - wire.since > SESSION_S:
                raise ConnectionResetError("long enough")
            pause: float = getattr(self._acting[-1], what)(wire)
            return pause

        return step

    def leave(self, wire: Wire) -> float:
        """Nothing more than to have logged in."""
        raise ConnectionResetError("that was all")


class PasswordAdministrator:
    """Sets and takes away the password, at whichever broker, and notes what is sure."""

    def __init__(self, ports: list[int], passwords: Passwords, rng: random.Random, cue: Cue) -> None:
        self._ports, self._passwords, self._rng, self._cue = ports, passwords, rng, cue
        self._unsure_at = -MAY_COME_LATE_S
        self.turns = 0
        self.unknown = 0
        self.slowest = 0.0

    def run(self, stop: threading.Event) -> None:
        while not stop.is_set():
            self._cue.before_change()
            if self._rng.random() < 0.2 and self._change([], [(USER, MECHANISM)]):
                self._passwords.all_gone(now())
                self.turns += 1
                stop.wait(self._rng.uniform(0.1, 2.0))
            number = self._passwords.begin()
            if self._change([(USER, text(number))], []):
                is_last = now() - self._unsure_at > MAY_COME_LATE_S
                self._passwords.was_set(number, now(), is_surely_last=is_last)
                self.turns += 1
            stop.wait(self._rng.uniform(0.1, 2.5))

    def _change(self, put: list[tuple[str, str]], drop: list[tuple[str, str]]) -> bool:
        begun = now()
        self._passwords.change_begins(begun)
        try:
            wire = Session(self._cue.choose(self._ports, self._rng), ADMIN_HOST, ADMIN, ADMIN_PASSWORD)
            try:
                alter(wire, put, drop)
            finally:
                wire.close()
        except OSError:
            self.unknown += 1
            self._unsure_at = now()
            return False
        finally:
            self._cue.after_change()
        self.slowest = max(self.slowest, now() - begun)
        return True


def alter(wire: Wire, put: list[tuple[str, str]], drop: list[tuple[str, str]]) -> None:
    """Raises OSError for what was not done for sure."""
    upsertions: list[dict[str, Any]] = []
    for user, password in put:
        salt = os.urandom(24)
        row = {"name": user, "mechanism": 1, "iterations": ITERATIONS, "salt": salt}
        upsertions.append(row | {"salted_password": salted(MECHANISM, password.encode(), salt, ITERATIONS)})
    deletions = [{"name": user, "mechanism": 1} for user, _ in drop]
    answer = wire.ask(ApiKey.ALTER_USER_SCRAM_CREDENTIALS, 0, upsertions=upsertions, deletions=deletions)
    for row in answer.results:
        if row.error_code:
            raise OSError(f"{row.error_code.name} {row.error_message}")


def settings(folder: Path) -> dict[str, str]:
    """Of brokers whose clients log in; the administrator is there from the beginning."""
    users = folder / "users.bootstrap"
    users.write_text("".join(f"{write_first_user(one)}\n" for one in credentials_of(ADMIN, ADMIN_PASSWORD)))
    users.chmod(0o600)
    return {
        "listener_security_protocol_map": "PLAINTEXT:SASL_PLAINTEXT",
        "sasl_enabled_mechanisms": f"{PLAIN},{MECHANISM}",
        "raftlog_bootstrap_users_file": str(users),
    }
