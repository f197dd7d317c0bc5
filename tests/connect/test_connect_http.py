"""The HTTP connectors on a server on loopback: the contract, and what only a server shows."""

from __future__ import annotations

import json
import threading
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import parse_qs, urlsplit

import pytest
import trio

from raftlog import connect
from raftlog.client.metadata import TopicPartition
from raftlog.client.record import Record
from raftlog.connect import ConnectError, PositionLost, Refused, Sink, Source, Unavailable, http_source
from raftlog.connect.contract import Batch
from raftlog.connect.deadletters import PREFIX
from raftlog.connect.http_sink import HttpSink, HttpSinkConfig
from raftlog.connect.http_source import HttpSource, HttpSourceConfig
from raftlog.connect.retrying import Retrying
from raftlog.connect.status import Status
from raftlog.errors import ConfigError
from raftlog.testing.connect import P0, P1, SinkContract, SourceContract, record
from tests.connect.http_server import Asked, Said, WebServer, web_server
from tests.connect.stage import Stage, until


@pytest.fixture
def web() -> Iterator[WebServer]:
    with web_server() as server:
        yield server


class TestHttpSink(SinkContract):
    """A path of the server for each folder. 60, 62."""

    more: ClassVar[dict[str, Any]] = {}

    @pytest.fixture(autouse=True)
    def _with_server(self, web: WebServer) -> None:
        self.web = web
        web.answer = lambda asked: Said(422, b"no words") if b'"bad' in asked.body else Said(201)

    def make(self, folder: Path) -> Sink:
        return HttpSink(HttpSinkConfig(url=f"{self.web.origin}/{folder.name}", **self.more), "h")

    def contents(self, folder: Path) -> Sequence[bytes]:
        taken = [each.body for each in self.web.asked if b'"bad' not in each.body]
        found = [json.loads(body) if body.startswith(b"[") else body.splitlines() for body in taken]
        return [v if isinstance(v, bytes) else json.dumps(v).encode() for values in found for v in values]

    def refused(self, key: TopicPartition, offset: int) -> Record:
        return record(key, offset)._replace(value=b'{"bad": 1}')


class TestHttpSinkOfArrays(TestHttpSink):
    more: ClassVar[dict[str, Any]] = {"format": "array", "per_request": 3}


class TestHttpSinkOfLines(TestHttpSink):
    more: ClassVar[dict[str, Any]] = {"format": "lines", "request_bytes": 30}


def sink_of(web: WebServer, **more: Any) -> HttpSink:
    return HttpSink(HttpSinkConfig(**{"url": f"{web.origin}/hook?token=s3cret", **more}), "h")


def some(first: int, end: int, key: TopicPartition = P0) -> list[Record]:
    return [record(key, offset) for offset in range(first, end)]


async def test_a_request_says_which_records_it_has(web: WebServer) -> None:
    """Also several that a transform made of one; what the user gives goes along."""
    sink = sink_of(web, authorization="Bearer t", headers=("X-From: log",), key_header="X-Id")
    await sink.write([*some(0, 1), *some(7, 8, P1), *some(1, 2), *some(1, 2)])
    await sink.aclose()
    keys = [each.headers["x-id"] for each in web.asked]
    assert sorted(keys) == ["things-0-0", "things-0-1", "things-0-1.1", "things-1-7"]
    assert [key for key in keys if key.startswith("things-0")] == ["things-0-0", "things-0-1", "things-0-1.1"]
    for each in web.asked:
        assert (each.method, each.path) == ("POST", "/hook?token=s3cret")
        wanted = {"authorization": "Bearer t", "x-from": "log", "content-type": "application/json"}
        assert wanted.items() <= each.headers.items()
    web.asked.clear()
    batches = sink_of(web, format="array", per_request=4, method="PUT", place=True)
    await batches.write([*some(0, 3), *some(3, 4), *some(3, 4), *some(4, 6)])
    await batches.aclose()
    assert [each.headers["idempotency-key"] for each in web.asked] == ["things-0-0-2", "things-0-3-5"]
    assert [one["_offset"] for one in json.loads(web.asked[1].body)] == [3, 3, 4, 5]


