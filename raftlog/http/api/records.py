"""Records of a topic: read, looked through, followed, written. By the package's own client."""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING, Any, Final

import trio

from raftlog.client.metadata import TopicPartition
from raftlog.http.api.record_text import (
    WHOLE_BYTES_MAX,
    Filter,
    bytes_of,
    record_row,
    size_of,
)
from raftlog.http.api.source import Source, partition_of
from raftlog.http.exposition import Pace
from raftlog.http.guard import Need
from raftlog.http.messages import Head, Refusal, Request, Response, Send, bad_request, json_of
from raftlog.http.routes import Route

if TYPE_CHECKING:
    from raftlog.client.client import Client
    from raftlog.client.consumer import Consumer
    from raftlog.client.record import Record

LIMIT: Final = 50
LIMIT_MAX: Final = 500
SEARCHED: Final = 5000
"""Of each partition's newest, which are looked through at once for what somebody looks for."""
READ_BYTES_MAX: Final = 8 << 20
READ_S: Final = 2.0
POLL_MS: Final = 100.0
TAIL_RECORDS_MAX: Final = 100
"""A second, over all partitions."""
TAIL_S: Final = 30 * 60.0
COUNT_MAX: Final = 1000
PRODUCE_BODY_MAX: Final = 2 << 20
FILTERS: Final = ("partition", "contains", "in", "json")


