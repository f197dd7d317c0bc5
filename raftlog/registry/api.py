"""The routes, by Confluent's API reference: what each takes and answers. Parameters that a route does not
know are passed over, as there: clients send those of newer registries.

What is not here: contexts, exporters, encryption keys and data contracts. A schema that comes with metadata
or rules is refused, rather than stored without them.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Any, Final

from raftlog.http.guard import Need
from raftlog.http.messages import Head, Request, Response
from raftlog.http.routes import BODY_BYTES_MAX, Route
from raftlog.registry import refusals
from raftlog.registry.records import INT32_MAX, Schema, Version, schema_of
from raftlog.registry.refusals import CONTENT_TYPE, Refused
from raftlog.registry.registry import LEVELS, MODES, TYPES, Registry
from raftlog.registry.state import MODE_DEFAULT
from raftlog.version import version as package_version

LIST_MAX: Final = 10_000
"""Of a list in one answer: `offset` and `limit` give the rest."""
LIST_CHARACTERS_MAX: Final = 16 << 20
"""Of schemas' texts in one answer."""
SMALL_BODY: Final = 64 << 10
GUARDED: Final = ("metadata", "ruleSet", "schemaTags")
"""What a body may have and is not kept here."""

Handler = Callable[..., Awaitable[object]]


def routes(registry: Registry) -> list[Route]:
    schemas, subjects, settings = _Schemas(registry), _Subjects(registry), _Settings(registry)
    schema_body, small = BODY_BYTES_MAX, SMALL_BODY
    table: tuple[tuple[str, str, Handler, int, str], ...] = (
        ("GET", "/", schemas.root, 0, "An empty object: the registry is there."),
        ("GET", "/schemas", schemas.schemas, 0, "Schemas of all subjects."),
        ("GET", "/schemas/types", schemas.types, 0, "The kinds of schemas."),
        ("GET", "/schemas/ids/{}", schemas.schema_by_id, 0, "The schema with an id."),
        ("GET", "/schemas/ids/{}/schema", schemas.text_by_id, 0, "Its text alone."),
        ("GET", "/schemas/ids/{}/subjects", schemas.subjects_by_id, 0, "The subjects that have it."),
        (
            "GET",
            "/schemas/ids/{}/versions",
            schemas.versions_by_id,
            0,
            "The subjects and versions that have it.",
        ),
        ("GET", "/subjects", subjects.subjects, 0, "Every subject."),
        ("POST", "/subjects/{}", subjects.look_up, schema_body, "The version that a schema has."),
        ("DELETE", "/subjects/{}", subjects.delete_subject, small, "Delete a subject."),
        ("GET", "/subjects/{}/versions", subjects.versions, 0, "The numbers of a subject's versions."),
        ("POST", "/subjects/{}/versions", subjects.register, schema_body, "Register a schema."),
        ("GET", "/subjects/{}/versions/{}", subjects.version, 0, "A version, or `latest`."),
        ("DELETE", "/subjects/{}/versions/{}", subjects.delete_version, small, "Delete a version."),
        ("GET", "/subjects/{}/versions/{}/schema", subjects.text, 0, "Its text alone."),
        (
            "GET",
            "/subjects/{}/versions/{}/referencedby",
            subjects.referenced_by,
            0,
            "The ids that refer to it.",
        ),
        (
            "POST",
            "/compatibility/subjects/{}/versions",
            subjects.compare_all,
            schema_body,
            "Compare by the level.",
        ),
        (
            "POST",
            "/compatibility/subjects/{}/versions/{}",
            subjects.compare,
            schema_body,
            "Compare with a version.",
        ),
        ("GET", "/config", settings.level, 0, "The compatibility level of all subjects without one."),
        ("PUT", "/config", settings.set_level, small, "Set it."),
        ("DELETE", "/config", settings.unset_level, small, "Back to BACKWARD."),
        ("GET", "/config/{}", settings.level, 0, "A subject's level."),
        ("PUT", "/config/{}", settings.set_level, small, "Set it."),
        ("DELETE", "/config/{}", settings.unset_level, small, "Back to the level of all."),
        ("GET", "/mode", settings.mode, 0, "The mode of all subjects without one."),
        ("PUT", "/mode", settings.set_mode, small, "Set it."),
        ("DELETE", "/mode", settings.unset_mode, small, "Back to READWRITE."),
        ("GET", "/mode/{}", settings.mode, 0, "A subject's mode."),
        ("PUT", "/mode/{}", settings.set_mode, small, "Set it."),
        ("DELETE", "/mode/{}", settings.unset_mode, small, "Back to the mode of all."),
        ("GET", "/contexts", schemas.contexts, 0, "The one context."),
        ("GET", "/v1/metadata/version", schemas.about, 0, "The version of the registry."),
    )
    reads = {"/subjects/{}", "/compatibility/subjects/{}/versions", "/compatibility/subjects/{}/versions/{}"}
    return [
        Route(
            method=method,
            path=path,
            need=Need.READ if method == "GET" or (method == "POST" and path in reads) else Need.CHANGE,
            handle=_answering(handle),
            doc=doc,
            parameters=None,
            body_max=body_max,
        )
        for method, path, handle, body_max, doc in table
    ]