@pytest.mark.parametrize("status", [408, 425, 429, 500, 502, 503, 504])
async def test_what_may_pass_is_tried_again_and_not_before_the_server_says(
    status: int, web: WebServer
) -> None:
    sink = sink_of(web)
    web.answer = lambda _: Said(status, b"later", {"Retry-After": "120"})
    with pytest.raises(Unavailable, match=f"answers {status}: later") as failed:
        await sink.write(some(0, 3))
    assert (len(web.asked), failed.value.after_s, failed.value.safe) == (1, 120.0, {})
    status_of = Status()
    assert Retrying("it", 600, status_of).failed(failed.value) == 120.0
    web.answer = lambda _: Said(status, b"", {"Retry-After": "Wed, 21 Oct 2015 07:28:00 GMT"})
    with pytest.raises(Unavailable) as failed:
        await sink.write(some(0, 1))
    assert failed.value.after_s == 0.0
    for odd in ("Mon, 01 Jan 99999999999 00:00:00 GMT", "Mon, 01 Jan 2026 00:00:00 +99999999999999", "soon"):
        web.answer = lambda _, after=odd: Said(status, b"", {"Retry-After": after})
        with pytest.raises(Unavailable) as failed:
            await sink.write(some(0, 1))
        assert failed.value.after_s == 0.0, odd
    web.answer = lambda asked: Said(status if b"0/3" in asked.body else 200)
    with pytest.raises(Unavailable) as failed:
        await sink.write(some(0, 5))
    assert failed.value.safe == {P0: 3}  # which do not come again
    await sink.aclose()


@pytest.mark.parametrize(
    ("status", "error"),
    [(400, Refused), (422, Refused), (401, ConnectError), (404, ConnectError), (302, ConnectError)],
)
async def test_whose_fault_an_answer_is(status: int, error: type[Exception], web: WebServer) -> None:
    """A record's, or the connector's; what was taken before it counts."""
    sink = sink_of(web)
    web.answer = lambda asked: Said(
        status if b"0/2" in asked.body else 200, b"it is wrong", {"Location": "/x"}
    )
    with pytest.raises(ConnectError, match=f"answers {status}: it is wrong") as failed:
        await sink.write(some(0, 5))
    assert type(failed.value) is error
    assert "s3cret" not in str(failed.value)
    assert (await sink.flush(), len(web.asked)) == ({P0: 2}, 3)
    await sink.aclose()


async def test_a_server_that_is_away_slow_or_ends_in_the_middle_may_be_there_later(web: WebServer) -> None:
    away = sink_of(web, url="http://127.0.0.1:1/hook?token=s3cret")
    slow, release = sink_of(web, answer_s=0.2), threading.Event()
    broken = sink_of(web)
    with pytest.raises(Unavailable) as failed:
        await away.write(some(0, 1))
    assert "s3cret" not in str(failed.value)
    web.answer = lambda _: Said() if release.wait(60) else Said(500)
    with pytest.raises(Unavailable, match=r"has not answered within 0\.2 s"):
        await slow.write(some(0, 1))
    release.set()
    web.answer = lambda _: Said(200, b"short", {"Content-Length": "100", "Connection": "close"})
    with pytest.raises(Unavailable):
        await broken.write(some(0, 1))
    for each in (away, slow, broken):
        await each.aclose()


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"url": "pager.example"}, "no address"),
        ({"url": "http://h:x/"}, "no address"),
        ({"url": "https://me:pw@h/"}, "authorization"),
        ({"headers": ("no colon",)}, "number 1 is no NAME: VALUE"),
        ({"headers": ("a: b\r\nc: d",)}, "number 1 is no NAME: VALUE"),
        ({"authorization": "a\nb"}, "line feed"),
        ({"authorization": "Bearer pwä"}, "authorization has a letter that is not of ASCII"),
        ({"headers": ("a: b", "c: pwä")}, "headers: number 2 has a letter that is not of ASCII"),
        ({"content_type": "text/pwä"}, "content_type has a letter that is not of ASCII"),
        ({"content_type": "a\nb"}, "content_type has a line feed"),
        ({"url": "https://h/pw\udcff"}, "no address"),
        ({"retry_on": ("5xx",)}, "'5xx', which is no status"),
        ({"refuse_on": ("503",)}, "503 is in retry_on and in refuse_on"),
        ({"key_header": "a b"}, "no header is called so"),
    ],
)
def test_options_that_are_wrong_are_told(more: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said) as failed:
        HttpSinkConfig(**{"url": "https://h/", **more})
    assert "pw" not in str(failed.value)


