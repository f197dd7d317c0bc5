"""What a record of `_schemas` says, as Confluent's registry writes it: a key and a value in JSON.

Compaction keeps the last record of a key, and compares keys as bytes: the order of a key's fields is a part
of the format. Nothing here knows what came before.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

AVRO: Final = "AVRO"
INT32_MAX: Final = 2**31 - 1


class NoEntry(ValueError):
    """A record that says nothing that is known here."""


@dataclass(frozen=True, slots=True)
class Reference:
    """What a schema calls `name` is another subject's version."""

    name: str
    subject: str
    version: int

    def to_json(self) -> dict[str, Any]:
        return {"name": self.name, "subject": self.subject, "version": self.version}


@dataclass(frozen=True, slots=True)
class Schema:
    """A schema in the form that is stored. Two that are equal have one id."""

    type: str
    text: str
    references: tuple[Reference, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """As answers and records have it: an Avro schema says neither its type nor that it has no
        references."""
        said: dict[str, Any] = {} if self.type == AVRO else {"schemaType": self.type}
        if self.references:
            said["references"] = [reference.to_json() for reference in self.references]
        return {**said, "schema": self.text}


@dataclass(frozen=True, slots=True)
class Version:
    """A schema under a subject. One that is deleted softly is `deleted`."""

    subject: str
    number: int
    id: int
    schema: Schema
    deleted: bool = False

    def to_json(self) -> dict[str, Any]:
        return {"subject": self.subject, "version": self.number, "id": self.id, **self.schema.to_json()}


@dataclass(frozen=True, slots=True)
class VersionGone:
    """A version was deleted for good."""

    subject: str
    number: int


@dataclass(frozen=True, slots=True)
class SubjectDeleted:
    """Every version of a subject up to `number` was deleted softly."""

    subject: str
    number: int


@dataclass(frozen=True, slots=True)
class SubjectCleared:
    """Every version of a subject that was deleted softly is gone."""

    subject: str


@dataclass(frozen=True, slots=True)
class LevelSet:
    """A compatibility level, of a subject or, for None, of all that have none; a level of None is gone."""

    subject: str | None
    level: str | None
    normalize: bool | None = None


@dataclass(frozen=True, slots=True)
class ModeSet:
    """A mode, likewise."""

    subject: str | None
    mode: str | None


@dataclass(frozen=True, slots=True)
class Noop:
    """Confluent's registry writes it, empty, to find the end of the log. Here it keeps the largest id that
    was ever given, since the record with that id may be deleted, and compacted away."""

    id_max: int = 0


Entry = Version | VersionGone | SubjectDeleted | SubjectCleared | LevelSet | ModeSet | Noop


def encode(entry: Entry) -> tuple[bytes, bytes | None]:
    """A record's key and value."""
    match entry:
        case Version():
            value = {**entry.to_json(), "deleted": entry.deleted}
            return _schema_key(entry.subject, entry.number), _json(value)
        case VersionGone(subject, number):
            return _schema_key(subject, number), None
        case SubjectDeleted(subject, number):
            return _key("DELETE_SUBJECT", subject=subject), _json({"subject": subject, "version": number})
        case SubjectCleared(subject):
            return _key("CLEAR_SUBJECT", subject=subject), _json({"subject": subject})
        case LevelSet(subject, None, None):
            return _key("CONFIG", subject=subject), None
        case LevelSet(subject, level, normalize):
            said = {"subject": subject, "compatibilityLevel": level, "normalize": normalize}
            return _key("CONFIG", subject=subject), _json(
                {key: value for key, value in said.items() if value is not None}
            )
        case ModeSet(subject, None):
            return _key("MODE", subject=subject), None
        case ModeSet(subject, mode):
            return _key("MODE", subject=subject), _json({"subject": subject, "mode": mode})
        case Noop(id_max):
            return _key("NOOP"), _json({"idMax": id_max}) if id_max else None


def decode(key: bytes | None, value: bytes | None) -> Entry:
    """What a record says. Raises NoEntry for one that no registry of this format writes."""
    try:
        said = _object(key)
        what, magic = said["keytype"], said["magic"]
        if magic not in (0, 1):
            raise NoEntry(f"magic {magic!r}")
        content = None if value is None else _object(value)
        return _decoded(what, said, content)
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise NoEntry(f"{type(error).__name__}: {error}") from error


def _decoded(what: str, key: Mapping[str, Any], value: Mapping[str, Any] | None) -> Entry:
    match what:
        case "SCHEMA" if value is None:
            return VersionGone(_text(key["subject"]), _number(key["version"]))
        case "SCHEMA" if value is not None:
            return Version(
                subject=_text(key["subject"]),
                number=_number(key["version"]),
                id=_number(value["id"]),
                schema=schema_of(value),
                deleted=bool(value.get("deleted", False)),
            )
        case "CONFIG":
            level, normalize = (value or {}).get("compatibilityLevel"), (value or {}).get("normalize")
            return LevelSet(
                _subject(key),
                None if level is None else _text(level),
                None if normalize is None else bool(normalize),
            )
        case "MODE":
            return ModeSet(_subject(key), None if value is None else _text(value["mode"]))
        case "DELETE_SUBJECT" if value is not None:
            return SubjectDeleted(_text(key["subject"]), _number(value["version"]))
        case "CLEAR_SUBJECT" if value is not None:
            return SubjectCleared(_text(key["subject"]))
        case "NOOP":
            return Noop(_number((value or {}).get("idMax", 0)))
    raise NoEntry(f"keytype {what!r}")


def schema_of(said: Mapping[str, Any]) -> Schema:
    """The schema that a record's value, or a request's body, has. Raises KeyError, TypeError, ValueError."""
    references = tuple(
        Reference(_text(one["name"]), _text(one["subject"]), _number(one["version"]))
        for one in said.get("references") or ()
    )
    return Schema(_text(said.get("schemaType") or AVRO), _text(said["schema"]), references)


def _schema_key(subject: str, number: int) -> bytes:
    return _json({"keytype": "SCHEMA", "subject": subject, "version": number, "magic": 1})


def _key(what: str, **more: str | None) -> bytes:
    return _json({"keytype": what, **more, "magic": 0})


def _json(value: object) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


def _object(data: bytes | None) -> dict[str, Any]:
    found = json.loads(data or b"null")
    if not isinstance(found, dict):
        raise NoEntry("no JSON object")
    return found


def _subject(key: Mapping[str, Any]) -> str | None:
    return None if key.get("subject") is None else _text(key["subject"])


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{str(value)[:40]!r} is no text")
    value.encode()  # raises ValueError for half of a surrogate pair, which no record holds
    return value


def _number(value: object) -> int:
    if type(value) is not int or not 0 <= value <= INT32_MAX:
        raise ValueError(f"{str(value)[:40]} is no number from 0 to {INT32_MAX}")
    return value
