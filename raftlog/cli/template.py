"""How a record is printed: kcat's `-f` templates, its `-K`, its JSON. Pure.

A template is compiled once, to a list of functions that give bytes. kcat's meanings: a null is printed as
nothing, or as NULL with `-Z`; its length is -1.
"""

from __future__ import annotations

import base64
import json
import re
import struct
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from raftlog.client.record import Record

Print = Callable[["Record"], bytes]

_TOKEN: Final = re.compile(rb"%(.)|\\x([0-9a-fA-F]{2})|\\([0-7]{3})|\\(.)|([^%\\]+)|(.)", re.DOTALL)
_NO_LETTERS: Final = re.compile(rb"(?!)()|\\x([0-9a-fA-F]{2})|\\([0-7]{3})|\\(.)|([^\\]+)|(.)", re.DOTALL)
_ESCAPES: Final = {b"n": b"\n", b"t": b"\t", b"r": b"\r", b"0": b"\0", b"\\": b"\\"}


class BadTemplate(ValueError):
    """The template says something that has no meaning; the message says what has."""


def compile_template(template: str, *, null: bytes = b"") -> Print:
    """A function that prints a record: `%s` value, `%S` its length, `%R` the length in four bytes, `%k` key,
    `%K` its length, `%t` topic, `%p` partition, `%o` offset, `%T` timestamp in ms, `%h` headers, `%%`.

    Escapes are `\\n \\t \\r \\0 \\\\ \\xHH`. Raises BadTemplate.
    """
    parts: list[Print] = []
    literal = b""
    for letter, *text in _TOKEN.findall(template.encode()):
        if letter and letter != b"%":
            parts += [_constant(literal), _field(letter.decode(errors="replace"), null)]
            literal = b""
        else:
            literal += letter or _plain(*text)
    parts = [part for part in [*parts, _constant(literal)] if part is not _nothing]
    if len(parts) == 2:
        first, second = parts
        return lambda record: first(record) + second(record)
    return lambda record: b"".join([part(record) for part in parts])


def unescape(text: str) -> bytes:
    """What a delimiter says, with the escapes of templates. Raises BadTemplate."""
    return b"".join(_plain(*token) for _, *token in _NO_LETTERS.findall(text.encode()))


def _plain(hexadecimal: bytes, octal: bytes, escape: bytes, text: bytes, stray: bytes) -> bytes:
    """The bytes of a piece without letters."""
    if stray:
        raise BadTemplate(f"it ends with a lone {stray.decode()}")
    if escape and escape not in _ESCAPES:
        raise BadTemplate(f"\\{escape.decode(errors='replace')} is no escape: \\n \\t \\r \\0 \\\\ \\xHH are")
    if hexadecimal or octal:
        return bytes([int(hexadecimal, 16) if hexadecimal else int(octal, 8) & 255])
    return _ESCAPES.get(escape, text)


def _nothing(record: Record) -> bytes:
    return b""


def _constant(text: bytes) -> Print:
    return (lambda record: text) if text else _nothing


def _field(letter: str, null: bytes) -> Print:
    """The function of one `%` letter."""

    def length(value: bytes | None) -> int:
        return -1 if value is None else len(value)

    def headers(record: Record) -> bytes:
        return b",".join(name.encode() + b"=" + (b"NULL" if v is None else v) for name, v in record.headers)

    fields: dict[str, Print] = {
        "s": lambda record: null if record.value is None else record.value,
        "S": lambda record: b"%d" % length(record.value),
        "R": lambda record: struct.pack(">i", length(record.value)),
        "k": lambda record: null if record.key is None else record.key,
        "K": lambda record: b"%d" % length(record.key),
        "t": lambda record: record.topic.encode(),
        "p": lambda record: b"%d" % record.partition,
        "o": lambda record: b"%d" % record.offset,
        "T": lambda record: b"%d" % record.timestamp,
        "h": headers,
    }
    if letter not in fields:
        raise BadTemplate(f"%{letter} means nothing: {' '.join('%' + one for one in fields)} %% do")
    return fields[letter]


def keyed(between: bytes, *, null: bytes = b"") -> Print:
    """kcat's `-K`: the key, the delimiter, the value, a line."""
    return lambda record: (
        b"%b%b%b\n"
        % (
            null if record.key is None else record.key,
            between,
            null if record.value is None else record.value,
        )
    )


def as_json(record: Record) -> bytes:
    """kcat's JSON envelope, a line a record. What is not UTF-8 comes in base64, as `payload_base64`."""
    fields: dict[str, Any] = {
        "topic": record.topic,
        "partition": record.partition,
        "offset": record.offset,
        "ts": record.timestamp,
    }
    if record.headers:
        fields["headers"] = [text for name, value in record.headers for text in (name, _text(value))]
    for name, content in (("key", record.key), ("payload", record.value)):
        try:
            fields[name] = None if content is None else content.decode()
        except UnicodeDecodeError as error:
            fields[f"{name}_base64"] = base64.b64encode(error.object).decode()
    return json.dumps(fields, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"


def _text(value: bytes | None) -> str | None:
    return None if value is None else value.decode(errors="replace")
