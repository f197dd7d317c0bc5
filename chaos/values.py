"""What is written: values that are unique, and that tell by themselves who wrote them and whether they are
whole."""

from __future__ import annotations

import hashlib
from typing import Final

PADDING_MAX: Final = 400
"""Bytes: small enough for many records, and of different lengths."""
UNKNOWN: Final = "?"
"""Begins what is written down of a value that nobody can have written."""
SHOWN_MAX: Final = 60
KEYS: Final = 20
"""Of a writer, for who counts."""


def value_of(name: str) -> bytes:
    """The bytes for a name, `writer:number`, with padding of a length and a content that follow from it."""
    head = f"{name}:".encode()
    digest = hashlib.blake2b(head, digest_size=32).hexdigest().encode()
    return head + (digest * 7)[: int(digest[:4], 16) % PADDING_MAX]


def name_of(value: bytes | None) -> str:
    """The name that these bytes were made of; what is damaged or not ours begins with a question mark."""
    try:
        name, _, _ = (value or b"").decode("ascii").rpartition(":")
    except UnicodeDecodeError:
        name = ""
    if name and value_of(name) == value:
        return name
    return f"{UNKNOWN}{'nothing' if value is None else value[:SHOWN_MAX].hex()}"


def key_of(name: str) -> str:
    """The key that a stream processing app counts a value under."""
    writer, _, number = name.rpartition(":")
    return f"{writer}-{int(number) % KEYS}" if number.isdigit() else UNKNOWN


def number_of(name: str) -> int:
    """The place of a value among those of its writer."""
    return int(name.rpartition(":")[2])
