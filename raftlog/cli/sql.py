"""`raftlog sql`: a question about topics, or about the stores of an app, answered by DuckDB.

What the query names is read into memory first, as much of it as is asked for, and then the query runs.
Nothing is written anywhere, and nothing else is read.
"""

from __future__ import annotations

import csv
import datetime
import decimal
import io
import json
import math
import sys
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal

import click

from raftlog.cli import fail, parsed
from raftlog.cli.output import print_table, with_formats
from raftlog.cli.streams import app_named, load
from raftlog.cli.target import Target, known_topic, with_brokers
from raftlog.cli.times import Place, parse_place, parse_time
from raftlog.errors import RaftlogError

if TYPE_CHECKING:
    from raftlog.cli.sql_tables import Tables
    from raftlog.client.client import Client
    from raftlog.client.consumer import Consumer
    from raftlog.client.metadata import TopicPartition
    from raftlog.client.record import Record
    from raftlog.streams.topology import App

RECORDS_A_BATCH: Final = 10_000
PATIENCE_MS: Final = 250
"""How long a poll waits before it is looked whether the ends are reached."""
STALL_SECONDS_MAX: Final = 30.0
"""So long without a step towards the ends, and the command fails."""
MIB_DEFAULT: Final = 256
RECORD_BYTES: Final = 64
"""What a record takes in a table beside key, value and headers."""
ROWS_SHOWN_MAX: Final = 1000
"""Rows of an answer for people: their widths are looked at before they are printed."""

FROM: Final = "beginning, an offset, -N for the last N of each partition, or a time"
TO: Final = "end, an offset, or a time"


def _place(text: str) -> Place:
    """`--from` and `--to`. Raises ValueError."""
    place = parse_place(text) if "@" in text or "-" not in text[1:] else Place("time", parse_time(text))
    if place.kind in ("stored", "until"):
        raise ValueError(f"{text!r} is no place here: {FROM}")
    return place


def _until(text: str) -> Place:
    place = _place(text)
    if place.kind in ("beginning", "last"):
        raise ValueError(f"{text!r} is no place to end: {TO}")
    return place


@click.command(
    epilog="""\b
Examples:
  raftlog sql 'select partition, count(*), max("offset") from orders group by all'
  raftlog sql --json 'select country, sum(amount) from payments group by all order by 2 desc'
  raftlog sql --from 2026-11-21 --to 2026-11-22 'select * from "page.views" where key = $$anna$$'
  raftlog sql -n 1000 --format csv 'select timestamp, value from orders' > orders.csv
  raftlog sql --app clicks.py:app --json 'select * from visits order by count desc limit 10'
\b
Columns of a topic:  partition  offset  timestamp (UTC)  key  value  headers
Columns of a store:  worker  partition  time (of windows)  key  value
"""
)
@click.argument("query")
@click.option(
    "--from",
    "start",
    metavar="PLACE",
    default="beginning",
    show_default=True,
    callback=parsed(_place),
    help=f"Where to start: {FROM}.",
)
@click.option(
    "--to",
    "end",
    metavar="PLACE",
    default="end",
    callback=parsed(_until),
    help=f"Where to end: {TO}.  [default: what is the end when the command starts]",
)
@click.option(
    "-n",
    "-c",
    "--count",
    type=click.IntRange(min=1),
    metavar="N",
    help="Read so many records of a topic, or rows of each partition of a store, at most.",
)
@click.option(
    "--max-mib",
    type=click.IntRange(min=1),
    default=MIB_DEFAULT,
    show_default=True,
    metavar="N",
    help="Fail when what is to be read has more.",
)
@click.option(
    "--isolation",
    type=click.Choice(["read_committed", "read_uncommitted"]),
    default="read_committed",
    show_default=True,
    help="Whether records of transactions that were aborted, or are open, are left out.",
)
@click.option("--json", "spread", is_flag=True, help="Columns from values that are JSON.")
@click.option("--bytes", "raw", is_flag=True, help="Keys, values and headers of topics as BLOB, not as text.")
@click.option(
    "--app", metavar="FILE.py:NAME", callback=app_named, help="Its stores are tables, too, before topics are."
)
@click.option(
    "--state", default="streams-state", show_default=True, help="The folder where --app keeps them."
)
@with_formats("csv", help="For people, an object a line, or CSV with a heading.")
@with_brokers
def command(
    target: Target,
    query: str,
    start: Place,
    end: Place,
    count: int | None,
    max_mib: int,
    isolation: Literal["read_committed", "read_uncommitted"],
    spread: bool,
    raw: bool,
    app: str | None,
    state: str,
    output: str,
) -> None:
    """Ask in SQL about topics, and about the stores of a streams app.

    The tables of a query are topics. They are read into memory, and DuckDB answers; nothing is written.
    """
    if spread and raw:
        raise click.UsageError("--json and --bytes say different things about values: give one of them")
    try:
        from raftlog.cli.sql_tables import Tables
    except ModuleNotFoundError as error:
        fail(f"raftlog sql: {error.name} is not installed; pip install 'raftlog[sql]' brings it", 2)
    wanted = _Wanted(
        start=start,
        end=end,
        count=count,
        isolation=isolation,
        budget=_Budget(max_mib << 20),
    )
    tables = Tables(bytes_max=max_mib << 20, raw=raw)
    try:
        names = tables.named(query)
        topics = _add_stores(tables, names, load(app), state, wanted) if app else names
        if topics:
            target.run(_reading(tables, topics, wanted), allow_auto_create_topics=False)
        for name in names if spread else ():
            if bad := tables.spread(name):
                click.echo(f"{bad:,} values of {name!r} are no JSON: they are null", err=True)
        _PRINTERS[output](*tables.ask(query))
    except RaftlogError as error:
        raise click.ClickException(str(error)) from error
    finally:
        tables.close()


