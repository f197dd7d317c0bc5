"""Users of the cluster who show their password with each request: `Authorization: Basic` (RFC 7617).

What a password was found to be is remembered by a digest of the header, so that the next request of the same
page costs nothing; the person is asked for each time whether it still holds.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import os
from collections import OrderedDict
from typing import Final, Protocol

from raftlog.http.messages import Head, Refusal
from raftlog.net.hosts import is_this_machine
from raftlog.rights import Operation, ResourceKind

REMEMBERED_MAX: Final = 200
HEADER_CHARACTERS_MAX: Final = 4096


class Person(Protocol):
    """See `raftlog.broker.people.Person`."""

    principal: str

    @property
    def is_known(self) -> bool: ...
    def may(self, host: str, operation: Operation, kind: ResourceKind, name: str) -> bool: ...


class Directory(Protocol):
    """See `raftlog.broker.people.People`."""

    async def log_in(self, user: str, password: bytes, host: str) -> Person | None: ...


class Visitors:
    """Who has shown a password."""

    def __init__(self, directory: Directory) -> None:
        self._directory = directory
        self._key = os.urandom(32)
        self._known: OrderedDict[bytes, Person] = OrderedDict()

    def __repr__(self) -> str:
        return f"<Visitors {len(self._known)}>"

    async def recognize(self, head: Head) -> None:
        """Check the password of a request that has one. Raises Refusal for a wrong one, after a while, and
        for one that others could read."""
        text = _basic(head)
        if text is None or self.person_of(head) is not None:
            return
        if not is_this_machine(head.peer):
            raise Refusal(
                403,
                "FORBIDDEN",
                "a password is not taken on a connection that others can read: HTTP is not in TLS here",
            )
        user, password = _decoded(text)
        person = await self._directory.log_in(user, password, head.peer)
        if person is None:
            raise Refusal(401, "UNAUTHENTICATED", "user or password is wrong")
        if not person.is_known:
            raise Refusal(503, "TIMED_OUT", "the metadata leader is not heard", retriable=True)
        if len(self._known) >= REMEMBERED_MAX:
            self._known.popitem(last=False)
        self._known[self._digest(text)] = person

    def person_of(self, head: Head) -> Person | None:
        """Who asks, if that was found out before and still holds."""
        text = _basic(head)
        person = None if text is None else self._known.get(self._digest(text))
        return person if person is not None and person.is_known else None

    def _digest(self, text: str) -> bytes:
        return hmac.digest(self._key, text.encode(errors="replace"), hashlib.sha256)


def _basic(head: Head) -> str | None:
    scheme, _, text = head.headers.get("authorization", "").partition(" ")
    return text.strip() if scheme.lower() == "basic" else None


def _decoded(text: str) -> tuple[str, bytes]:
    """Raises Refusal, without a word of what is in it."""
    try:
        if len(text) > HEADER_CHARACTERS_MAX:
            raise ValueError
        user, colon, password = base64.b64decode(text, validate=True).partition(b":")
        if not colon or not user:
            raise ValueError
        return user.decode(), password
    except (ValueError, binascii.Error):
        raise Refusal(400, "BAD_REQUEST", "Authorization: Basic has USER:PASSWORD in base64") from None
