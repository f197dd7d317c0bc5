"""The picture of the log: subjects, their versions, ids, levels and modes.

Entries go in in the order of the log, and nothing else changes it. It raises nothing for an entry, whoever
wrote it: what does not fit is counted and passed over.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Final

from raftlog.registry.records import (
    Entry,
    LevelSet,
    ModeSet,
    Noop,
    Schema,
    SubjectCleared,
    SubjectDeleted,
    Version,
    VersionGone,
)

LEVEL_DEFAULT: Final = "BACKWARD"
MODE_DEFAULT: Final = "READWRITE"
ITEM_SIZE: Final = 500
"""What an item takes beside its text: a version, a reference, a level, a mode."""


class State:
    def __init__(self) -> None:
        self.id_max = 0
        """The largest id that was ever given."""
        self.size = 0
        """About the characters that all of it takes: each schema once, each version, each setting."""
        self.conflicts = 0
        """Versions whose id stands for another schema: two programs have written that know nothing of each
        other."""
        self.levels: dict[str | None, LevelSet] = {}
        self.modes: dict[str | None, str] = {}
        self._subjects: dict[str, dict[int, Version]] = {}
        self._schemas: dict[int, Schema] = {}
        self._uses: dict[int, set[tuple[str, int]]] = {}
        self._ids: dict[Schema, list[int]] = {}
        self._referrers: dict[tuple[str, int], set[tuple[str, int]]] = {}

    def __repr__(self) -> str:
        return f"<State {len(self._subjects)} subjects, {len(self._schemas)} schemas, id_max={self.id_max}>"

    # -- from the log

    def apply(self, entry: Entry) -> None:
        match entry:
            case Version():
                self._put(entry)
            case VersionGone(subject, number):
                self._remove(subject, number)
            case SubjectDeleted(subject, number):
                for version in self._versions(subject):
                    if version.number <= number and not version.deleted:
                        self._put(replace(version, deleted=True))
            case SubjectCleared(subject):
                for version in [one for one in self._versions(subject) if one.deleted]:
                    self._remove(subject, version.number)
            case LevelSet(subject, level, normalize):
                if self.levels.pop(subject, None) is not None:
                    self.size -= size_of_item(subject)
                if level is not None or normalize is not None:
                    self.levels[subject] = entry
                    self.size += size_of_item(subject)
            case ModeSet(subject, mode):
                if self.modes.pop(subject, None) is not None:
                    self.size -= size_of_item(subject)
                if mode is not None:
                    self.modes[subject] = mode
                    self.size += size_of_item(subject)
            case Noop(id_max):
                self.id_max = max(self.id_max, id_max)

    def _put(self, version: Version) -> None:
        self._remove(version.subject, version.number)
        self.id_max = max(self.id_max, version.id)
        known = self._schemas.get(version.id)
        if known is None:
            self._schemas[version.id] = version.schema
            self._ids.setdefault(version.schema, []).append(version.id)
            self.size += size_of_schema(version.schema)
        elif known == version.schema:
            version = replace(version, schema=known)  # one copy of the text
        else:
            self.conflicts += 1
        key = (version.subject, version.number)
        self._uses.setdefault(version.id, set()).add(key)
        for reference in version.schema.references:
            self._referrers.setdefault((reference.subject, reference.version), set()).add(key)
        self._subjects.setdefault(version.subject, {})[version.number] = version
        self.size += size_of_item(version.subject)

    def _remove(self, subject: str, number: int) -> None:
        version = self._subjects.get(subject, {}).pop(number, None)
        if version is None:
            return
        if not self._subjects[subject]:
            del self._subjects[subject]
        self.size -= size_of_item(subject)
        for reference in version.schema.references:
            target = (reference.subject, reference.version)
            self._referrers[target].discard((subject, number))
            if not self._referrers[target]:
                del self._referrers[target]
        uses = self._uses[version.id]
        uses.discard((subject, number))
        if not uses:
            del self._uses[version.id]
            schema = self._schemas.pop(version.id)
            self.size -= size_of_schema(schema)
            self._ids[schema].remove(version.id)
            if not self._ids[schema]:
                del self._ids[schema]

    # -- what is asked

    def subjects(self, *, deleted: bool = False) -> list[str]:
        """In order. `deleted`: those too that have no other versions but deleted ones."""
        return sorted(name for name in self._subjects if deleted or self.versions(name))

    def versions(self, subject: str, *, deleted: bool = False) -> list[Version]:
        """In order; none for an unknown subject."""
        return [one for one in self._versions(subject) if deleted or not one.deleted]

    def version(self, subject: str, number: int, *, deleted: bool = False) -> Version | None:
        found = self._subjects.get(subject, {}).get(number)
        return found if found is not None and (deleted or not found.deleted) else None

    def latest(self, subject: str, *, deleted: bool = False) -> Version | None:
        return max(self.versions(subject, deleted=deleted), key=lambda one: one.number, default=None)

    def find(self, subject: str, schema: Schema, *, deleted: bool = False) -> Version | None:
        """The newest version that is this schema."""
        for version in reversed(self.versions(subject, deleted=deleted)):
            if version.schema == schema:
                return version
        return None

    def schema(self, id: int) -> Schema | None:
        return self._schemas.get(id)

    def id_of(self, schema: Schema) -> int | None:
        """The id that a schema has under whatever subject."""
        return min(self._ids.get(schema, ()), default=None)

    def uses(self, id: int, *, deleted: bool = False) -> list[Version]:
        """Where an id stands."""
        found = (self.version(subject, number, deleted=deleted) for subject, number in self._uses.get(id, ()))
        return sorted((one for one in found if one), key=lambda one: (one.subject, one.number))

    def referrers(self, subject: str, number: int, *, deleted: bool = False) -> list[Version]:
        """The versions that refer to one."""
        keys = sorted(self._referrers.get((subject, number), ()))
        return [one for key in keys if (one := self.version(*key, deleted=deleted)) is not None]

    def level(self, subject: str) -> str:
        """What is in force for a subject."""
        for name in (subject, None):
            if (found := self.levels.get(name)) is not None and found.level is not None:
                return found.level
        return LEVEL_DEFAULT

    def normalizes(self, subject: str) -> bool:
        for name in (subject, None):
            if (found := self.levels.get(name)) is not None and found.normalize is not None:
                return found.normalize
        return False

    def mode(self, subject: str) -> str:
        return self.modes.get(subject) or self.modes.get(None) or MODE_DEFAULT

    def next_number(self, subject: str) -> int:
        return max(self._subjects.get(subject, {}), default=0) + 1

    def _versions(self, subject: str) -> list[Version]:
        return sorted(self._subjects.get(subject, {}).values(), key=lambda one: one.number)

    def all(self, *, deleted: bool = False) -> Iterator[Version]:
        for subject in sorted(self._subjects):
            yield from self.versions(subject, deleted=deleted)


def size_of_schema(schema: Schema) -> int:
    """A schema's part of `State.size`."""
    return len(schema.text) + sum(ITEM_SIZE + len(one.name) + len(one.subject) for one in schema.references)


def size_of_item(subject: str | None) -> int:
    """A version's part, or that of a subject's level or mode."""
    return ITEM_SIZE + len(subject or "")