class _Budget:
    """How many bytes may be read, in all."""

    def __init__(self, bytes_max: int) -> None:
        self._left = self._max = bytes_max

    def take(self, name: str, count: int) -> None:
        """Raises ClickException when there are not so many left."""
        self._left -= count
        if self._left < 0:
            raise click.ClickException(
                f"{name!r} has more than {self._max >> 20} MiB to read: take a part of it, with --from, --to"
                " or -n, or more memory, with --max-mib"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Wanted:
    """What is read of each table."""

    start: Place
    end: Place
    count: int | None
    isolation: Literal["read_committed", "read_uncommitted"]
    budget: _Budget


# -- stores


def _add_stores(tables: Tables, names: list[str], app: App, state: str, wanted: _Wanted) -> list[str]:
    """Read those that are stores; what is left is topics."""
    from raftlog.streams.looking import copies, rows, stores_of

    stores = stores_of(app)
    for name in names:
        if name not in stores:
            continue
        part, spec = stores[name]
        tables.add_store(name, timed=spec.lasts_ms is not None)
        found, older = copies(state, app, part)
        if not found:
            click.echo(f"{state} has nothing of store {name!r}: --state says where it is kept", err=True)
        if older:
            click.echo(f"{older} older copies of tasks were left out", err=True)
        for copy in found:
            for some in rows(copy, spec, sys.maxsize if wanted.count is None else wanted.count):
                wanted.budget.take(name, sum(RECORD_BYTES + len(row[3]) + len(row[4]) for row in some))
                tables.add_rows(name, some)
    return [name for name in names if name not in stores]


# -- topics


def _reading(tables: Tables, topics: list[str], wanted: _Wanted) -> Callable[[Client], Any]:
    async def main(client: Client) -> None:
        for topic in topics:
            await _read(client, tables, topic, wanted)

    return main


async def _read(client: Client, tables: Tables, topic: str, wanted: _Wanted) -> None:
    """A topic's records into its table."""
    import trio

    from raftlog.cli.ranges import starts
    from raftlog.client.metadata import TopicPartition

    view = await known_topic(client, topic)
    tables.add_topic(topic)
    partitions = [TopicPartition(topic, one.partition) for one in view.partitions]
    begin = await starts(client, wanted.start, partitions)
    async with client.consumer(
        partitions=partitions, auto_offset_reset="earliest", isolation_level=wanted.isolation
    ) as consumer:
        ends = await _ends(consumer, partitions, wanted.end)
        for key, offset in begin.items():
            consumer.seek(*key, offset)
            if offset >= ends[key]:
                consumer.pause(key)
        left = sys.maxsize if wanted.count is None else wanted.count
        async with aclosing(_batches(consumer, ends)) as batches:
            async for records in batches:
                records = records[:left]
                left -= len(records)
                wanted.budget.take(topic, sum(map(_size, records)))
                await trio.to_thread.run_sync(tables.add_records, topic, records)
                if not left:
                    break


async def _ends(
    consumer: Consumer[bytes, bytes], partitions: list[TopicPartition], end: Place
) -> dict[TopicPartition, int]:
    """Behind the last record of each partition, or before it."""
    ends = await consumer.end_offsets(*partitions)
    if end.kind == "time":
        later = await consumer.offsets_for_times(dict.fromkeys(partitions, end.value))
        ends = {key: min(at, found.offset) if (found := later[key]) else at for key, at in ends.items()}
    elif end.kind == "offset":
        ends = {key: min(at, end.value) for key, at in ends.items()}
    return ends


async def _batches(
    consumer: Consumer[bytes, bytes], ends: dict[TopicPartition, int]
) -> AsyncGenerator[list[Record[bytes, bytes]], None]:
    """Lists of records until the ends are reached, by position: where a log is compacted, or has control
    records, it has no record at its end. Raises ClickException when that comes no nearer."""
    import trio

    from raftlog.client.metadata import TopicPartition

    moved_at, before = trio.current_time(), consumer.positions()
    while True:
        open_ones = {key for key in ends if key not in consumer.paused}
        if not open_ones:
            return
        records = await consumer.poll(RECORDS_A_BATCH, max_wait_ms=PATIENCE_MS)
        records = [one for one in records if one.offset < ends[TopicPartition(one.topic, one.partition)]]
        if records:
            yield records
        positions = consumer.positions()
        for key in open_ones:
            if positions.get(key, -1) >= ends[key]:
                consumer.pause(key)
        if positions != before:
            moved_at, before = trio.current_time(), positions
        elif trio.current_time() - moved_at > STALL_SECONDS_MAX:
            key = min(open_ones)
            raise click.ClickException(
                f"{key!r} comes no further than {positions.get(key, 'nothing')} of {ends[key]}: its broker's"
                " log may say why"
            )


def _size(record: Record[bytes, bytes]) -> int:
    headers = sum(len(name) + len(value or b"") for name, value in record.headers)
    return RECORD_BYTES + len(record.key or b"") + len(record.value or b"") + headers


# -- what comes out

Rows = Iterator[list[tuple[Any, ...]]]


def _print_text(columns: Sequence[str], rows: Rows) -> None:
    shown: list[list[object]] = []
    more = False
    for some in rows:
        shown += [[_cell(value) for value in row] for row in some[: ROWS_SHOWN_MAX + 1 - len(shown)]]
        if more := len(shown) > ROWS_SHOWN_MAX:
            break
    print_table(columns, shown[:ROWS_SHOWN_MAX])
    if more:
        click.echo(f"these are the first {ROWS_SHOWN_MAX:,} rows: --format csv, or json, gives all", err=True)


def _print_json(columns: Sequence[str], rows: Rows) -> None:
    for some in rows:
        lines = [
            json.dumps(
                {name: _json(value) for name, value in zip(columns, row, strict=True)},
                ensure_ascii=False,
                default=_plain,
            )
            for row in some
        ]
        click.echo("\n".join(lines))


def _print_csv(columns: Sequence[str], rows: Rows) -> None:
    def printed(lines: Sequence[Sequence[object]]) -> None:
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows(lines)
        click.echo(text.getvalue(), nl=False)

    printed([columns])
    for some in rows:
        printed([["" if value is None else _cell(value) for value in row] for row in some])


_PRINTERS: Final[dict[str, Callable[[Sequence[str], Rows], None]]] = {
    "text": _print_text,
    "json": _print_json,
    "csv": _print_csv,
}


def _cell(value: Any) -> object:
    """A value in a table."""
    if value is None or (isinstance(value, int) and not isinstance(value, bool)):
        return value
    if isinstance(value, str):
        return value
    if isinstance(value, dict | list):
        return json.dumps(_json(value), ensure_ascii=False, default=_plain)
    plain = _plain(value) if not isinstance(value, float | bool) else value
    return str(plain).lower() if isinstance(plain, bool) else plain if isinstance(plain, int) else str(plain)


def _json(value: Any) -> Any:
    """A value with the keys and numbers that JSON has: keys of a map are of any type, a double may be nan."""
    match value:
        case dict():
            return {
                key if isinstance(key, str) else str(_cell(key)): _json(each) for key, each in value.items()
            }
        case list():
            return [_json(each) for each in value]
        case float() if not math.isfinite(value):
            return str(value)
        case _:
            return value


def _plain(value: Any) -> Any:
    """What JSON does not know."""
    match value:
        case datetime.datetime():
            return value.isoformat(timespec="milliseconds").removesuffix("+00:00") + "Z"
        case decimal.Decimal():
            return int(value) if value == value.to_integral_value() else float(value)
        case bytes():
            return value.decode(errors="backslashreplace")
        case _:
            return str(value)
