"""`http-source`: an address that answers with JSON is asked again and again; the items of its answers become
records. Where to go on is a value that the address takes as a parameter, a *cursor*. It comes from the last
item (`cursor_item = "id"`, `parameter = "since_id"`: what is behind it is asked for next), or from the answer
(`cursor_answer = "meta.next"`, `parameter = "page"`, or the next address itself). Without one, an answer
that has changed is taken as a whole.

The position has the cursor, and how many items of its answer were taken: an answer that grows, as a last page
does, goes on where it was. A cursor that is an address may hold a token: it is kept whole, and told without
its query. Items are written anew as JSON: a number with a fraction is a double.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import AsyncGenerator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import parse_qsl, urlencode, urljoin, urlsplit

import trio

from raftlog.connect.contract import BATCH_BYTES, Batch, Position, Source, SourceRecord, Unit, to_json
from raftlog.connect.errors import ConnectError, PositionLost
from raftlog.connect.options import option
from raftlog.connect.web import Answer, HttpConfig, Web
from raftlog.errors import ConfigError

BATCH_RECORDS: Final = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpSourceConfig(HttpConfig):
    topic: str = option(doc="The topic to write to.")
    items: str = option(
        "", doc="Where the list of items is in the answer: data.items. Empty: the answer is the list."
    )
    key: str | None = option(None, doc="Where a record's key is in an item: id, or user.id.")
    cursor_item: str | None = option(
        None, doc="Where the cursor is in an item: id. What is behind the last item's is asked for next."
    )
    cursor_answer: str | None = option(
        None,
        doc="Where the next cursor is in the answer: meta.next. It is null, or missing, on the last page.",
    )
    parameter: str | None = option(
        None, doc="The query parameter that takes the cursor; without it the cursor is the next address."
    )
    start: str | None = option(None, doc="The first cursor, for the parameter.")
    poll_s: float = option(10.0, doc="Between two looks when there is nothing new, in seconds.", least=0.05)

    def __post_init__(self) -> None:
        HttpConfig.__post_init__(self)
        if self.cursor_item is not None and self.cursor_answer is not None:
            raise ConfigError("cursor_item and cursor_answer are two places for one cursor: give one")
        if self.cursor_item is not None and self.parameter is None:
            raise ConfigError("parameter is missing: it takes what cursor_item finds")
        if self.parameter is not None and self.cursor_item is None and self.cursor_answer is None:
            raise ConfigError("parameter takes a cursor: say where it is, by cursor_item or cursor_answer")
        if self.start is not None and self.parameter is None:
            raise ConfigError("start is a value of the parameter, and parameter is not given")


@dataclass
class _Place:
    """Where the source is."""

    cursor: str | None
    seen: int
    """Items of the cursor's answer that were taken."""
    page: str | None
    """Without cursors: which answer that was."""

    def position(self) -> dict[str, Any]:
        told = {"cursor": self.cursor, "seen": self.seen, "page": self.page}
        return {name: value for name, value in told.items() if value is not None}