def _answering(handle: Handler) -> Callable[..., Awaitable[Response]]:
    async def answer(request: Request, *places: str) -> Response:
        value = await handle(request, *places)
        if isinstance(value, Response):
            return value
        return Response(content_type=CONTENT_TYPE, body=Response.of(value).body)

    return answer


class _Part:
    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._state = registry.state

    async def _shown(self, request: Request, schema: Schema) -> dict[str, Any]:
        said = schema.to_json()
        if schema.type == "PROTOBUF" and request.query.get("format") == "serialized":
            said["schema"] = await self._registry.serialized(schema)
        return said


class _Schemas(_Part):
    """By their ids, and what is about none."""

    async def root(self, request: Request) -> object:
        return {}

    async def types(self, request: Request) -> object:
        return TYPES

    async def contexts(self, request: Request) -> object:
        return ["."]

    async def about(self, request: Request) -> object:
        return {"version": package_version(), "commitId": ""}

    async def schemas(self, request: Request) -> object:
        prefix = request.query.get("subjectPrefix", "")
        deleted, latest_only = _flag(request, "deleted"), _flag(request, "latestOnly")
        found: list[Version] = []
        for subject in self._state.subjects(deleted=deleted):
            if subject.startswith(prefix):
                versions = self._state.versions(subject, deleted=deleted)
                found += versions[-1:] if latest_only else versions
        page: list[dict[str, Any]] = []
        left = LIST_CHARACTERS_MAX
        for version in _page(request, found):
            left -= len(version.schema.text)
            if page and left < 0:
                break
            page.append(version.to_json())
        return page

    async def schema_by_id(self, request: Request, id: str) -> object:
        schema = await self._registry.schema(_id(id))
        said = await self._shown(request, schema)
        if _flag(request, "fetchMaxId"):
            said["maxId"] = self._state.id_max
        return said

    async def text_by_id(self, request: Request, id: str) -> Response:
        schema = await self._registry.schema(_id(id))
        return _text((await self._shown(request, schema))["schema"])

    async def subjects_by_id(self, request: Request, id: str) -> object:
        return _page(request, sorted({one.subject for one in await self._uses(request, id)}))

    async def versions_by_id(self, request: Request, id: str) -> object:
        found = await self._uses(request, id)
        return _page(request, [{"subject": one.subject, "version": one.number} for one in found])

    async def _uses(self, request: Request, id: str) -> list[Version]:
        await self._registry.schema(_id(id))
        found = self._state.uses(_id(id), deleted=_flag(request, "deleted"))
        return [one for one in found if one.subject == request.query.get("subject", one.subject)]