class Records:
    def __init__(self, api: Source) -> None:
        self._api = api

    # Reading

    async def all(self, request: Request, topic: str) -> Response:
        """Stops at the limit, at 8 MiB, after two seconds, or at the end."""
        keys, wanted = self._partitions(request, topic), _filter(request)
        limit = request.int("limit", LIMIT, 1, LIMIT_MAX)
        ends, starts = await self._places(keys, -1), await self._places(keys, -2)
        source = request.text("from", "newest")
        places = _places(request.text("places"), keys)
        if source == "newest":  # the places are where these end, else where they begin
            ends = {key: min(end, places.get(key, end)) for key, end in ends.items()}
        began, is_newest = time.monotonic(), source == "newest"
        window = limit if wanted.takes_all else max(limit, SEARCHED // len(keys))
        while True:
            first = await self._first(source, keys, starts, ends, window)
            if not is_newest:
                first = {
                    key: min(max(places.get(key, at), starts[key]), ends[key]) for key, at in first.items()
                }
            found, scanned, size, stopped = await self._read(first, ends, wanted, limit, is_newest=is_newest)
            if not is_newest or stopped == "end" or window <= limit:
                break
            window = max(limit, window // 8)  # it did not come as far as the newest
        shown = _newest(found, limit, is_newest)
        following = _older(first, found, shown) if is_newest else scanned
        is_all = all(
            place <= starts[key] if is_newest else place >= ends[key] for key, place in following.items()
        )
        rows = await _rows(shown)
        rest = {
            "scanned": {
                "records": sum(scanned[key] - first[key] for key in scanned),
                "bytes": size,
                "ms": round(1000 * (time.monotonic() - began)),
            },
            "stopped": stopped,
            "next": {str(key.partition): str(place) for key, place in following.items()},
            "is_all": is_all,
        }
        return Response(body=f'{{"records":{rows},{json_of(rest)[1:]}'.encode("utf-8", "replace"))

    async def _first(
        self,
        source: str,
        keys: list[TopicPartition],
        starts: Mapping[TopicPartition, int],
        ends: Mapping[TopicPartition, int],
        limit: int,
    ) -> dict[TopicPartition, int]:
        kind, _, rest = source.partition(":")
        if source == "newest":
            wanted = {key: ends[key] - limit for key in ends}
        elif source == "oldest":
            wanted = dict(starts)
        elif kind == "offset":
            wanted = dict.fromkeys(keys, _number(rest))
        elif kind == "time":
            wanted = {**ends, **await self._places(keys, _number(rest))}
        else:
            raise bad_request("from is newest, oldest, offset:N or time:MS")
        return {
            key: min(max(place, starts[key]), ends[key])
            for key, place in wanted.items()
            if key in starts and key in ends
        }

    async def _read(
        self,
        first: Mapping[TopicPartition, int],
        ends: Mapping[TopicPartition, int],
        wanted: Filter,
        limit: int,
        *,
        is_newest: bool,
    ) -> tuple[list[Record], dict[TopicPartition, int], int, str]:
        """What was found, behind what it was looked for, in how many bytes, and why that was all."""
        found: list[Record] = []
        behind = dict(first)
        open_ = {key for key, place in first.items() if place < ends[key]}
        size, stopped = 0, "end"
        if not open_:
            return found, behind, size, stopped
        deadline = trio.current_time() + READ_S
        async with self._consumer(await self._api.client.get(), first) as consumer:
            pace = Pace()
            while open_:
                records = await consumer.poll(LIMIT_MAX)
                for record in records:
                    await pace.breathe()
                    key = TopicPartition(record.topic, record.partition)
                    if record.offset >= ends[key]:
                        continue
                    behind[key] = record.offset + 1
                    size += size_of(record)
                    if wanted.takes(record):
                        found.append(record)
                        if len(found) >= limit and not is_newest:
                            return found, behind, size, "limit"
                    if size >= READ_BYTES_MAX:
                        return found, behind, size, "bytes"
                    if trio.current_time() >= deadline:
                        return found, behind, size, "time"
                for key, position in consumer.positions().items():
                    if position >= ends.get(key, 0):
                        open_.discard(key)
                        behind[key] = ends[key]
                if trio.current_time() >= deadline:
                    stopped = "time"
                    break
        return found, behind, size, stopped

    def _consumer(self, client: Client, first: Mapping[TopicPartition, int]) -> _Placed:
        return _Placed(
            client.consumer(
                partitions=list(first),
                auto_offset_reset="earliest",
                fetch_max_bytes=READ_BYTES_MAX,
                max_partition_fetch_bytes=1 << 20,
                prefetch_max_bytes=READ_BYTES_MAX,
                fetch_max_wait_ms=POLL_MS,
            ),
            first,
        )

    async def one(self, request: Request, topic: str, partition: str, offset: str) -> Response:
        record = await self._record(topic, partition, offset)
        return Response.of(record_row(record, WHOLE_BYTES_MAX))

    async def value(self, request: Request, topic: str, partition: str, offset: str) -> Response:
        """As an attachment, never as a page."""
        record = await self._record(topic, partition, offset)
        name = f"{partition}-{offset}.bin"
        return Response(
            content_type="application/octet-stream",
            headers=(("Content-Disposition", f'attachment; filename="{name}"'),),
            body=record.value or b"",
        )

    async def _record(self, topic: str, partition: str, offset: str) -> Record:
        key, at = TopicPartition(topic, partition_of(self._api, topic, partition)), _number(offset)
        deadline = trio.current_time() + READ_S  # not a cancellation: a refusal would come in a group with it
        if at < (await self._places([key], -1)).get(key, 0):
            async with self._consumer(await self._api.client.get(), {key: at}) as consumer:
                while trio.current_time() < deadline:
                    for record in await consumer.poll(1):
                        if record.offset == at:
                            return record
                        raise Refusal(404, "OFFSET_OUT_OF_RANGE", f"offset {at} is not kept any more")
        raise Refusal(404, "OFFSET_OUT_OF_RANGE", f"there is no record at offset {at}")

    # Following

    async def tail(self, request: Request, topic: str) -> Response:
        keys, wanted = self._partitions(request, topic), _filter(request)

        async def follow(send: Send) -> None:
            with trio.move_on_after(TAIL_S):
                await self._follow(send, keys, wanted)
            await send(b"event: bye\ndata: {}\n\n")

        return Response(
            content_type="text/event-stream",
            headers=(("X-Accel-Buffering", "no"),),
            stream=self._api.counted(follow),
        )

    async def _follow(self, send: Send, keys: list[TopicPartition], wanted: Filter) -> None:
        """Once a second what is new, or the end of it where that is more than a person reads: the rest is
        not even fetched."""
        each = max(1, TAIL_RECORDS_MAX // len(keys))
        ends = await self._places(keys, -1)
        async with self._consumer(await self._api.client.get(), ends) as consumer:
            at = dict(ends)
            while not self._api.stopping.is_set():
                await trio.sleep(1.0)
                ends, skipped = await self._places(keys, -1), 0
                for key in ends:
                    if ends[key] - at.get(key, 0) > each:
                        skipped += ends[key] - each - at[key]
                        at[key] = ends[key] - each
                        consumer.seek(key, at[key])
                records = await consumer.poll(TAIL_RECORDS_MAX)
                for record in records:
                    at[TopicPartition(record.topic, record.partition)] = record.offset + 1
                rows = await _rows(records, wanted)
                data = f'{{"records":{rows},"skipped":{skipped}}}'
                await send(f"event: record\ndata: {data}\n\n".encode("utf-8", "replace"))

    # Writing

    async def produce(self, request: Request, topic: str) -> Response:
        self._api.topic(topic)
        body = request.json()
        unknown = sorted(body.keys() - {"partition", "key", "value", "headers", "timestamp", "count"})
        if unknown:
            raise bad_request(f"there is no {unknown[0][:40]!r} in a record")
        key, value = bytes_of(body.get("key"), "key"), bytes_of(body.get("value"), "value")
        headers = [(str(name), bytes_of(data, "header")) for name, data in body.get("headers", [])]
        count, timestamp = body.get("count", 1), body.get("timestamp")
        if not isinstance(count, int) or not 1 <= count <= COUNT_MAX:
            raise bad_request(f"count is a number from 1 to {COUNT_MAX}")
        at = None if timestamp is None else _number(str(timestamp))
        began = time.monotonic()

        async def write(client: Client) -> Any:
            async with client.producer(acks="all") as producer:
                sent = [
                    await producer.send_soon(
                        topic,
                        value,
                        key=key,
                        partition=body.get("partition"),
                        headers=headers,
                        timestamp_ms=at,
                    )
                    for _ in range(count)
                ]
                await producer.flush()
                return [await delivery.wait() for delivery in sent]

        written = await self._api.client.ask(write)
        last = written[-1]
        took = round(1000 * (time.monotonic() - began), 1)
        return Response.of(
            {"partition": last.partition, "offset": str(last.offset), "count": count, "ms": took}
        )

    # What is asked for

    def _partitions(self, request: Head, name: str) -> list[TopicPartition]:
        count = len(self._api.topic(name).partitions)
        text = request.text("partition")
        numbers = [_number(part) for part in text.split(",")] if text else list(range(count))
        if any(number >= count for number in numbers):
            raise bad_request(f"{name} has the partitions 0 to {count - 1}")
        return [TopicPartition(name, number) for number in dict.fromkeys(numbers)]

    async def _places(self, keys: list[TopicPartition], spec: int) -> dict[TopicPartition, int]:
        found = await self._api.client.ask(lambda c: c.admin.list_offsets(dict.fromkeys(keys, spec)))
        return {key: place.offset for key, place in found.items() if place is not None}


class _Placed:
    """A consumer that begins where it is told to."""

    def __init__(
        self, opening: AbstractAsyncContextManager[Consumer], first: Mapping[TopicPartition, int]
    ) -> None:
        self._opening = opening
        self._first = first

    async def __aenter__(self) -> _Placed:
        self._consumer = consumer = await self._opening.__aenter__()
        for key, place in self._first.items():
            consumer.seek(key.topic, key.partition, place)
        return self

    async def __aexit__(self, *raised: Any) -> bool | None:
        return await self._opening.__aexit__(*raised)

    async def poll(self, max_records: int) -> list[Record]:
        """Raises Refusal for a batch that cannot be read, or is too large to be."""
        from raftlog.client.bounded import BoundedReader
        from raftlog.client.errors import ClientError

        try:
            return await BoundedReader(self._consumer).poll(max_records, max_wait_ms=POLL_MS)
        except ClientError as error:
            raise Refusal(503, "CORRUPT_MESSAGE", str(error)) from error

    def seek(self, key: TopicPartition, offset: int) -> None:
        self._consumer.seek(key.topic, key.partition, offset)

    def positions(self) -> Mapping[TopicPartition, int]:
        return self._consumer.positions()


async def _rows(records: list[Record], wanted: Filter | None = None) -> str:
    """Those that are wanted, as a JSON list. A record can have a hundred headers, and a large value to look
    into: others have their turn in between."""
    pace, rows = Pace(), list[str]()
    for record in records:
        await pace.breathe()
        if wanted is None or wanted.takes(record):
            rows.append(json_of(record_row(record)))
    return f"[{','.join(rows)}]"


def _newest(found: list[Record], limit: int, is_newest: bool) -> list[Record]:
    if not is_newest:
        return found
    return sorted(found, key=lambda record: (record.timestamp, record.offset), reverse=True)[:limit]


def _older(
    first: Mapping[TopicPartition, int], found: list[Record], shown: list[Record]
) -> dict[TopicPartition, int]:
    """Where the older ones end: where this look began, or behind what it found and did not show."""
    older = dict(first)
    kept = {(record.partition, record.offset) for record in shown}
    for record in found:
        if (record.partition, record.offset) not in kept:
            key = TopicPartition(record.topic, record.partition)
            older[key] = max(older[key], record.offset + 1)
    return older


def _places(text: str, keys: list[TopicPartition]) -> dict[TopicPartition, int]:
    """`0:120,1:88`: an offset of some of the partitions. Raises Refusal."""
    known = {key.partition: key for key in keys}
    found = {}
    for part in filter(None, text.split(",")):
        partition, _, offset = part.partition(":")
        key = known.get(_number(partition))
        if key is not None:
            found[key] = _number(offset)
    return found


def _filter(request: Head) -> Filter:
    return Filter(request.text("contains"), request.text("in", "key,value"), request.text("json"))


def _number(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= 19):
        raise bad_request(f"{text[:40]!r} is no number")
    return int(text)


def routes(api: Source) -> list[Route]:
    records, base = Records(api), "/api/v1/topics/{}"
    return [
        Route(
            method="GET",
            path=f"{base}/records",
            need=Need.RECORDS,
            handle=records.all,
            parameters=("from", "limit", "places", *FILTERS),
            doc="Records, from `newest`, `oldest`, `offset:N` or `time:MS`, or `places` that were `next`;"
            " those that hold a text, or whose JSON has a field: `total>17.12`.",
        ),
        Route(
            method="GET",
            path=f"{base}/records/{{}}/{{}}",
            need=Need.RECORDS,
            handle=records.one,
            doc="One record, up to 1 MiB of it.",
        ),
        Route(
            method="GET",
            path=f"{base}/records/{{}}/{{}}/value",
            need=Need.RECORDS,
            handle=records.value,
            doc="Its value, as a file.",
        ),
        Route(
            method="GET",
            path=f"{base}/tail",
            need=Need.RECORDS,
            handle=records.tail,
            parameters=FILTERS,
            doc="Records as they come, at most a hundred a second, as server-sent events.",
        ),
        Route(
            method="POST",
            path=f"{base}/records",
            need=Need.CHANGE,
            handle=records.produce,
            body_max=PRODUCE_BODY_MAX,
            doc="Write a record, or `count` of them.",
        ),
    ]