# -- the source


class Feed:
    """Items behind an address: by id, by pages, or all at once."""

    def __init__(self, web: WebServer) -> None:
        self.web, self.items = web, list[dict[str, Any]]()
        web.answer = self.answer
        self.page = 4

    def answer(self, asked: Asked) -> Said:
        parts = urlsplit(asked.path)
        query = {name: values[0] for name, values in parse_qs(parts.query).items()}
        match parts.path:
            case "/since":
                return self.said(
                    [i for i in self.items if i["id"] > int(query.get("since", -1))][: self.page]
                )
            case "/pages":
                at = int(query.get("page", 0))
                items = self.items[at * self.page : (at + 1) * self.page]
                has_more = len(self.items) > (at + 1) * self.page
                return self.said({"data": {"items": items}, "next": at + 1 if has_more else None})
            case "/links":
                at = int(query.get("at", 0))
                items = self.items[at : at + self.page]
                more = {"next": f"/links?at={at + self.page}"} if len(items) == self.page else {}
                return self.said({"items": items, **more})
        found = self.said(self.items)
        tag = f'"{len(self.items)}"'
        return (
            Said(304) if asked.headers.get("if-none-match") == tag else Said(200, found.body, {"ETag": tag})
        )

    def said(self, value: Any) -> Said:
        return Said(200, json.dumps(value).encode())


WAYS: dict[str, dict[str, Any]] = {
    "since": {"cursor_item": "id", "parameter": "since"},
    "pages": {"items": "data.items", "cursor_answer": "next", "parameter": "page"},
    "links": {"items": "items", "cursor_answer": "next"},
}


class TestHttpSource(SourceContract):
    way = "since"

    @pytest.fixture(autouse=True)
    def _with_server(self, web: WebServer) -> None:
        self.origin = Feed(web)

    def make(self, folder: Path) -> Source:
        url = f"{self.origin.web.origin}/{self.way}?token=s3cret"
        given = {"url": url, "topic": "t", "key": "id", "poll_s": 0.05, **WAYS[self.way]}
        return HttpSource(HttpSourceConfig(**given), "h")

    def feed(self, folder: Path, values: Sequence[str]) -> None:
        for value in values:
            self.origin.items.append({"id": len(self.origin.items), "word": value})

    def value(self, made: Any) -> str:
        found = json.loads(made.value)
        assert made.key == str(found["id"]).encode()
        return str(found["word"])


class TestHttpSourceByPages(TestHttpSource):
    way = "pages"


class TestHttpSourceByAddresses(TestHttpSource):
    way = "links"


@asynccontextmanager
async def read(web: WebServer, path: str, position: Any = None, **more: Any) -> AsyncIterator[Any]:
    source = HttpSource(HttpSourceConfig(url=web.origin + path, topic="t", poll_s=0.05, **more), "h")
    (unit,) = await source.units({})
    try:
        async with aclosing(source.read(unit, position)) as batches:
            with trio.fail_after(60):
                yield batches
    finally:
        await source.aclose()


def words(batch: Batch) -> list[str]:
    return [json.loads(each.value or b"")["word"] for each in batch.records]


async def test_an_answer_without_a_cursor_is_taken_when_it_has_changed(web: WebServer) -> None:
    """By its tag, and by what is in it."""
    feed = Feed(web)
    feed.items = [{"word": "a"}]
    async with read(web, "/all?token=s3cret") as batches:
        first = await anext(batches)
        assert words(first) == ["a"]
        with trio.move_on_after(0.3):
            await anext(batches)
    assert {each.headers.get("if-none-match") for each in web.asked[1:]} == {'"1"'}
    feed.items.append({"word": "b"})
    async with read(web, "/all", first.position) as batches:
        assert words(await anext(batches)) == ["a", "b"]
    assert "s3cret" not in json.dumps(first.position)


