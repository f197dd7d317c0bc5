"""The table of users: what is known of each to check a login by, and no password.

A credential is what RFC 5802 lets a server keep. Whoever reads one can pose as the server, and can try
guesses of the password at home: snapshots and logs are the broker's own to read.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final

import cbor2

from raftlog.metadata import codec


@dataclass(frozen=True, slots=True)
class Credential:
    """What a password and a salt came to (RFC 5802, section 3)."""

    salt: bytes
    iterations: int
    stored_key: bytes = field(repr=False)
    server_key: bytes = field(repr=False)


_NONE: Final[Mapping[str, Credential]] = MappingProxyType({})


class Users:
    """All users that have a password."""

    def __init__(self) -> None:
        self._users: dict[str, dict[str, Credential]] = {}
        self.phantom_key = b""
        """What challenges for users that are not there are made from: the same on every broker, and for ever.
        Empty until the first command of users."""
        self.revision = object()
        """Another object after every change, and after a snapshot has replaced the table."""

    def __len__(self) -> int:
        return len(self._users)

    def __iter__(self) -> Iterator[str]:
        return iter(self._users)

    def __contains__(self, user: object) -> bool:
        return user in self._users

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, Users) and self._users == other._users and self.phantom_key == other.phantom_key
        )

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"<Users {len(self._users)}>"

    @property
    def has_begun(self) -> bool:
        """Whether there has ever been a user."""
        return bool(self.phantom_key)

    def of(self, user: str) -> Mapping[str, Credential]:
        """A user's credentials by mechanism; empty when there is no such user."""
        return self._users.get(user, _NONE)

    def put(self, user: str, mechanism: str, credential: Credential) -> None:
        self._users.setdefault(user, {})[mechanism] = credential
        self.revision = object()

    def drop(self, user: str, mechanism: str) -> bool:
        """Whether it was there."""
        known = self._users.get(user)
        if known is None or known.pop(mechanism, None) is None:
            return False
        if not known:
            del self._users[user]
        self.revision = object()
        return True

    def rows(self) -> list[Row]:
        return [
            (user, mechanism, credential)
            for user, known in self._users.items()
            for mechanism, credential in known.items()
        ]

    def canonical(self) -> bytes:
        return b"".join(map(_encoded, sorted(self.rows(), key=lambda row: row[:2])))

    def begin_image(self) -> UsersEncoding:
        return UsersEncoding(self.rows())


Row = tuple[str, str, Credential]


def _encoded(row: Row) -> bytes:
    user, mechanism, known = row
    return cbor2.dumps([user, mechanism, known.salt, known.iterations, known.stored_key, known.server_key])


class UsersEncoding:
    """The table on its way into an image, as it was when that was begun."""

    def __init__(self, rows: list[Row]) -> None:
        self._left = rows
        self._done: list[bytes] = []

    def encode_some(self, cost_max: int) -> int:
        while self._left and cost_max > 0:
            cost_max -= 1
            self._done.append(_encoded(self._left.pop()))
        return 0 if self._left else max(cost_max, 1)

    def take_image(self) -> list[bytes]:
        assert not self._left, len(self._left)
        return codec.array_of(self._done)
