"""SCRAM (RFC 5802, RFC 7677): a password is proved, and never sent. Both sides, as plain state machines.

A server knows of a password what cannot be turned round. It takes two forms of nonce: its own, and the
client's once more before it, which librdkafka sent before 2.6.1. Either holds the nonce that this server
made for this exchange, so that nothing that was recorded is taken again.

Passwords are bytes as clients send them, in UTF-8: the clients of Kafka do not normalize them.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import os
import re
from collections.abc import Callable
from typing import Final, NamedTuple

from raftlog.errors import InvalidInput
from raftlog.protocol.sasl import PASSWORD_MESSAGE_MAX, check_authorization, prepared

HASHES: Final = {"SCRAM-SHA-256": "sha256", "SCRAM-SHA-512": "sha512"}
"""The mechanisms, and what they hash by."""
NONCE_BYTES: Final = 24
SALT_BYTES: Final = 24
CLIENT_ITERATIONS_MIN: Final = 4096
CLIENT_ITERATIONS_MAX: Final = 1_000_000
"""What a client does at a server's word: half a second of work, at most."""

_CLIENT_FIRST: Final = re.compile(
    r"(?P<header>[ny],(?:a=(?P<authzid>[^,]*))?,)"
    r"(?P<bare>n=(?P<user>[^,]+),r=(?P<nonce>[\x21-\x2b\x2d-\x7e]+)(?:,.*)?)",
    re.DOTALL,
)
_CLIENT_FINAL: Final = re.compile(
    r"(?P<unproved>c=(?P<channel>[^,]*),r=(?P<nonce>[^,]+)(?:,.*)?),p=(?P<proof>[^,]*)", re.DOTALL
)
_SERVER_FIRST: Final = re.compile(
    r"r=(?P<nonce>[^,]+),s=(?P<salt>[^,]+),i=(?P<iterations>[0-9]{1,10})(?:,.*)?"
)


class Verifier(NamedTuple):
    """What a server checks a proof by."""

    salt: bytes
    iterations: int
    stored_key: bytes
    server_key: bytes


class Keys(NamedTuple):
    """What a server keeps of a password."""

    stored_key: bytes
    server_key: bytes


def salted(mechanism: str, password: bytes, salt: bytes, iterations: int) -> bytes:
    """A password with its salt. Takes milliseconds, by intention: in a thread, where that matters."""
    return hashlib.pbkdf2_hmac(HASHES[mechanism], password, salt, iterations)


def keys_of(mechanism: str, salted_password: bytes) -> Keys:
    name = HASHES[mechanism]
    client_key = hmac.digest(salted_password, b"Client Key", name)
    return Keys(hashlib.new(name, client_key).digest(), hmac.digest(salted_password, b"Server Key", name))


class ScramServer:
    """One exchange, at the server."""

    def __init__(self, mechanism: str, find: Callable[[str], Verifier], nonce: str | None = None) -> None:
        """`find` gives the verifier of a user: for one who is not there, one that nothing is proved by. The
        nonce is random, but where a test says it."""
        self._own_nonce = nonce or _random_nonce()
        self._hash = HASHES[mechanism]
        self._find = find
        self._verifier: Verifier | None = None
        self._header = ""
        self._said = ""
        self._client_nonce = self._nonce = ""
        self.user = ""
        """Who wants to log in, once that is said."""
        self.is_old = False
        """Whether the client sent its nonce twice."""

    def challenge(self, message: bytes) -> bytes:
        """The answer to a client's first message. Raises InvalidInput."""
        found = _CLIENT_FIRST.fullmatch(_text(message))
        if found is None:
            if message.startswith(b"p="):
                raise InvalidInput("SCRAM with channel binding is not served")
            raise InvalidInput("SCRAM: this is no first message")
        name = _unescaped(found["user"])
        check_authorization(_unescaped(found["authzid"] or ""), name)
        self.user = prepared(name)
        self._header, self._client_nonce = found["header"], found["nonce"]
        self._nonce = self._client_nonce + self._own_nonce
        self._verifier = verifier = self._find(self.user)
        salt = base64.b64encode(verifier.salt).decode()
        challenge = f"r={self._nonce},s={salt},i={verifier.iterations}"
        self._said = f"{found['bare']},{challenge}"
        return challenge.encode()

    def judge(self, message: bytes) -> bytes | None:
        """The answer to a client's last message: what proves the server, or None for a proof that is none.
        Raises InvalidInput."""
        assert self._verifier is not None, "no challenge was given"
        found = _CLIENT_FINAL.fullmatch(_text(message))
        if found is None:
            raise InvalidInput("SCRAM: this is no last message")
        if not hmac.compare_digest(_decoded(found["channel"]), self._header.encode()):
            raise InvalidInput("SCRAM: the channel is not that of the first message")
        shown, wanted = found["nonce"].encode(), self._nonce.encode()
        self.is_old = hmac.compare_digest(shown, self._client_nonce.encode() + wanted)
        if not (hmac.compare_digest(shown, wanted) or self.is_old):
            raise InvalidInput("SCRAM: the nonce is not that of this exchange")
        verifier, said = self._verifier, f"{self._said},{found['unproved']}".encode()
        signature = hmac.digest(verifier.stored_key, said, self._hash)
        client_key = _xor(_decoded(found["proof"]), signature)
        if not hmac.compare_digest(hashlib.new(self._hash, client_key).digest(), verifier.stored_key):
            return None
        return b"v=" + base64.b64encode(hmac.digest(verifier.server_key, said, self._hash))