async def test_an_answer_that_is_large_comes_in_parts_and_goes_on_between_them(
    web: WebServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http_source, "BATCH_BYTES", 40)
    feed = Feed(web)
    feed.items, feed.page = [{"id": n, "word": f"w{n}"} for n in range(10)], 10
    for way, more in (*WAYS.items(), ("all", {})):
        async with read(web, f"/{way}", **more) as batches:
            first = await anext(batches)
        async with read(web, f"/{way}", first.position, **more) as batches:
            second = await anext(batches)
        assert words(first) == ["w0", "w1"] and words(second) == ["w2", "w3"], way


@pytest.mark.parametrize(
    ("said", "more", "error", "told"),
    [
        (Said(503, b"", {"Retry-After": "7"}), {}, Unavailable, "answers 503"),
        (Said(403, b"no"), {}, ConnectError, "answers 403: no"),
        (Said(200, b"{"), {}, ConnectError, "no JSON"),
        (Said(200, b"{}"), {}, ConnectError, "the answer is no list"),
        (Said(200, b'{"a": 7}'), {"items": "a"}, ConnectError, "a is no list"),
        (Said(200, b"[{}]"), WAYS["since"], ConnectError, "an item has no 'id'"),
        (Said(200, b'[{"id": 5}]'), WAYS["since"], ConnectError, "over and over"),
        (Said(200, b'{"items": [], "next": "//x/y"}'), WAYS["links"], ConnectError, "another server"),
        (Said(200, b'{"items": [], "next": "http://["}'), WAYS["links"], ConnectError, "is no address"),
        (Said(200, b'{"items": [], "next": "/\\ud800"}'), WAYS["links"], ConnectError, "cannot be asked"),
        (Said(200, b'[{"id": "\\ud800"}]'), WAYS["since"], ConnectError, "is no address"),
        (
            Said(200, b'{"items": [], "next": "//u:pwd@x/y?token=s3cret"}'),
            WAYS["links"],
            ConnectError,
            "goes on at 'http://x/y', which is another server",
        ),
        (Said(410), {**WAYS["since"]}, PositionLost, "does not go on at '5'"),
        (
            Said(200, b'{"data": {"items": []}}'),
            WAYS["pages"],
            PositionLost,
            "has 0 items at '5', and 1 were",
        ),
    ],
)
async def test_what_a_server_answers_that_is_no_items_is_told(
    said: Said, more: dict[str, Any], error: type[Exception], told: str, web: WebServer
) -> None:
    web.answer = lambda _: said
    position = {"cursor": "5", "seen": 1 if error is PositionLost else 0} if "parameter" in more else None
    with pytest.raises(ConnectError, match=told) as failed:
        async with read(web, "/x", position, **more) as batches:
            async for _ in batches:
                pass
    assert type(failed.value) is error and "s3cret" not in str(failed.value)


@pytest.mark.parametrize(
    ("said", "told"),
    [
        (Said(410, b"gone"), "does not go on at 'http://127.0.0.1:[0-9]+/links': it answers 410: gone"),
        (
            Said(200, b'{"items": []}'),
            "has 0 items at 'http://127.0.0.1:[0-9]+/links', and 2 were read of it",
        ),
    ],
)
async def test_an_address_to_go_on_at_is_told_without_what_may_be_secret_in_it(
    said: Said, told: str, web: WebServer
) -> None:
    web.answer = lambda _: said
    for cursor in ("/links?at=4&token=s3cret", web.origin + "/links?at=4&token=s3cret#s3cret"):
        position = {"cursor": cursor, "seen": 2}
        with pytest.raises(PositionLost, match=told) as lost:
            async with read(web, "/links?token=s3cret", position, **WAYS["links"]) as batches:
                await anext(batches)
        assert "s3cret" not in str(lost.value)
    with pytest.raises(PositionLost, match="the position has cursor, seen, and is another's") as lost:
        async with read(web, "/links", {"cursor": "/?token=s3cret", "seen": -1}, **WAYS["links"]) as batches:
            await anext(batches)
    assert "s3cret" not in str(lost.value)