class HttpSource(Source):
    """Gives the items of answers."""

    Config = HttpSourceConfig
    config: HttpSourceConfig

    def __init__(self, config: HttpSourceConfig, name: str) -> None:
        super().__init__(config, name)
        self._web = Web(config)

    async def units(self, stored: Mapping[Unit, Position]) -> Sequence[Unit]:
        """The address, without what may be secret in it."""
        return [Unit.of(url=self._web.origin + urlsplit(self.config.url).path)]

    async def read(self, unit: Unit, position: Position | None) -> AsyncGenerator[Batch, None]:
        """Items, as they come."""
        config, at = self.config, self._begun(position)
        tag = ""
        while True:
            headers = {"Accept": "application/json"} | ({"If-None-Match": tag} if tag else {})
            answer = await self._web.ask("GET", self._address(at.cursor), headers)
            if answer.status == 304 and tag:
                await trio.sleep(config.poll_s)
                continue
            found = await trio.to_thread.run_sync(self._parsed, answer, at)
            before, is_new = at.cursor, False
            for batch in self._batches(found, at):
                yield batch
                is_new = True
            if config.cursor_answer is not None:
                following = _text(_at(found, config.cursor_answer))
                if following is not None and following != at.cursor:
                    self._address(following)  # an address elsewhere is told before it is a position
                    at = _Place(following, 0, None)
                    yield Batch([], at.position())
            # What is asked for again, and has not changed, need not be sent.
            tag = answer.headers.get("etag", "") if at.cursor == before else ""
            tag = tag if tag.isascii() else ""  # as a header of ours must be
            if not is_new or at.cursor == before:
                await trio.sleep(config.poll_s)

    async def aclose(self) -> None:
        """Close the connections."""
        await self._web.aclose()

    def _begun(self, position: Position | None) -> _Place:
        if position is None:
            return _Place(self.config.start, 0, None)
        match position:
            case {"seen": int(seen)} if seen >= 0:
                cursor, page = position.get("cursor"), position.get("page")
                if isinstance(cursor, str | None) and isinstance(page, str | None):
                    return _Place(cursor, seen, page)
        names = ", ".join(position) or "nothing"
        raise PositionLost(f"the position has {names}, and is another's: a cursor is a text, seen a number")

    def _address(self, cursor: str | None) -> str:
        """What is asked for. Raises ConnectError for one elsewhere: it would be sent what is for this one."""
        try:
            return self.config.url if cursor is None else self._following(cursor)
        except ValueError:  # half a letter of Unicode is no part of an address, too
            raise ConnectError(f"{self._web.origin} goes on at what is no address") from None

    def _following(self, cursor: str) -> str:
        config = self.config
        if config.parameter is None:
            address = urljoin(config.url, cursor)
            if urlsplit(address)[:2] != urlsplit(config.url)[:2]:
                raise ConnectError(
                    f"{self._web.origin} goes on at {self._told(cursor)}, which is another server"
                )
            return address
        parts = urlsplit(config.url)
        query = [pair for pair in parse_qsl(parts.query, True) if pair[0] != config.parameter]
        return parts._replace(query=urlencode([*query, (config.parameter, cursor)])).geturl()

    def _told(self, cursor: str | None) -> str:
        """As messages have it: of an address host and path, since the rest may hold a token."""
        if cursor is None or self.config.parameter is not None:
            return repr(cursor)
        parts = urlsplit(urljoin(self.config.url, cursor))
        return repr(f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"[:200])

    def _parsed(self, answer: Answer, at: _Place) -> Any:
        if answer.status == 410 and at.cursor is not None:
            raise PositionLost(
                f"{self._web.origin} does not go on at {self._told(at.cursor)}: it {answer.told()}"
            )
        if not answer.is_good:
            raise ConnectError(f"{self._web.origin} {answer.told()}")
        try:
            return json.loads(answer.body)
        except (ValueError, RecursionError) as error:
            raise ConnectError(f"{self._web.origin} answers with what is no JSON: {error}") from error

    def _batches(self, found: Any, at: _Place) -> Iterator[Batch]:
        """What is new in an answer; the place moves on with it."""
        config = self.config
        items = _at(found, config.items)
        if items is None:
            items = []
        if not isinstance(items, list):
            raise ConnectError(f"{self._web.origin}: {config.items or 'the answer'} is no list")
        if config.cursor_item is None and config.cursor_answer is None:
            page = hashlib.sha256(to_json(items).encode()).hexdigest()
            if page != at.page:
                at.page, at.seen = page, 0
        elif len(items) < at.seen:
            raise PositionLost(
                f"{self._web.origin} has {len(items)} items at {self._told(at.cursor)}, "
                f"and {at.seen} were read of it"
            )
        records: list[SourceRecord] = []
        size = 0
        for number, item in enumerate(items[at.seen :], at.seen + 1):
            record = SourceRecord(config.topic, to_json(item).encode(), self._key(item))
            records.append(record)
            size += len(record.value or b"")
            is_last = number == len(items)
            if is_last or size >= BATCH_BYTES or len(records) >= BATCH_RECORDS:
                at.seen = number
                if config.cursor_item is not None:
                    self._move(at, item)
                yield Batch(records, at.position())
                records, size = [], 0

    def _move(self, at: _Place, item: Any) -> None:
        """Behind an item."""
        path = self.config.cursor_item or ""
        cursor = _text(_at(item, path))
        if cursor is None:
            raise ConnectError(f"{self._web.origin}: an item has no {path!r}, which is where the next begin")
        if cursor == at.cursor:
            raise ConnectError(
                f"{self._web.origin} answers for {self.config.parameter} = {cursor!r} with what ends there "
                "again: it would be read over and over"
            )
        at.cursor, at.seen = cursor, 0

    def _key(self, item: Any) -> bytes | None:
        found = None if self.config.key is None else _at(item, self.config.key)
        if found is None:
            return None
        return (found if isinstance(found, str) else to_json(found)).encode("utf-8", "surrogatepass")


def _at(value: Any, path: str) -> Any:
    """What is at a path, `data.items`; None when nothing is. Empty is the value itself."""
    for name in path.split(".") if path else ():
        if not isinstance(value, dict):
            return None
        value = value.get(name)
    return value


def _text(value: Any) -> str | None:
    """A cursor as a parameter has it; None for none."""
    if value is None or value == "" or value is False:
        return None
    return value if isinstance(value, str) else to_json(value)
