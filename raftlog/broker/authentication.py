"""Who a client is, by its password: what the logins of all connections of a broker share.

A user that is not there gets a challenge as any other: the same salt tomorrow, on every broker. What is
refused is answered after the same while whatever the reason was, so that neither the words nor the time of an
answer tell who has an account. The log tells.
"""

from __future__ import annotations

import hmac
import logging
import os
import random
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Final, Protocol

import trio

from raftlog.config import BrokerConfig
from raftlog.metadata.user_table import Credential, Users
from raftlog.metadata.users import ITERATIONS_MIN
from raftlog.net.hosts import is_this_machine
from raftlog.protocol.sasl import OAUTHBEARER, PLAIN, PlainMessage
from raftlog.protocol.scram import SALT_BYTES, Verifier, keys_of, salted

if TYPE_CHECKING:
    from raftlog.broker.tokens import Tokens

REFUSED_AFTER_S: Final = 0.3
REFUSED_SPREAD_S: Final = 0.1
"""A refusal is answered so long after the question, give or take. Clients that are refused at once come back
at once: librdkafka ten times as often."""
REFUSALS_MAX: Final = 10
REFUSALS_WITHIN_S: Final = 60.0
SUSPECT_WAIT_S: Final = 1.0
"""So many refusals of one address in a minute, and every login of it waits. It is never shut out: many may
share the address."""
SUSPECTS_MAX: Final = 10_000
"""Addresses whose refusals are counted; of more the oldest are forgotten."""
HASHING_AT_ONCE: Final = 1
"""Threads that work on passwords of PLAIN: one core's worth at most."""
OLD_MAX: Final = 100
"""Addresses of old clients that are named in the log, each once."""
KNOWN_MAX: Final = 1000
KNOWN_FOR_S: Final = 600.0
"""Passwords of PLAIN that need no work when they come again, and for how long: a fleet that connects anew."""

log = logging.getLogger("raftlog.broker")

_STRONGEST_FIRST: Final = ("SCRAM-SHA-512", "SCRAM-SHA-256")


class HasUsers(Protocol):
    """The catalog: its table of users is another object once a snapshot has come."""

    @property
    def users(self) -> Users: ...


@dataclass(frozen=True, slots=True)
class Login:
    """What a session rests on: it ends when the user does not have this credential any more."""

    user: str
    mechanism: str
    """Of the credential: PLAIN has none of its own."""
    credential: Credential

    def holds(self, users: Users) -> bool:
        return users.of(self.user).get(self.mechanism) == self.credential


class Authentication:
    """Shared by the connections of a broker."""

    def __init__(self, config: BrokerConfig, catalog: HasUsers, tokens: Tokens | None = None) -> None:
        """`tokens` for OAUTHBEARER."""
        self._catalog = catalog
        self.tokens = tokens
        self._config = config
        self._of: dict[str, BrokerConfig] = {}
        """What holds for a listener."""
        self._plain_anywhere = config.bool("raftlog.sasl.plain.insecure")
        self._encrypted = {each.name for each in config.listeners if config.is_encrypted(each.name)}
        self._refusals: dict[str, list[float]] = {}
        self._own_key = os.urandom(32)
        self._known: dict[bytes, tuple[Credential, float]] = {}
        self._hashing: trio.CapacityLimiter | None = None
        self._old: set[str] = set()

    def __repr__(self) -> str:
        return f"<Authentication {len(self._known)} passwords known, {len(self._refusals)} suspects>"

    @property
    def users(self) -> Users:
        return self._catalog.users

    def mechanisms(self, host: str, listener: str) -> list[str]:
        """What a client may choose from. PLAIN and OAUTHBEARER show what they have to whoever
        listens."""
        private = self._plain_anywhere or listener in self._encrypted or is_this_machine(host)
        enabled = self._settings(listener).list("sasl.enabled.mechanisms")
        return [each for each in enabled if each not in (PLAIN, OAUTHBEARER) or private]

    def _settings(self, listener: str) -> BrokerConfig:
        if listener not in self._of:
            self._of[listener] = self._config.for_listener(listener)
        return self._of[listener]

    def lifetime_s(self, listener: str) -> float:
        """How long a session may last without another login."""
        return self._settings(listener).int("connections.max.reauth.ms") / 1000 or float("inf")

    def verifier(self, mechanism: str, user: str) -> tuple[Verifier, Login | None]:
        """What a proof is checked by, and what a good one comes to. Of who is not there: what no proof
        fits, and None."""
        users = self.users
        known = users.of(user).get(mechanism)
        if known is not None:
            keys = known.salt, known.iterations, known.stored_key, known.server_key
            return Verifier(*keys), Login(user, mechanism, known)
        said = f"{mechanism} {user}".encode()
        salt = hmac.digest(users.phantom_key or self._own_key, said, "sha512")[:SALT_BYTES]
        return Verifier(salt, ITERATIONS_MIN, os.urandom(64), b""), None

    async def check_password(self, said: PlainMessage) -> Login | None:
        """The login that a password comes to, if any. A few milliseconds in a thread, unless it was good a
        while ago."""
        known = self.users.of(said.user)
        mechanism = next((each for each in _STRONGEST_FIRST if each in known), _STRONGEST_FIRST[0])
        verifier, login = self.verifier(mechanism, said.user)
        key = hmac.digest(self._own_key, said.user.encode() + b"\0" + said.password, "sha256")
        good, until = self._known.get(key, (None, 0.0))
        if login is not None and good == login.credential and trio.current_time() < until:
            return login
        if self._hashing is None:
            self._hashing = trio.CapacityLimiter(HASHING_AT_ONCE)
        work = partial(salted, mechanism, said.password, verifier.salt, verifier.iterations)
        keys = keys_of(mechanism, await trio.to_thread.run_sync(work, limiter=self._hashing))
        fits = hmac.compare_digest(keys.stored_key, verifier.stored_key)
        if login is None or not fits:
            return None
        if len(self._known) >= KNOWN_MAX:
            del self._known[next(iter(self._known))]
        self._known[key] = login.credential, trio.current_time() + KNOWN_FOR_S
        return login

    def note_old(self, host: str) -> None:
        """A client whose nonce is not what the standard says."""
        if host not in self._old and len(self._old) < OLD_MAX:
            self._old.add(host)
            log.warning("a client at %s sends SCRAM's nonce twice, as librdkafka did before 2.6.1", host)

    # What is refused

    async def wait_for_turn(self, host: str) -> None:
        """Before a login is judged: who has been refused often waits."""
        if self.refusals_of(host) > REFUSALS_MAX:
            await trio.sleep(SUSPECT_WAIT_S)

    def note_refusal(self, host: str) -> int:
        """Count it; how many it were of late."""
        if len(self._refusals) >= SUSPECTS_MAX and host not in self._refusals:
            del self._refusals[next(iter(self._refusals))]
        times = self._refusals.setdefault(host, [])
        times.append(trio.current_time())
        del times[: -REFUSALS_MAX - 1]
        return self.refusals_of(host)

    def refusals_of(self, host: str) -> int:
        since = trio.current_time() - REFUSALS_WITHIN_S
        return sum(at > since for at in self._refusals.get(host, ()))

    async def hold(self, asked_at: float) -> None:
        """Until a refusal may be answered."""
        spread = random.uniform(-REFUSED_SPREAD_S, REFUSED_SPREAD_S)
        await trio.sleep_until(asked_at + REFUSED_AFTER_S + spread)
