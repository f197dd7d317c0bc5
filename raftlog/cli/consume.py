"""`raftlog consume`: the records of a topic go to standard output.

Records of a group are written before they count as done, so a record is repeated rather than lost when the
command dies. Output is written in a thread: a reader that is slow stops the reading, not the heartbeats, and
one that goes away ends the command at once.
"""

from __future__ import annotations

import os
import select
import stat
import sys
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import click

from raftlog.cli import parsed
from raftlog.cli.ranges import starts
from raftlog.cli.target import Target, known_topic, with_brokers
from raftlog.cli.template import Print, as_json, compile_template, keyed, unescape
from raftlog.cli.times import PLACES, Place, parse_place

if TYPE_CHECKING:
    import trio

    from raftlog.client.client import Client
    from raftlog.client.consumer import Consumer
    from raftlog.client.metadata import TopicPartition
    from raftlog.client.record import Record

RECORDS_MAX: Final = 1000
"""Records that are printed in one go."""
PATIENCE_MS: Final = 250
"""How long a poll waits before the end of the log is looked at again."""
STALL_SECONDS: Final = 5.0
"""After so long without a record that is known to be there, that is said, once."""
HINT_SECONDS: Final = 2.0
"""After so long without a record, a person is told why there is none."""


def _places(
    ctx: click.Context, parameter: click.Parameter, values: tuple[str, ...]
) -> tuple[Place | None, int | None]:
    """Where to start, and the time to end at."""
    try:
        places = [parse_place(value) for value in values]
    except ValueError as error:
        raise click.BadParameter(str(error)) from None
    starts = [place for place in places if place.kind != "until"]
    ends = [place.value for place in places if place.kind == "until"]
    if len(starts) > 1 or len(ends) > 1:
        raise click.BadParameter("there is one place to start and one to end")
    return next(iter(starts), None), next(iter(ends), None)


def _template(text: str) -> str:
    compile_template(text)
    return text


