"""What SASL's mechanisms say, as bytes: PLAIN (RFC 4616), OAUTHBEARER (RFC 7628), and names of users.

It decides nothing: whether a password or a token is good is the broker's business. SCRAM has more to say and
is in `scram`.
"""

from __future__ import annotations

import stringprep
import unicodedata
from typing import Final, NamedTuple

from raftlog.errors import InvalidInput

PLAIN: Final = "PLAIN"
OAUTHBEARER: Final = "OAUTHBEARER"

PASSWORD_MESSAGE_MAX: Final = 4096
"""Bytes of a message of PLAIN or SCRAM: names of 255 bytes, a password, two nonces and a proof."""
TOKEN_MESSAGE_MAX: Final = 64 * 1024 - 512
"""Bytes of a message of OAUTHBEARER; with what is around it, it fits a request before the login."""

_SEPARATOR: Final = b"\x01"


class PlainMessage(NamedTuple):
    """What a client says in PLAIN."""

    user: str
    password: bytes

    def __repr__(self) -> str:
        return f"<PlainMessage of {self.user!r}>"


def read_plain(message: bytes) -> PlainMessage:
    """Raises InvalidInput, without a word of what is in it."""
    parts = message.split(b"\0")
    if len(message) > PASSWORD_MESSAGE_MAX or len(parts) != 3:
        raise InvalidInput("PLAIN: expected authzid NUL user NUL password")
    try:
        authorization, user = (part.decode() for part in parts[:2])
    except UnicodeDecodeError:
        raise InvalidInput("PLAIN: the user's name is not UTF-8") from None
    if not user or not parts[2]:
        raise InvalidInput("PLAIN: the user's name or the password is empty")
    check_authorization(authorization, user)
    return PlainMessage(prepared(user), parts[2])


def write_plain(user: str, password: str) -> bytes:
    return b"\0".join((b"", user.encode(), password.encode()))


def read_bearer(message: bytes) -> str:
    """The token that a client shows. Raises InvalidInput, without a word of it."""
    header, _, rest = message.partition(_SEPARATOR)
    fields = dict(each.partition(b"=")[::2] for each in rest.split(_SEPARATOR) if each)
    scheme, _, token = fields.get(b"auth", b"").partition(b" ")
    if len(message) > TOKEN_MESSAGE_MAX or scheme.lower() != b"bearer" or not token or not token.isascii():
        raise InvalidInput("OAUTHBEARER: expected a bearer token")
    if header not in (b"n,,", b"y,,"):
        raise InvalidInput("authorization as another user is not served")
    return token.strip().decode("ascii")


def write_bearer(token: str) -> bytes:
    return b"n,,\x01auth=Bearer " + token.encode() + b"\x01\x01"


def check_authorization(authorization: str, user: str) -> None:
    """Raises InvalidInput when a user wants to be another one."""
    if authorization not in ("", user):
        raise InvalidInput("authorization as another user is not served")


def prepared(name: str) -> str:
    """A user's name by SASLprep (RFC 4013): texts that look alike are one name. Raises InvalidInput for a
    name that has characters which no name has."""
    mapped = "".join(
        " " if stringprep.in_table_c12(char) else char for char in name if not stringprep.in_table_b1(char)
    )
    text = unicodedata.ucd_3_2_0.normalize("NFKC", mapped)
    if not text:
        raise InvalidInput("a user's name is empty")
    if any(forbidden(char) for char in text for forbidden in _FORBIDDEN):
        raise InvalidInput("a user's name with control characters, or others that no name has (RFC 4013)")
    if any(map(stringprep.in_table_d1, text)):  # written from right to left: RFC 3454, section 6
        ends = stringprep.in_table_d1(text[0]) and stringprep.in_table_d1(text[-1])
        if not ends or any(map(stringprep.in_table_d2, text)):
            raise InvalidInput("a user's name that is written in both directions (RFC 4013)")
    return text


_FORBIDDEN: Final = (
    stringprep.in_table_c12,
    stringprep.in_table_c21_c22,
    stringprep.in_table_c3,
    stringprep.in_table_c4,
    stringprep.in_table_c5,
    stringprep.in_table_c6,
    stringprep.in_table_c7,
    stringprep.in_table_c8,
    stringprep.in_table_c9,
)
