"""`raftlog produce`: the lines of standard input become records.

Reading is done in a thread, a chunk at a time, and waits while the producer's buffer is full, so what is held
is bounded by LINE_BYTES_MAX and the producer's `buffer_memory`. What the command reports is what was
acknowledged, however it ends.
"""

from __future__ import annotations

import os
import sys
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import click

from raftlog.cli import parsed
from raftlog.cli.output import counted
from raftlog.cli.target import Target, with_brokers
from raftlog.cli.template import unescape

if TYPE_CHECKING:
    from raftlog.client.client import Client
    from raftlog.client.producer import Producer

CHUNK_BYTES: Final = 1 << 16
LINE_BYTES_MAX: Final = 64 << 20
"""A longer line is no text; the limit of what a broker takes is far below."""
NEW_TOPIC_PATIENCE_MS: Final = 10_000
"""How long a topic that does not exist may take to appear."""
LAST_WORDS_SECONDS: Final = 0.5
"""After Ctrl-C, how long what was read already has to be acknowledged."""
PROGRESS_SECONDS: Final = 0.5


@dataclass(frozen=True, slots=True)
class LineFormat:
    """What a line says. `delimiter` parts key and value; a line without it is a value (kcat's rule)."""

    delimiter: bytes | None
    empty_is_null: bool

    def parse(self, line: bytes) -> tuple[bytes | None, bytes | None]:
        """The key and the value."""
        key: bytes | None = None
        value: bytes | None = line
        if self.delimiter is not None:
            first, found, rest = line.partition(self.delimiter)
            if found:
                key, value = first, rest
        if self.empty_is_null:
            return key or None, value or None
        return key, value


def _headers(
    ctx: click.Context, parameter: click.Parameter, values: tuple[str, ...]
) -> tuple[tuple[str, bytes | None], ...]:
    headers = []
    for text in values:
        name, separator, value = text.partition("=")
        headers.append((name, value.encode() if separator else None))
    return tuple(headers)


def _delimiter(text: str) -> bytes:
    if not text:
        raise ValueError("the delimiter is empty")
    return unescape(text)


@click.command(
    epilog="""\b
Examples:
  echo 'one apple' | raftlog produce orders
  echo 'alice:one apple' | raftlog produce orders -k
  raftlog produce orders -K ';' -z zstd -H source=import < orders.csv
"""
)
@click.argument("topic")
@click.option("-k", "--keys", is_flag=True, help="Lines are key:value.")
@click.option(
    "-K",
    "--delimiter",
    callback=parsed(_delimiter),
    help="The same, with another delimiter than a colon, such as \\t.",
)
@click.option(
    "-z",
    "--compression",
    type=click.Choice(["none", "gzip", "snappy", "lz4", "zstd"]),
    default="none",
    show_default=True,
    help="How batches are compressed.",
)
@click.option(
    "--acks",
    type=click.Choice(["all", "1", "0"]),
    default="all",
    show_default=True,
    help="Who must have a record before it counts; 0 asks for no answer at all.",
)
@click.option(
    "-p", "--partition", type=click.IntRange(min=0), metavar="N", help="Write to this partition only."
)
@click.option(
    "-H",
    "--header",
    "headers",
    multiple=True,
    metavar="NAME=VALUE",
    callback=_headers,
    help="A header of every record. May be repeated.",
)
@click.option("-Z", "--null", "empty_is_null", is_flag=True, help="Write an empty value or key as null.")
@with_brokers
def command(
    target: Target,
    topic: str,
    keys: bool,
    delimiter: bytes | None,
    compression: Any,
    acks: str,
    partition: int | None,
    headers: tuple[tuple[str, bytes | None], ...],
    empty_is_null: bool,
) -> None:
    """Publish the lines of standard input, each as a record.

    Says on stderr how many records were acknowledged. With a key, a record goes to the partition where
    every client of Kafka's would put it; a line without the delimiter has no key.
    """
    lines = LineFormat(delimiter or (b":" if keys else None), empty_is_null)

    async def main(client: Client) -> None:
        await _check_topic(client, topic, partition)
        number = "all" if acks == "all" else int(acks)
        options: dict[str, Any] = {"acks": number, "enable_idempotence": acks == "all"}
        options |= {"compression_type": compression, "max_block_ms": NEW_TOPIC_PATIENCE_MS}
        producer: Producer | None = None
        try:
            async with client.producer(**options) as producer:
                await _publish(producer, topic, lines, partition, headers)
        finally:
            if producer is not None:
                _report(producer)

    target.run(main)