@click.command(
    epilog="""\b
Examples:
  raftlog consume orders --from-beginning
  raftlog consume orders -o -10 -e                    the last ten of each partition
  raftlog consume orders -o s@2026-11-21T10:00 -e     from a time on
  raftlog consume orders -o s@2026-11-21 -o e@2026-11-22     of one day
  raftlog consume orders --group billing              share the work, go on where it was left
  raftlog consume orders -e -o beginning -f '%p:%o %k = %s\\n'
  raftlog consume orders --from-beginning -J | jq .payload
\b
Letters of -f:  %s value  %k key  %t topic  %p partition  %o offset  %T time in ms  %h headers
                %S, %K length of value, key (-1: null)  %R length in 4 bytes  %%   \\n \\t \\xHH
"""
)
@click.argument("topic")
@click.option("-G", "-g", "--group", help="Read as a member of this consumer group, and commit.")
@click.option("--from-beginning", is_flag=True, help="The same as -o beginning.")
@click.option(
    "-o",
    "--offset",
    "places",
    metavar="PLACE",
    multiple=True,
    callback=_places,
    help=f"Where to start: {PLACES}.  [default: end; with --group: stored]",
)
@click.option("-p", "--partition", type=click.IntRange(min=0), metavar="N", help="Read this partition only.")
@click.option(
    "-n", "-c", "--count", type=click.IntRange(min=1), metavar="N", help="End after so many records."
)
@click.option(
    "-e", "--exit-at-end", is_flag=True, help="End when all that was there at the start is printed."
)
@click.option("-f", "--template", metavar="TEXT", callback=parsed(_template), help="How a record is printed.")
@click.option(
    "-K", "--delimiter", callback=parsed(unescape), help="Print key, delimiter (such as \\t) and value."
)
@click.option("-Z", "--null", "show_null", is_flag=True, help="Print a null as NULL instead of nothing.")
@click.option("-J", "as_lines_of_json", is_flag=True, help="The same as --format json.")
@click.option(
    "--format",
    "output",
    type=click.Choice(["text", "json"]),
    default="text",
    show_default=True,
    help="The value, a line a record, or a JSON object.",
)
@with_brokers
def command(
    target: Target,
    topic: str,
    group: str | None,
    from_beginning: bool,
    places: tuple[Place | None, int | None],
    partition: int | None,
    count: int | None,
    exit_at_end: bool,
    template: str | None,
    delimiter: bytes | None,
    show_null: bool,
    as_lines_of_json: bool,
    output: str,
) -> None:
    """Print the records of a topic, as they come, until Ctrl-C.

    Without --from-beginning or -o it waits for new records.
    """
    place, until = places
    if from_beginning and place not in (None, Place("beginning")):
        raise click.UsageError("--from-beginning and -o say different things: give one of them")
    place = Place("beginning") if from_beginning else place
    null = b"NULL" if show_null else b""
    shown: Print
    if output == "json" or as_lines_of_json:
        shown = as_json
    elif delimiter is not None and template is None:
        shown = keyed(delimiter, null=null)
    else:
        shown = compile_template("%s\\n" if template is None else template, null=null)
    wanted = _Wanted(
        topic=topic, group=group, place=place, partition=partition, until=until, exit_at_end=exit_at_end
    )
    _check(wanted)

    async def main(client: Client) -> None:
        async with _closed_pipe() as nursery:
            await _print(client, wanted, shown, count, nursery)
            nursery.cancel_scope.cancel()

    target.run(main, allow_auto_create_topics=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Wanted:
    """What is read."""

    topic: str
    group: str | None
    place: Place | None
    partition: int | None
    until: int | None
    exit_at_end: bool

    @property
    def kind(self) -> str:
        return self.place.kind if self.place else "stored" if self.group else "end"


def _check(wanted: _Wanted) -> None:
    """Refuse what makes no sense."""
    if wanted.kind == "stored" and not wanted.group:
        raise click.UsageError("-o stored needs --group: a group is what offsets are stored for")
    if wanted.group and wanted.until is not None:
        raise click.UsageError("-o e@TIME is for reading without --group: a group has read what it was given")
    if wanted.group and wanted.partition is None and wanted.kind not in ("stored", "beginning", "end"):
        raise click.UsageError(
            "a group goes on where it was: move it with `raftlog group seek`, or leave --group out"
        )


async def _print(
    client: Client, wanted: _Wanted, shown: Print, count: int | None, nursery: trio.Nursery
) -> None:
    import trio

    async with _reading(client, wanted) as consumer:
        ends = await _ends(client, wanted)
        if wanted.kind == "end" and ends is None and sys.stderr.isatty():
            nursery.start_soon(_hint, consumer, wanted.topic)
        async with aclosing(_batches(consumer, count, ends, wanted.until is not None)) as batches:
            async for records in batches:
                text = b"".join(map(shown, records))
                await trio.to_thread.run_sync(_write, text, abandon_on_cancel=True)


@asynccontextmanager
async def _reading(client: Client, wanted: _Wanted) -> AsyncIterator[Consumer]:
    """A consumer that stands where reading starts."""
    from raftlog.client.metadata import TopicPartition

    view = await known_topic(client, wanted.topic)
    partitions = [TopicPartition(wanted.topic, one.partition) for one in view.partitions]
    if wanted.partition is not None:
        partitions = [one for one in partitions if one.partition == wanted.partition]
        if not partitions:
            raise click.ClickException(
                f"topic {wanted.topic!r} has no partition {wanted.partition}: the last one is"
                f" {len(view.partitions) - 1}"
            )
    reset: Any = "earliest" if wanted.kind == "beginning" else "latest"
    if wanted.kind in ("offset", "last", "time"):
        begin = await starts(client, wanted.place or Place("end"), partitions)
        async with client.consumer(group=wanted.group, partitions=partitions) as consumer:
            for (topic, partition), offset in begin.items():
                consumer.seek(topic, partition, offset)
            yield consumer
    elif wanted.partition is not None:
        async with client.consumer(
            group=wanted.group, partitions=partitions, auto_offset_reset=reset
        ) as consumer:
            yield consumer
    else:
        async with client.consumer(wanted.topic, group=wanted.group, auto_offset_reset=reset) as consumer:
            yield consumer


async def _ends(client: Client, wanted: _Wanted) -> dict[TopicPartition, int] | None:
    """The offset to end at in each partition, if there is to be an end."""
    if wanted.until is None and not wanted.exit_at_end:
        return None
    ends = await client.admin.end_offsets(wanted.topic)
    if wanted.until is not None:
        later = await client.admin.list_offsets(dict.fromkeys(ends, wanted.until))
        ends |= {key: found.offset for key, found in later.items() if found is not None}
    return ends


async def _batches(
    consumer: Consumer, count: int | None, ends: dict[TopicPartition, int] | None, nothing_later: bool
) -> AsyncGenerator[list[Record], None]:
    """Lists of records as soon as there are any, until there were `count` or `ends` is reached; what lies
    behind the ends comes along unless `nothing_later`.

    One record is waited for; then whatever else is there is taken, and nothing more than is printed, since
    a group commits what it was given.
    """
    import trio

    from raftlog.client.metadata import TopicPartition

    left = sys.maxsize if count is None else count
    records: list[Record] = []
    moved_at = trio.current_time()
    while left:
        wanted, patience = (min(RECORDS_MAX, left), 0) if records else (1, PATIENCE_MS)
        records = await consumer.poll(wanted, max_wait_ms=patience)
        if ends is not None and nothing_later:
            records = [one for one in records if one.offset < ends[TopicPartition(one.topic, one.partition)]]
        left -= len(records)
        if records:
            yield records
            moved_at = trio.current_time()
        if ends is None:
            continue
        if _at_end(consumer, ends):
            return
        if trio.current_time() - moved_at > STALL_SECONDS:
            _say_stalled(consumer, ends)
            moved_at = float("inf")


def _say_stalled(consumer: Consumer, ends: dict[TopicPartition, int]) -> None:
    """Say which partitions do not move: the client retries in silence what may pass."""
    positions = consumer.positions()
    for key, end in ends.items():
        if key in consumer.assignment and positions.get(key, -1) < end:
            place = positions.get(key, "an unknown offset")
            click.echo(
                f"still waiting for {key!r}, at {place} of {end}: its broker's log may say why", err=True
            )


def _at_end(consumer: Consumer, ends: dict[TopicPartition, int]) -> bool:
    """Whether every partition that this consumer reads is at or behind its end."""
    mine = consumer.assignment
    if not mine:  # the other members of the group have them all
        return consumer.statistics().rebalances > 0
    positions = consumer.positions()
    return all(positions.get(key, -1) >= ends.get(key, 0) for key in mine)


def _write(text: bytes) -> None:
    view = memoryview(text)
    descriptor = sys.stdout.fileno()
    while view:
        try:
            view = view[os.write(descriptor, view) :]
        except BlockingIOError:
            select.select([], [descriptor], [])


@asynccontextmanager
async def _closed_pipe() -> AsyncIterator[trio.Nursery]:
    """Raises BrokenPipeError in the body when the reader of a pipe goes away, also while nothing is written.

    Gives a nursery for what runs beside the reading.
    """
    import trio

    descriptor = sys.stdout.fileno()

    async def watch() -> None:
        await trio.lowlevel.wait_readable(descriptor)  # of a pipe's writing end: its reader has left
        raise BrokenPipeError

    async with trio.open_nursery() as nursery:
        if stat.S_ISFIFO(os.fstat(descriptor).st_mode):
            nursery.start_soon(watch)
        yield nursery


async def _hint(consumer: Consumer, topic: str) -> None:
    import trio

    await trio.sleep(HINT_SECONDS)
    if consumer.statistics().records == 0:
        click.echo(
            f"waiting for new records of {topic} (--from-beginning prints those that are there)", err=True
        )