class _Subjects(_Part):
    """And the versions that each has."""

    async def subjects(self, request: Request) -> object:
        prefix = request.query.get("subjectPrefix", "")
        alive = self._state.subjects()
        if _flag(request, "deletedOnly"):
            names = sorted(set(self._state.subjects(deleted=True)) - set(alive))
        else:
            names = self._state.subjects(deleted=True) if _flag(request, "deleted") else alive
        return _page(request, [name for name in names if name.startswith(prefix)])

    async def versions(self, request: Request, subject: str) -> object:
        only = _flag(request, "deletedOnly")
        found = await self._registry.versions(subject, deleted=only or _flag(request, "deleted"))
        return _page(request, [one.number for one in found if one.deleted or not only])

    async def version(self, request: Request, subject: str, number: str) -> object:
        found = await self._version(request, subject, number)
        return {**found.to_json(), **await self._shown(request, found.schema)}

    async def text(self, request: Request, subject: str, number: str) -> Response:
        found = await self._version(request, subject, number)
        return _text((await self._shown(request, found.schema))["schema"])

    async def referenced_by(self, request: Request, subject: str, number: str) -> object:
        found = await self._version(request, subject, number)
        return sorted({one.id for one in self._state.referrers(subject, found.number)})

    async def _version(self, request: Request, subject: str, number: str) -> Version:
        return await self._registry.version(subject, _number(number), deleted=_flag(request, "deleted"))

    async def register(self, request: Request, subject: str) -> object:
        schema, body = _schema(request)
        version = await self._registry.register(
            subject,
            schema,
            id=_optional(body, "id"),
            number=_optional(body, "version"),
            normalize=_flag(request, "normalize"),
        )
        return {"id": version.id}  # with more, clients would take it for what they had sent

    async def look_up(self, request: Request, subject: str) -> object:
        schema, _ = _schema(request)
        found = await self._registry.look_up(
            subject, schema, normalize=_flag(request, "normalize"), deleted=_flag(request, "deleted")
        )
        return {**found.to_json(), **await self._shown(request, found.schema)}

    async def delete_subject(self, request: Request, subject: str) -> object:
        return await self._registry.delete_subject(subject, permanent=_flag(request, "permanent"))

    async def delete_version(self, request: Request, subject: str, number: str) -> object:
        permanent = _flag(request, "permanent")
        return await self._registry.delete_version(subject, _number(number), permanent=permanent)

    async def compare(self, request: Request, subject: str, number: str) -> object:
        return await self._compared(request, subject, _number(number))

    async def compare_all(self, request: Request, subject: str) -> object:
        return await self._compared(request, subject, "all")

    async def _compared(self, request: Request, subject: str, number: int | str | None) -> object:
        schema, _ = _schema(request)
        normalize = _flag(request, "normalize")
        whys = await self._registry.compare(subject, schema, number, normalize=normalize)
        said: dict[str, Any] = {"is_compatible": not whys}
        if _flag(request, "verbose"):
            said["messages"] = whys
        return said