class ScramClient:
    """One exchange, at the client."""

    def __init__(self, mechanism: str, user: str, password: str, nonce: str | None = None) -> None:
        self._mechanism = mechanism
        self._hash = HASHES[mechanism]
        self._password = password.encode()
        self._nonce = nonce or _random_nonce()
        self._bare = f"n={_escaped(user)},r={self._nonce}"
        self._expected = b""

    def first(self) -> bytes:
        return f"n,,{self._bare}".encode()

    def prove(self, challenge: bytes) -> bytes:
        """The answer to a server's challenge. Raises InvalidInput for one that no good server gives. Takes
        milliseconds."""
        found = _SERVER_FIRST.fullmatch(_text(challenge))
        if found is None:
            raise InvalidInput("SCRAM: the server's challenge is none")
        salt, iterations = _decoded(found["salt"]), int(found["iterations"])
        if not found["nonce"].startswith(self._nonce) or found["nonce"] == self._nonce:
            raise InvalidInput("SCRAM: the server does not add to the nonce")
        if not CLIENT_ITERATIONS_MIN <= iterations <= CLIENT_ITERATIONS_MAX or not salt:
            raise InvalidInput(
                f"SCRAM: the server asks for {iterations} iterations with a salt of {len(salt)} bytes;"
                f" {CLIENT_ITERATIONS_MIN} to {CLIENT_ITERATIONS_MAX} and a salt are taken"
            )
        salted_password = salted(self._mechanism, self._password, salt, iterations)
        unproved = f"c={base64.b64encode(b'n,,').decode()},r={found['nonce']}"
        said = b",".join((self._bare.encode(), challenge, unproved.encode()))
        keys = keys_of(self._mechanism, salted_password)
        signature = hmac.digest(keys.stored_key, said, self._hash)
        proof = _xor(hmac.digest(salted_password, b"Client Key", self._hash), signature)
        self._expected = b"v=" + base64.b64encode(hmac.digest(keys.server_key, said, self._hash))
        return f"{unproved},p={base64.b64encode(proof).decode()}".encode()

    def check(self, answer: bytes) -> None:
        """Whether the server knows the user as well. Raises InvalidInput when it does not."""
        if not self._expected or not hmac.compare_digest(answer.split(b",")[0], self._expected):
            raise InvalidInput(
                "SCRAM: the server does not prove that it knows this user: is it the right one?"
            )


def _random_nonce() -> str:
    return base64.b64encode(os.urandom(NONCE_BYTES)).decode()


def _text(message: bytes) -> str:
    if len(message) > PASSWORD_MESSAGE_MAX:
        raise InvalidInput(f"SCRAM: a message of {len(message)} bytes; {PASSWORD_MESSAGE_MAX} are the most")
    try:
        return message.decode()
    except UnicodeDecodeError:
        raise InvalidInput("SCRAM: a message that is not UTF-8") from None


def _decoded(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise InvalidInput("SCRAM: a field that is not base64") from None


def _escaped(name: str) -> str:
    return name.replace("=", "=3D").replace(",", "=2C")


def _unescaped(name: str) -> str:
    if re.search("=(?!2C|3D)", name):
        raise InvalidInput("SCRAM: a name in which an equals sign is not escaped")
    return name.replace("=2C", ",").replace("=3D", "=")


def _xor(left: bytes, right: bytes) -> bytes:
    """As long as `right`: a proof of another length is none."""
    left = left if len(left) == len(right) else bytes(len(right))
    return bytes(a ^ b for a, b in zip(left, right, strict=True))