async def _check_topic(client: Client, topic: str, partition: int | None) -> None:
    """Say it when the topic is made by writing to it: it may have been a slip of the pen."""
    from raftlog.client.errors import UnknownTopic

    try:
        view = await client.admin.describe_topic(topic)
    except UnknownTopic:
        click.echo(f"there is no topic {topic!r} yet: the broker is asked to create it", err=True)
        return
    if partition is not None and partition >= len(view.partitions):
        raise click.ClickException(
            f"topic {topic!r} has {counted(len(view.partitions), 'partition')}: the last one is"
            f" {len(view.partitions) - 1}"
        )


async def _publish(
    producer: Producer,
    topic: str,
    lines: LineFormat,
    partition: int | None,
    headers: tuple[tuple[str, bytes | None], ...],
) -> None:
    """Send every line, and wait until all are acknowledged."""
    import trio

    if sys.stdin.isatty():
        click.echo("one record a line, Ctrl-D ends", err=True)
    finished = False
    try:
        async with trio.open_nursery() as nursery:
            if sys.stderr.isatty() and not sys.stdin.isatty():
                nursery.start_soon(_show_progress, producer)
            number = 0
            async with aclosing(read_lines(sys.stdin.fileno())) as read:
                async for line in read:
                    number += 1
                    key, value = lines.parse(line)
                    try:
                        await producer.send_soon(topic, value, key=key, partition=partition, headers=headers)
                    except Exception as error:
                        error.add_note(f"line {number}")
                        raise
            await producer.flush()
            nursery.cancel_scope.cancel()
        finished = True
    finally:
        if not finished:
            with trio.CancelScope(shield=True, deadline=trio.current_time() + LAST_WORDS_SECONDS):
                await producer.flush()


async def read_lines(descriptor: int) -> AsyncGenerator[bytes, None]:
    """The lines of a file, without their ends, the last one also without an end.

    Cancelled while it waits for input, a thread goes on waiting until the process ends.
    """
    import trio

    rest = b""
    while chunk := await trio.to_thread.run_sync(os.read, descriptor, CHUNK_BYTES, abandon_on_cancel=True):
        first, *more = chunk.split(b"\n")
        rest += first
        if len(rest) > LINE_BYTES_MAX:
            raise click.ClickException(f"a line is longer than {LINE_BYTES_MAX:,} bytes: is it text?")
        for line in more:
            yield rest
            rest = line
    if rest:
        yield rest


async def _show_progress(producer: Producer) -> None:
    import trio

    while True:
        await trio.sleep(PROGRESS_SECONDS)
        now = producer.statistics()
        click.echo(f"\r{now.records:,} read, {now.records_acknowledged:,} acknowledged", err=True, nl=False)


def _report(producer: Producer) -> None:
    now = producer.statistics()
    if sys.stderr.isatty():
        click.echo("\r\x1b[K", err=True, nl=False)
    if producer.settings.acks == 0:
        click.echo(f"{counted(now.records, 'record')} handed over; nobody was asked to answer", err=True)
        return
    missing = now.records - now.records_acknowledged
    unsure = f", {missing:,} not" if missing else ""
    click.echo(f"{counted(now.records_acknowledged, 'record')} acknowledged{unsure}", err=True)