class _Settings(_Part):
    """Levels and modes."""

    async def level(self, request: Request, subject: str | None = None) -> object:
        found = self._state.levels.get(subject)
        if found is None and subject is not None:
            if not _flag(request, "defaultToGlobal"):
                found = await self._registry.found(lambda: self._state.levels.get(subject))
                if found is None:
                    raise refusals.level_not_set(subject)
            else:
                found = self._state.levels.get(None)
        said: dict[str, Any] = {
            "compatibilityLevel": (found and found.level) or self._state.level(subject or "")
        }
        if found is not None and found.normalize is not None:
            said["normalize"] = found.normalize
        return said

    async def set_level(self, request: Request, subject: str | None = None) -> object:
        body = request.json()
        level, normalize = body.get("compatibility"), body.get("normalize")
        if level is not None and (not isinstance(level, str) or level.upper() not in LEVELS):
            raise refusals.invalid_level(level)
        if normalize is not None and not isinstance(normalize, bool):
            raise Refused(422, f"normalize is true or false, not {str(normalize)[:40]!r}")
        if level is None and normalize is None:
            raise refusals.invalid_level("")
        await self._registry.set_level(subject, level.upper() if level else None, normalize)
        said = {"compatibility": level.upper() if level else None, "normalize": normalize}
        return {key: value for key, value in said.items() if value is not None}

    async def unset_level(self, request: Request, subject: str | None = None) -> object:
        return {"compatibilityLevel": await self._registry.unset_level(subject)}

    async def mode(self, request: Request, subject: str | None = None) -> object:
        if subject is None:
            return {"mode": self._state.modes.get(None, MODE_DEFAULT)}
        if _flag(request, "defaultToGlobal"):
            return {"mode": self._state.mode(subject)}
        found = await self._registry.found(lambda: self._state.modes.get(subject))
        if found is None:
            raise refusals.mode_not_set(subject)
        return {"mode": found}

    async def set_mode(self, request: Request, subject: str | None = None) -> object:
        mode = request.json().get("mode")
        if not isinstance(mode, str) or mode.upper() not in MODES:
            raise refusals.invalid_mode(mode)
        await self._registry.set_mode(subject, mode.upper(), force=_flag(request, "force"))
        return {"mode": mode.upper()}

    async def unset_mode(self, request: Request, subject: str | None = None) -> object:
        return {"mode": await self._registry.unset_mode(subject)}


def _schema(request: Request) -> tuple[Schema, Mapping[str, Any]]:
    body = request.json()
    kept_nowhere = [name for name in GUARDED if body.get(name)]
    if kept_nowhere:
        raise refusals.invalid_schema(f"{kept_nowhere[0]} is not kept by this registry")
    try:
        return schema_of(body), body
    except KeyError as error:
        raise refusals.invalid_schema(f"the body has no {error}") from error
    except (TypeError, ValueError) as error:
        raise refusals.invalid_schema(str(error)) from error


def _optional(body: Mapping[str, Any], name: str) -> int | None:
    """A number that may be missing; -1 and 0 are what Java's client sends for none."""
    value = body.get(name)
    if value is None or (type(value) is int and value in (-1, 0)):
        return None
    if type(value) is not int or not 0 < value <= INT32_MAX:
        raise Refused(422, f"{name} is a number from 1 to {INT32_MAX}, not {str(value)[:40]!r}")
    return value


def _flag(head: Head, name: str) -> bool:
    return head.query.get(name, "").lower() == "true"


def _id(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= 10 and int(text) <= INT32_MAX):
        raise Refused(404, f"HTTP 404 Not Found: {text[:40]!r} is no id")
    return int(text)


def _number(text: str) -> int | None:
    """A version's number; None for the latest. Raises Refused."""
    if text in ("latest", "-1"):
        return None
    if not (text.isascii() and text.isdigit() and len(text) <= 10 and 0 < int(text) <= INT32_MAX):
        raise refusals.invalid_version(text)
    return int(text)


def _page(head: Head, found: Sequence[Any]) -> Sequence[Any]:
    offset = head.int("offset", 0, 0, INT32_MAX)
    text = head.query.get("limit", "-1")
    limit = LIST_MAX if text == "-1" else head.int("limit", LIST_MAX, 0, INT32_MAX)
    return found[offset : offset + min(limit, LIST_MAX)]


def _text(text: str) -> Response:
    return Response(content_type=CONTENT_TYPE, body=text.encode())


def reference(found: Iterable[Route]) -> str:
    """The routes as a Markdown table for docs/."""
    rows = [f"| {one.method} | `{one.path.replace('{}', '…')}` | {one.doc} |" for one in found]
    return "\n".join(["| | Path | What it says or does |", "|---|---|---|", *rows]) + "\n"