async def test_a_tag_that_no_header_can_have_is_not_sent(web: WebServer) -> None:
    """What is asked for again is answered anew."""
    web.answer = lambda _: Said(200, json.dumps([len(web.asked)]).encode(), {"ETag": '"é"'})
    async with read(web, "/x") as batches:
        assert [(await anext(batches)).records[0].value for _ in range(2)] == [b"1", b"2"]
    assert all("if-none-match" not in each.headers for each in web.asked)


async def test_a_key_that_is_no_unicode_is_a_key_all_the_same(web: WebServer) -> None:
    """JSON has halves of letters, which UTF-8 has not."""
    web.answer = lambda _: Said(200, b'[{"id": "\\ud800"}, {"id": "\\ud801"}]')
    async with read(web, "/x", key="id") as batches:
        batch = await anext(batches)
    assert [one.key for one in batch.records] == [b"\xed\xa0\x80", b"\xed\xa0\x81"]


@pytest.mark.parametrize(
    "position", [{}, {"position": 7}, {"seen": "1"}, {"seen": -1}, {"seen": 0, "cursor": 7}]
)
async def test_a_position_of_another_is_told(position: dict[str, Any], web: WebServer) -> None:
    with pytest.raises(PositionLost):
        async with read(web, "/since", position, **WAYS["since"]) as batches:
            await anext(batches)


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"cursor_item": "a", "cursor_answer": "b"}, "two places"),
        ({"cursor_item": "a"}, "parameter is missing"),
        ({"parameter": "a"}, "say where it is"),
        ({"cursor_answer": "a", "start": "1"}, "parameter is not given"),
    ],
)
def test_options_of_a_source_that_are_wrong_are_told(more: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        HttpSourceConfig(url="https://h/", topic="t", **more)


# -- between brokers


async def test_items_go_through_the_log_to_another_address_over_restarts(
    stage: Stage, web: WebServer
) -> None:
    """59, 62: with a server that is too busy now and then, and one item that is never taken."""
    topic, dead = stage.topic("t"), stage.topic("dead")
    feed = Feed(web)
    turns, taken = 0, set[str]()

    def answer(asked: Asked) -> Said:
        nonlocal turns
        if asked.method == "GET":
            return feed.answer(asked)
        turns += 1
        if turns % 7 == 0:
            return Said(503, b"", {"Retry-After": "0"})
        taken.add(asked.headers["idempotency-key"])
        return Said(422 if b'"word":"w5"' in asked.body else 200)

    web.answer = answer
    source = {"class": "http-source", "url": f"{web.origin}/since", "topic": topic, "poll_s": 0.05}
    sink = {
        "class": "http-sink",
        "url": f"{web.origin}/hook",
        "topics": [topic],
        "batch_wait_ms": 50,
        "errors": {"dlq": dead},
    }
    for end in (10, 20):
        feed.items += [{"id": n, "word": f"w{n}"} for n in range(end - 10, end)]

        async def there(end: int = end) -> bool:
            return len(taken) >= end and bool(await stage.read(dead))

        async with stage.running(src={**source, **WAYS["since"]}, out=sink):
            await until(there, lambda: web.bodies)
    there_now = await stage.read(topic)
    assert [json.loads(each.value or b"")["id"] for each in there_now] == list(range(20))
    assert taken == {f"{topic}-0-{each.offset}" for each in there_now}
    (letter,) = await stage.read(dead)
    assert b"422" in dict(letter.headers)[f"{PREFIX}exception.message"]


async def test_a_connector_ends_at_an_answer_that_is_nobodys_fault_but_its_own(
    stage: Stage, web: WebServer
) -> None:
    topic = stage.topic("t")
    await stage.feed(topic, [b"1"])
    web.answer = lambda _: Said(401)
    with pytest.raises(BaseExceptionGroup) as failed:
        sink = {"class": "http-sink", "url": web.origin, "topics": [topic], "errors": {"tolerance": "all"}}
        async with stage.running(out=sink):
            await trio.sleep_forever()
    assert failed.group_contains(connect.ConnectorFailed, match="answers 401")
