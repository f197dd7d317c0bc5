"""The S3 sink on a real server, without a log: the contract, and what only a bucket shows."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import pytest
import trio

from raftlog.client.metadata import TopicPartition
from raftlog.client.record import Record
from raftlog.connect import ConnectError, Refused, Sink, Unavailable, s3
from raftlog.connect.s3 import Bucket, S3Config
from raftlog.connect.s3_sink import ENDS, S3Sink, S3SinkConfig
from raftlog.errors import ConfigError
from raftlog.testing.connect import P0, P1, SinkContract, record
from tests.connect.s3_server import KEY, S3Server, serving


@pytest.fixture(scope="module")
def server() -> Iterator[S3Server]:
    yield from serving()


class TestS3Sink(SinkContract):
    """A bucket for each folder. 60, 61, 62."""

    exactly_once = True
    more: ClassVar[dict[str, Any]] = {}

    @pytest.fixture(autouse=True)
    def _with_server(self, server: S3Server) -> None:
        self.server = server
        self.buckets: dict[Path, str] = {}

    def bucket(self, folder: Path) -> str:
        if folder not in self.buckets:
            self.buckets[folder] = self.server.bucket()
        return self.buckets[folder]

    def make(self, folder: Path) -> Sink:
        given = {"roll_s": 0.0, "place": False, **self.more}
        return S3Sink(
            S3SinkConfig(bucket=self.bucket(folder), endpoint=self.server.endpoint, **KEY, **given), "s"
        )

    def contents(self, folder: Path) -> Sequence[bytes]:
        return self.server.lines(self.bucket(folder))

    def refused(self, key: TopicPartition, offset: int) -> Record:
        return record(key, offset)._replace(value=b'{"n": NaN}')


class TestS3SinkByNumbers(TestS3Sink):
    """Cut by their records, and not compressed."""

    more: ClassVar[dict[str, Any]] = {"roll_records": 3, "compression": "none"}


class TestS3SinkOverwriting(TestS3Sink):
    """A store that does not know If-None-Match."""

    more: ClassVar[dict[str, Any]] = {"if_none_match": False, "format": "lines"}

    def refused(self, key: TopicPartition, offset: int) -> Record:
        return record(key, offset)._replace(value=b"two\nlines")


class Archive:
    """One bucket, and sinks of it."""

    def __init__(self, server: S3Server) -> None:
        self.server, self.bucket = server, server.bucket()

    def sink(self, **more: Any) -> S3Sink:
        given = {"bucket": self.bucket, "roll_s": 0.0, "place": False, "compression": "none", **KEY, **more}
        return S3Sink(S3SinkConfig(endpoint=self.server.endpoint, **given), "s")

    def numbers(self) -> list[str]:
        return [json.loads(line)["n"] for line in self.server.lines(self.bucket)]


@pytest.fixture
def archive(server: S3Server) -> Archive:
    return Archive(server)


def some(first: int, end: int, key: TopicPartition = P0) -> list[Record]:
    return [record(key, offset) for offset in range(first, end)]


async def test_objects_are_named_by_their_first_offset_and_cut_where_it_is_said(archive: Archive) -> None:
    """By records, by bytes, by time; the same records make the same objects."""
    sink = archive.sink(prefix="old/", roll_records=4, roll_s=3600.0)
    await sink.open(frozenset([P0, P1]))
    await sink.write(some(10, 19))
    assert await sink.flush() == {P0: 18}
    assert archive.server.names(archive.bucket) == [f"old/things/0/{first:020}.jsonl" for first in (10, 14)]
    await sink.close(frozenset([P0]))
    small = archive.sink(prefix="old/", roll_bytes=2 * len('{"n": "1/0"}\n'), roll_s=3600.0)
    await small.write(some(0, 5, P1))
    assert await small.flush() == {P1: 4}
    assert (
        archive.server.body(archive.bucket, f"old/things/1/{2:020}.jsonl") == b'{"n": "1/2"}\n{"n": "1/3"}\n'
    )
    for each in (sink, small):
        await each.aclose()


@pytest.mark.parametrize("more", [{"roll_records": 1}, {"roll_records": 3}, {"roll_bytes": 30}], ids=str)
async def test_an_object_has_all_that_a_transform_made_of_a_record_or_nothing(
    more: dict[str, Any], archive: Archive, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two of each. The process ends behind any of the objects: the next goes on where that one ends."""
    made = [record(P0, n)._replace(offset=n // 2) for n in range(14)]
    create = Bucket.create

    def one_object(self: Bucket, *arguments: Any) -> None:
        monkeypatch.setattr(Bucket, "create", never)
        create(self, *arguments)

    def never(*_: Any) -> None:
        raise Unavailable("the process has ended")

    for _ in range(7):
        monkeypatch.setattr(Bucket, "create", one_object)
        sink = archive.sink(**more)
        at = (await sink.open(frozenset([P0]))).get(P0, 0)
        await sink.write([one for one in made if one.offset >= at])
        with suppress(Unavailable):
            await sink.flush()
        await sink.aclose()
    assert archive.numbers() == [f"0/{n}" for n in range(14)]


async def test_a_line_is_json_with_its_place_and_all_its_digits(archive: Archive) -> None:
    sink = archive.sink(place=True, compression="gzip")
    await sink.open(frozenset([P0]))
    values = [b'{"a": 12345678901234567890.10,\n "b": "x\\ny"}', b"{ }", None]
    await sink.write([record(P0, n)._replace(value=value) for n, value in enumerate(values)])
    await sink.flush()
    place = '{"_key":"k","_offset":%d,"_partition":0,"_timestamp":%d,"_topic":"things"'
    assert [line.decode() for line in archive.server.lines(archive.bucket)] == [
        place % (0, 1000) + ',"a": 12345678901234567890.10,  "b": "x\\ny"}',
        place % (1, 1001) + "}",
        place % (2, 1002) + "}",
    ]
    for wrong in (b"[1]", b"7", b"{", b"\xff", b'{"a": Infinity}', b""):
        with pytest.raises(Refused):
            await sink.write([record(P0, 3)._replace(value=wrong)])
    await sink.aclose()


async def test_one_who_was_paused_changes_nothing(archive: Archive) -> None:
    """61: it has the partition no more, and does not know. What it held would be less than what is there."""
    old, new = archive.sink(), archive.sink()
    for sink in (old, new):
        await sink.open(frozenset([P0]))
    await old.write(some(0, 5))
    await new.write(some(0, 9))
    assert await new.flush() == {P0: 9}
    with pytest.raises(Unavailable, match="PreconditionFailed"):
        await old.flush()
    await old.close(frozenset([P0]))
    assert await old.open(frozenset([P0])) == {P0: 9}
    assert archive.numbers() == [f"0/{n}" for n in range(9)]
    for sink in (old, new):
        await sink.aclose()


async def test_a_request_that_was_not_answered_is_found_later(archive: Archive) -> None:
    """The store stands still, and the event loop does not; what was under way is there once."""
    sink = archive.sink(answer_s=1)
    await sink.open(frozenset([P0]))
    await sink.write(some(0, 5))
    archive.server.pause()
    turns = 0
    try:
        async with trio.open_nursery() as nursery:

            async def count() -> None:
                nonlocal turns
                while True:
                    turns += 1
                    await trio.sleep(0.01)

            nursery.start_soon(count)
            with pytest.raises(Unavailable):
                await sink.flush()
            with trio.move_on_after(0.1) as given_up:
                await sink.flush()
            assert given_up.cancelled_caught
            nursery.cancel_scope.cancel()
    finally:
        archive.server.resume()
    assert turns > 10
    with trio.fail_after(60):
        while True:
            await sink.close(frozenset([P0]))
            try:
                at = (await sink.open(frozenset([P0]))).get(P0, 0)
                await sink.write(some(at, 8))
                assert await sink.flush() == {P0: 8}
                break
            except Unavailable:
                await trio.sleep(0.1)
    assert archive.numbers() == [f"0/{n}" for n in range(8)]
    await sink.aclose()


async def test_what_is_held_in_memory_is_bounded(archive: Archive) -> None:
    """The largest are cut short."""
    sink = archive.sink(roll_s=3600.0, memory_bytes=1000)
    await sink.open(frozenset([P0, P1]))
    for first in range(0, 400, 50):
        await sink.write([*some(first, first + 50), *some(first // 10, first // 10 + 5, P1)])
        await sink.flush()
        assert sink._held() <= 1000
    assert (await sink.flush())[P0] > 300
    await sink.aclose()


async def test_the_last_of_many_objects_is_found_by_few_requests(
    archive: Archive, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Beside what others have put there."""
    monkeypatch.setattr(s3, "PAGE", 10)
    names = [*range(0, 40, 4), *range(100, 130), *range(1000, 9000, 500), 10**9, 10**9 + 1, 10**12]
    bucket = Bucket(
        S3Config(bucket=archive.bucket, endpoint=archive.server.endpoint, **KEY), overwrites=False
    )
    asked = 0
    page = Bucket._page

    def counted(self: Bucket, *arguments: Any) -> list[str]:
        nonlocal asked
        asked += 1
        return page(self, *arguments)

    monkeypatch.setattr(Bucket, "_page", counted)
    assert bucket.last("t/0") is None
    for other in ("t/0/-notes", "t/0/_SUCCESS", "t/01/x", "t/0/a/b", f"t/0/a/{10**15:020}.jsonl"):
        archive.server.boto.put_object(Bucket=archive.bucket, Key=other, Body=b"")
    assert bucket.last("t/0") is None
    for number in names:
        bucket.create(f"t/0/{number:020}.jsonl", b"", {ENDS: str(number + 1)})
        asked = 0
        last = bucket.last("t/0")
        assert last is not None and last.told[ENDS] == str(number + 1), number
        assert asked < 70


@pytest.mark.parametrize(
    ("more", "error", "said"),
    [
        ({"bucket": "no-such-bucket"}, ConnectError, "NoSuchBucket: The specified bucket does not exist"),
        ({"endpoint": "http://127.0.0.1:1"}, Unavailable, "bucket"),
    ],
)
async def test_what_a_store_refuses_is_told_apart_from_what_passes(
    more: dict[str, Any], error: type[Exception], said: str, archive: Archive
) -> None:
    given = {"bucket": archive.bucket, "endpoint": archive.server.endpoint, "roll_s": 0.0, **KEY, **more}
    sink = S3Sink(S3SinkConfig(**given), "s")
    for step in (partial(sink.open, frozenset([P0])), sink.flush):
        with pytest.raises(ConnectError, match=said) as failed:
            await sink.write(some(0, 1))
            await step()
        assert type(failed.value) is error
        assert "Debug" not in str(failed.value) and KEY["secret_access_key"] not in str(failed.value)


async def test_an_object_that_does_not_say_where_it_ends_is_told(archive: Archive) -> None:
    archive.server.boto.put_object(Bucket=archive.bucket, Key=f"things/0/{7:020}.jsonl", Body=b"")
    with pytest.raises(ConnectError, match=f"{7:020}.jsonl .*does not say where it ends"):
        await archive.sink().open(frozenset([P0, P1]))


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"bucket": ""}, "bucket is empty"),
        ({"endpoint": "minio:9000"}, "https://"),
        ({"access_key_id": "a"}, "belong together"),
        ({"prefix": "/a"}, "slash"),
    ],
)
def test_options_that_are_wrong_are_told(more: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        S3SinkConfig(**{"bucket": "b", **more})
