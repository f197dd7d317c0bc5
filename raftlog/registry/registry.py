"""What is asked of a registry: register, look up, compare, delete, and the levels and modes.

What is not there is looked for once more at the end of the log before anybody is told so, since another
registry may have written it. What is there is answered at once: an id never comes to mean anything else.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Final, TypeVar

from raftlog.registry import refusals
from raftlog.registry.formats import MODULES, Invalid, Source
from raftlog.registry.reader import Reader
from raftlog.registry.records import (
    INT32_MAX,
    Entry,
    LevelSet,
    ModeSet,
    Noop,
    Schema,
    SubjectDeleted,
    Version,
    VersionGone,
)
from raftlog.registry.refusals import Refused
from raftlog.registry.state import LEVEL_DEFAULT, MODE_DEFAULT, State, size_of_item, size_of_schema
from raftlog.registry.topic import Commit, NotStored, SchemasTopic, TooLarge, Unknown

LEVELS: Final = (
    "NONE",
    *(f"{way}{more}" for way in ("BACKWARD", "FORWARD", "FULL") for more in ("", "_TRANSITIVE")),
)
MODES: Final = ("READWRITE", "READONLY", "READONLY_OVERRIDE", "IMPORT")
TYPES: Final = ("JSON", "PROTOBUF", "AVRO")
SUBJECT_CHARACTERS_MAX: Final = 1024
REFERENCES_MAX: Final = 256
"""Schemas that one may refer to, those that these refer to included."""
REFERENCES_CHARACTERS_MAX: Final = 8 << 20
SIZE_MAX: Final = 256 << 20
"""Of the state, which is kept in memory: `State.size`."""

T = TypeVar("T")


class Registry:
    def __init__(self, topic: SchemasTopic, reader: Reader) -> None:
        self._topic = topic
        self._reader = reader

    @property
    def state(self) -> State:
        return self._topic.state

    # -- looking up

    async def found(self, look: Callable[[], T | None]) -> T | None:
        """What is there, at the latest at the end of the log. Raises Refused when that cannot be told."""
        if (found := look()) is not None:
            return found
        try:
            await self._topic.catch_up()
        except NotStored as error:
            raise Refused(50002, str(error)) from error
        return look()

    async def versions(self, subject: str, *, deleted: bool = False) -> list[Version]:
        """Raises Refused for an unknown subject."""
        found = await self.found(lambda: self.state.versions(subject, deleted=deleted) or None)
        if found is None:
            raise refusals.subject_unknown(subject)
        return found

    async def version(self, subject: str, number: int | None, *, deleted: bool = False) -> Version:
        """The latest for None. Raises Refused."""

        def look() -> Version | None:
            if number is None:
                return self.state.latest(subject, deleted=deleted)
            return self.state.version(subject, number, deleted=deleted)

        if (found := await self.found(look)) is None:
            if not self.state.versions(subject, deleted=deleted):
                raise refusals.subject_unknown(subject)
            raise refusals.version_unknown(number)
        return found

    async def schema(self, id: int) -> Schema:
        """Raises Refused."""
        if (found := await self.found(lambda: self.state.schema(id))) is None:
            raise refusals.schema_unknown(id)
        return found

    async def look_up(self, subject: str, schema: Schema, *, normalize: bool, deleted: bool) -> Version:
        """The version that a schema has under a subject. Raises Refused."""
        known = await self.found(lambda: self.state.versions(subject, deleted=True) or None)
        if known is None or (not deleted and not self.state.versions(subject)):
            raise refusals.subject_unknown(subject)
        wanted = await self._canonical(schema, normalize=normalize or self.state.normalizes(subject))
        found = await self.found(lambda: self.state.find(subject, wanted, deleted=deleted))
        if found is None:
            raise refusals.schema_unknown()
        return found

    async def serialized(self, schema: Schema) -> str:
        """A Protobuf schema as its descriptor in base64."""
        try:
            return await self._reader.serialized(schema.type, await self._source(schema))
        except Invalid as error:
            raise refusals.invalid_schema(str(error)) from error

    # -- registering

    async def register(
        self, subject: str, schema: Schema, *, id: int | None, number: int | None, normalize: bool
    ) -> Version:
        """The version that the schema has, new or not. `id` and `number` are for mode IMPORT. Raises
        Refused."""
        check_subject(subject)
        schema = await self._canonical(schema, normalize=normalize or self.state.normalizes(subject))
        found = self.state.find(subject, schema)
        if found is not None and id in (None, found.id):
            return found
        if self.state.mode(subject) != "IMPORT":
            # Comparing may take long: with every version, and 2 s for each. So it is done before the turn to
            # write, which others wait for. In its turn a registration compares what came since.
            await self._objections(schema, self._compared_with(subject), self.state.level(subject))

        async def decide(commit: Commit) -> Version:
            state = self.state
            found = state.find(subject, schema)
            if found is not None and id in (None, found.id):
                return found
            version = self._imported(subject, schema, id, number) or await self._new(subject, schema)
            self._check_room(size_of_item(subject) + size_of_schema(schema))
            await self._check_references(schema)
            await commit([version])
            return version

        return await self._change(decide)

    async def _new(self, subject: str, schema: Schema) -> Version:
        self._check_mode(subject)
        whys = await self._objections(schema, self._compared_with(subject), self.state.level(subject))
        if whys:
            raise refusals.incompatible(subject, [*whys, f"compatibility: '{self.state.level(subject)}'"])
        id = self.state.id_of(schema) or self.state.id_max + 1
        number = self.state.next_number(subject)
        if max(id, number) > INT32_MAX:
            raise Refused(50001, "There are no ids left, or no numbers of versions")
        return Version(subject, number, id, schema)

    def _imported(self, subject: str, schema: Schema, id: int | None, number: int | None) -> Version | None:
        """What another registry has given ids. None in every other mode."""
        is_import = self.state.mode(subject) == "IMPORT"
        if id is None and not is_import:
            return None
        if id is None or not is_import:
            raise refusals.not_permitted(f"Subject {subject} is {'' if is_import else 'not '}in import mode")
        known = self.state.schema(id)
        if known is not None and known != schema:
            raise refusals.not_permitted(f"Overwrite new schema with id {id} is not permitted.")
        number = number or self.state.next_number(subject)
        if number > INT32_MAX:
            raise Refused(50001, f"Subject {subject} has no numbers of versions left")
        there = self.state.version(subject, number, deleted=True)
        if there is not None and there.schema != schema:
            raise refusals.not_permitted(f"Subject {subject} has another schema as version {number}")
        return Version(subject, number, id, schema)

    # -- comparing

    async def compare(
        self, subject: str, schema: Schema, number: int | str | None, *, normalize: bool
    ) -> list[str]:
        """Why a schema would not do beside a version (None: the latest), or for "all" beside those that the
        subject's level names. Raises Refused."""
        level = self.state.level(subject)
        if isinstance(number, int):
            others = [await self.version(subject, number)]
        else:  # a subject without versions takes any
            await self.found(lambda: self.state.versions(subject) or None)
            others = self._compared_with(subject)
            others = others[:1] if number is None else others
        schema = await self._canonical(schema, normalize=normalize)
        return await self._objections(schema, others, level)

    def _compared_with(self, subject: str) -> list[Version]:
        """Newest first."""
        versions = self.state.versions(subject)[::-1]
        return versions if self.state.level(subject).endswith("_TRANSITIVE") else versions[:1]

    async def _objections(self, schema: Schema, others: Iterable[Version], level: str) -> list[str]:
        way = level.partition("_")[0]
        if way == "NONE":
            return []
        found = []
        mine = await self._source(schema)
        for other in others:
            if other.schema.type != schema.type:
                found.append(f"version {other.number} is of type {other.schema.type}, not {schema.type}")
                continue
            theirs = await self._source(other.schema)
            pairs = [(mine, theirs, "cannot read what was written with")] if way != "FORWARD" else []
            pairs += [(theirs, mine, "cannot be read by")] if way != "BACKWARD" else []
            for reader, writer, said in pairs:
                try:
                    whys = await self._reader.objections(schema.type, reader, writer)
                except Invalid as error:
                    raise refusals.invalid_schema(str(error)) from error
                found += [f"it {said} version {other.number}: {why}" for why in whys]
            if found:
                break
        return found

    # -- deleting

    async def delete_subject(self, subject: str, *, permanent: bool) -> list[int]:
        """The numbers of the versions that are deleted by it. Raises Refused."""

        async def decide(commit: Commit) -> list[int]:
            state = self.state
            everything = state.versions(subject, deleted=True)
            left = state.versions(subject)
            if not everything:
                raise refusals.subject_unknown(subject)
            if permanent and left:
                raise refusals.subject_not_deleted(subject)
            if not permanent and not left:
                raise refusals.subject_deleted(subject)
            self._check_mode(subject)
            versions = everything if permanent else left
            self._check_unreferenced(versions, permanent=permanent)
            entries: list[Entry] = []
            if permanent:
                entries += [VersionGone(subject, version.number) for version in versions]
                entries.append(Noop(state.id_max))
            else:
                entries.append(SubjectDeleted(subject, versions[-1].number))
                entries += [LevelSet(subject, None)] * (subject in state.levels)
                entries += [ModeSet(subject, None)] * (subject in state.modes)
            await commit(entries)
            return [version.number for version in versions]

        return await self._change(decide)

    async def delete_version(self, subject: str, number: int | None, *, permanent: bool) -> int:
        """Raises Refused."""

        async def decide(commit: Commit) -> int:
            state = self.state
            if not state.versions(subject, deleted=True):
                raise refusals.subject_unknown(subject)
            if number is None:
                found = state.latest(subject, deleted=permanent)
            else:
                found = state.version(subject, number, deleted=True)
            if found is None:
                raise refusals.version_unknown(number or "latest")
            if permanent and not found.deleted:
                raise refusals.version_not_deleted(subject, found.number)
            if not permanent and found.deleted:
                raise refusals.version_deleted(subject, found.number)
            self._check_mode(subject)
            self._check_unreferenced([found], permanent=permanent)
            if permanent:
                await commit([VersionGone(subject, found.number), Noop(state.id_max)])
            else:
                await commit([Version(subject, found.number, found.id, found.schema, deleted=True)])
            return found.number

        return await self._change(decide)

    def _check_unreferenced(self, going: Sequence[Version], *, permanent: bool) -> None:
        """Raises Refused for versions that others need, who stay. For good, nothing goes that a version needs
        which was deleted softly: its id is still asked for by who reads old records."""
        places = {(one.subject, one.number) for one in going}
        for subject, number in sorted(places):
            referrers = self.state.referrers(subject, number, deleted=permanent)
            if any((one.subject, one.number) not in places for one in referrers):
                raise refusals.referred_to(subject, number)

    # -- levels and modes

    async def set_level(self, subject: str | None, level: str | None, normalize: bool | None) -> None:
        """What is None stays as it is. Raises Refused."""
        if subject is not None:
            check_subject(subject)

        async def decide(commit: Commit) -> None:
            now = self.state.levels.get(subject)
            if now is None:
                self._check_room(size_of_item(subject))
            wanted = LevelSet(
                subject,
                level or (now and now.level) or (None if subject else LEVEL_DEFAULT),
                normalize if normalize is not None or now is None else now.normalize,
            )
            if wanted != now:
                await commit([wanted])

        await self._change(decide)

    async def unset_level(self, subject: str | None) -> str:
        """What it was. Raises Refused."""

        async def decide(commit: Commit) -> str:
            now = self.state.levels.get(subject)
            if now is None and subject is not None:
                raise refusals.level_not_set(subject)
            if now is not None:
                await commit([LevelSet(subject, None)])
            return (now and now.level) or LEVEL_DEFAULT

        return await self._change(decide)

    async def set_mode(self, subject: str | None, mode: str, *, force: bool) -> None:
        """Raises Refused."""
        if subject is not None:
            check_subject(subject)

        async def decide(commit: Commit) -> None:
            state = self.state
            taken = state.versions(subject) if subject is not None else state.subjects()
            if mode == "IMPORT" and state.modes.get(subject) != "IMPORT" and taken and not force:
                raise refusals.not_permitted(
                    "Cannot import since found existing subjects; force=true does it"
                )
            if subject not in state.modes:
                self._check_room(size_of_item(subject))
            if state.modes.get(subject) != mode:
                await commit([ModeSet(subject, mode)])

        await self._change(decide)

    async def unset_mode(self, subject: str | None) -> str:
        """What it was. Raises Refused."""

        async def decide(commit: Commit) -> str:
            now = self.state.modes.get(subject)
            if now is None and subject is not None:
                raise refusals.mode_not_set(subject)
            if now is not None:
                await commit([ModeSet(subject, None)])
            return now or MODE_DEFAULT

        return await self._change(decide)

    def _check_mode(self, subject: str) -> None:
        mode = self.state.mode(subject)
        if self.state.modes.get(None) == "READONLY_OVERRIDE":
            mode = "READONLY_OVERRIDE"
        if mode.startswith("READONLY"):
            raise refusals.not_permitted(f"Subject {subject} is in read-only mode")

    # -- parts

    async def _change(self, decide: Callable[[Commit], Awaitable[T]]) -> T:
        try:
            return await self._topic.change(decide)
        except TooLarge as error:
            raise Refused(413, str(error)) from error
        except Unknown as error:
            raise Refused(50002, str(error)) from error
        except NotStored as error:
            raise Refused(50001, str(error)) from error

    async def _canonical(self, schema: Schema, *, normalize: bool) -> Schema:
        if schema.type not in MODULES:
            raise refusals.invalid_schema(f"there is no type {schema.type[:40]!r}, only {', '.join(TYPES)}")
        if len(schema.references) > REFERENCES_MAX:
            raise refusals.invalid_schema(f"it refers to more than {REFERENCES_MAX} schemas")
        try:
            text = await self._reader.canonical(schema.type, await self._source(schema), normalize=normalize)
        except Invalid as error:
            raise refusals.invalid_schema(str(error)) from error
        return Schema(schema.type, text, schema.references)

    def _check_room(self, more: int) -> None:
        if self.state.size + more > SIZE_MAX:
            raise Refused(
                50001, f"The registry keeps {SIZE_MAX} characters of schemas, names and settings at most"
            )

    async def _check_references(self, schema: Schema) -> None:
        for reference in schema.references:
            if self.state.version(reference.subject, reference.version) is None:
                raise _no_reference(reference.subject, reference.version)

    async def _source(self, schema: Schema) -> Source:
        """A schema and the schemas that it refers to, each behind those that it refers to. Raises Refused for
        a reference to nothing, and for too many."""
        given: dict[str, str] = {}
        texts = 0

        async def add(one: Schema, path: tuple[tuple[str, int], ...]) -> None:
            nonlocal texts
            for reference in one.references:
                key = (reference.subject, reference.version)
                if key in path or reference.name in given:
                    continue
                found = await self.found(lambda: self.state.version(*key, deleted=True))  # noqa: B023
                if found is None:
                    raise _no_reference(*key)
                texts += len(found.schema.text)
                if len(given) + len(path) >= REFERENCES_MAX or texts > REFERENCES_CHARACTERS_MAX:
                    raise refusals.invalid_schema("it refers to too many schemas, or to too much text")
                await add(found.schema, (*path, key))
                given[reference.name] = found.schema.text

        await add(schema, ())
        return Source(schema.text, tuple(given.items()))


def check_subject(subject: str) -> None:
    """Raises Refused for a subject that nothing can be put under."""
    if not subject or subject.isspace():
        raise refusals.invalid_subject(subject, "it is empty")
    if subject in ("__GLOBAL", "__EMPTY"):
        raise refusals.invalid_subject(subject, "Confluent's registry keeps the name for itself")
    if len(subject) > SUBJECT_CHARACTERS_MAX or not subject.isprintable():
        raise refusals.invalid_subject(
            subject, f"it has more than {SUBJECT_CHARACTERS_MAX} characters, or some that are not printed"
        )


def _no_reference(subject: str, number: int) -> Refused:
    return refusals.invalid_schema(f'no schema reference found for subject "{subject}" and version {number}')
