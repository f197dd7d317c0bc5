"""Users: who may log in, by which mechanism, checked by what.

Must not know: passwords. Whoever takes a change from a client makes the two keys of it and proposes those
alone. What a user may do is not said here.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar, Final

from raftlog.errors import InvalidInput
from raftlog.metadata.catalog import Catalog
from raftlog.metadata.noun import Command, Field, Noun, Refusal, Refused, Result, Table
from raftlog.metadata.user_table import Credential
from raftlog.types import RaftIndex

USERS_LEVEL: Final = 9

USERS_MAX: Final = 20_000
"""With two credentials each they are an eighth of a full catalog."""
USER_BYTES_MAX: Final = 255
"""Of a user's name in UTF-8."""
KEY_BYTES: Final = {"SCRAM-SHA-256": 32, "SCRAM-SHA-512": 64}
"""The mechanisms, and how long their keys are."""
ITERATIONS_MIN: Final = 4096
ITERATIONS_MAX: Final = 16384
"""As Kafka has it: a client does this work at every login, and a broker for PLAIN."""
SALT_BYTES_MIN: Final = 8
SALT_BYTES_MAX: Final = 256
CHANGES_MAX: Final = 2000
"""Credentials in one command: some 400 kB, of the megabyte that one may have."""
PHANTOM_KEY_BYTES: Final = 32


@dataclass(frozen=True, slots=True)
class CredentialsAltered(Result):
    missing: tuple[tuple[str, str], ...]
    """(user, mechanism) of those that were to be dropped and were not there."""


@dataclass(frozen=True, slots=True)
class NewCredential:
    """What a user may log in with from here on, in place of what the user had for the mechanism."""

    user: str
    mechanism: str
    salt: bytes
    iterations: int
    stored_key: bytes = field(repr=False)
    server_key: bytes = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class AlterCredentials(Command):
    """Sets and drops credentials, all or nothing. A user without any is gone."""

    kind: ClassVar[str] = "alter_credentials"
    needs_level: ClassVar[int] = USERS_LEVEL
    changes_topology: ClassVar[bool] = False
    phantom_key: bytes = field(repr=False)
    """Random; kept if it is the first one."""
    put: tuple[NewCredential, ...] = ()
    drop: tuple[tuple[str, str], ...] = ()
    """(user, mechanism)"""
    only_first: bool = False
    """Nothing happens when there has been a user before: what founds a cluster is proposed by every broker,
    and again at every start."""

    def no_room(self, catalog: Catalog, size: int) -> str | None:
        more = {new.user for new in self.put if new.user not in catalog.users}
        if more and len(catalog.users) + len(more) > USERS_MAX:
            return f"there are {len(catalog.users)} users, and {USERS_MAX} are the most"
        return None

    def apply(self, catalog: Catalog, index: RaftIndex) -> Result:
        if self.only_first and catalog.users.has_begun:
            return CredentialsAltered(())
        problem = next(filter(None, map(credential_problem, self.put)), None)
        if problem is None and len(self.phantom_key) != PHANTOM_KEY_BYTES:
            problem = f"a phantom key of {len(self.phantom_key)} bytes"
        if problem is not None:
            return Refused(Refusal.INVALID_VALUE, problem)
        users = catalog.users
        users.phantom_key = users.phantom_key or self.phantom_key
        missing = [each for each in self.drop if not users.drop(*each)]
        for new in self.put:
            known = Credential(new.salt, new.iterations, new.stored_key, new.server_key)
            users.put(new.user, new.mechanism, known)
        return CredentialsAltered(tuple(missing))


def name_problem(user: str) -> str | None:
    """Why nobody can have this name, or None."""
    size = len(user.encode())
    return None if 0 < size <= USER_BYTES_MAX else f"a user's name of {size} bytes: 1 to {USER_BYTES_MAX}"


def credential_problem(new: NewCredential) -> str | None:
    """Why a credential is not taken, or None. It says nothing of the keys."""
    size = KEY_BYTES.get(new.mechanism)
    if (problem := name_problem(new.user)) is not None:
        return problem
    if size is None:
        return f"{new.mechanism[:60]!r} is no mechanism of users: those are {', '.join(KEY_BYTES)}"
    if not ITERATIONS_MIN <= new.iterations <= ITERATIONS_MAX:
        few = "few" if new.iterations < ITERATIONS_MIN else "many"
        return f"too {few} iterations, {new.iterations}: {ITERATIONS_MIN} to {ITERATIONS_MAX} are taken"
    if not SALT_BYTES_MIN <= len(new.salt) <= SALT_BYTES_MAX:
        return f"a salt of {len(new.salt)} bytes: {SALT_BYTES_MIN} to {SALT_BYTES_MAX} are taken"
    if len(new.stored_key) != size or len(new.server_key) != size:
        return f"{new.mechanism} has keys of {size} bytes"
    return None


def _put(catalog: Catalog, plain: object) -> None:
    for row in plain if isinstance(plain, list) else [plain]:
        match row:
            case [
                str(user),
                str(mechanism),
                bytes(salt),
                int(iterations),
                bytes(stored_key),
                bytes(server_key),
            ]:
                credential = Credential(salt, iterations, stored_key, server_key)
                catalog.users.put(user, mechanism, credential)
            case _:  # without the row: there are keys in it
                raise InvalidInput(f"a credential is a row of six, not a {type(row).__name__}")


def _put_phantom_key(catalog: Catalog, key: bytes) -> None:
    catalog.users.phantom_key = key


USERS: Final = Noun(
    commands=(AlterCredentials,),
    fields=(
        Field(
            name="phantom_key",
            form=bytes,
            get=lambda catalog: catalog.users.phantom_key,
            put=_put_phantom_key,
            is_optional=True,
        ),
    ),
    table=Table(
        begin=lambda catalog: catalog.users.begin_image(),
        canonical=lambda catalog: catalog.users.canonical(),
        put=_put,
        since_version=6,
        is_empty=lambda catalog: not catalog.users,
    ),
)
