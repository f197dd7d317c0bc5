"""`raftlog topic`: create, list, describe, alter and delete topics."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Final

import click

from raftlog.cli import CommandGroup
from raftlog.cli.output import counted, joined, print_json, print_table, with_format
from raftlog.cli.target import Target, known_topic, nearest, with_brokers

if TYPE_CHECKING:
    from raftlog.client.admin_values import ConfigEntry
    from raftlog.client.client import Client
    from raftlog.client.metadata import TopicPartition, TopicView

INHERITED: Final = frozenset({"default", "broker", "brokers", "file"})
"""Where a setting comes from that the topic itself does not have."""


@click.group(
    cls=CommandGroup,
    epilog="""\b
Examples:
  raftlog topic create orders -p 3
  raftlog topic list
  raftlog topic describe orders
""",
)
def command() -> None:
    """Create, list, describe, alter and delete topics."""


def _pairs(ctx: click.Context, parameter: click.Parameter, values: tuple[str, ...]) -> dict[str, str]:
    pairs = {}
    for value in values:
        key, separator, text = value.partition("=")
        if not separator or not key:
            raise click.BadParameter(f"{value!r} is not KEY=VALUE, such as retention.ms=3600000")
        pairs[key.strip()] = text.strip()
    return pairs


with_settings = click.option(
    "-c",
    "--set",
    "configs",
    multiple=True,
    metavar="KEY=VALUE",
    callback=_pairs,
    help="A setting of the topic, such as retention.ms=3600000. May be repeated.",
)


@command.command(
    epilog="""\b
Examples:
  raftlog topic create orders
  raftlog topic create orders -p 6 -r 3
  raftlog topic create logs -c retention.ms=3600000 -c max.message.bytes=2000000
"""
)
@click.argument("name")
@click.option(
    "-p", "--partitions", type=click.IntRange(min=1), metavar="N", help="How many.  [default: the broker's]"
)
@click.option(
    "-r",
    "--replicas",
    type=click.IntRange(min=1),
    metavar="N",
    help="Copies of each, on as many brokers.  [default: the broker's]",
)
@with_settings
@click.option("--if-not-exists", is_flag=True, help="Do nothing when there is such a topic.")
@with_brokers
def create(
    target: Target,
    name: str,
    partitions: int | None,
    replicas: int | None,
    configs: dict[str, str],
    if_not_exists: bool,
) -> None:
    """Create a topic. It can be written to when the command ends."""

    async def main(client: Client) -> None:
        from raftlog.client.errors import TopicExists

        try:
            await client.admin.create_topic(
                name, partitions=partitions or -1, replication_factor=replicas or -1, configs=configs
            )
        except TopicExists:
            if not if_not_exists:
                raise click.ClickException(
                    f"topic {name!r} exists already (`raftlog topic describe {name}` shows it)"
                ) from None
            click.echo(f"topic {name} exists already")
            return
        click.echo(f"created topic {_shape(await client.admin.describe_topic(name))}")

    target.run(main)


@command.command(
    "list",
    epilog="""\b
Examples:
  raftlog topic list
  raftlog topic list --format json
""",
)
@click.option("--internal", is_flag=True, help="Show the brokers' own topics, too.")
@with_format
@with_brokers
def list_topics(target: Target, internal: bool, output: str) -> None:
    """List the topics."""

    async def main(client: Client) -> None:
        names = await client.admin.list_topics(internal=internal)
        views = await client.admin.describe_topics(names) if names else {}
        if output == "json":
            print_json([_summary(view) for view in views.values()])
        elif not views:
            click.echo("there are no topics yet (`raftlog topic create NAME` makes one)", err=True)
        else:
            rows = [(view.name, len(view.partitions), _replicas(view)) for view in views.values()]
            print_table(("TOPIC", "PARTITIONS", "REPLICAS"), rows)

    target.run(main)


@command.command(
    epilog="""\b
Examples:
  raftlog topic describe orders
  raftlog topic describe orders --settings
  raftlog topic describe orders --format json
"""
)
@click.argument("name")
@click.option(
    "--settings", is_flag=True, help="Show every setting, not only those that the topic has itself."
)
@with_format
@with_brokers
def describe(target: Target, name: str, settings: bool, output: str) -> None:
    """Show a topic's partitions and settings.

    LEADER, REPLICAS and IN SYNC are ids of brokers. IN SYNC are those replicas whose brokers are
    alive; a record is acknowledged once a majority of all replicas has it on disk, whichever they
    are. FIRST is the offset of the first record, END the offset that the next one gets. BYTES is
    what the leader keeps on its disk.
    """

    async def main(client: Client) -> None:
        view = await known_topic(client, name)
        first = await client.admin.beginning_offsets(name)
        end = await client.admin.end_offsets(name)
        sizes = await _sizes(client, view)
        entries = await client.admin.describe_configs(topic=name)
        shown = [e for _, e in sorted(entries.items()) if settings or e.source not in INHERITED]
        if output == "json":
            print_json(_described(view, first, end, sizes, shown))
        else:
            _print_described(view, first, end, sizes, shown)

    target.run(main)


@command.command(
    epilog="""\b
Examples:
  raftlog topic alter orders -c retention.ms=3600000
  raftlog topic alter orders --remove retention.ms
  raftlog topic alter orders -p 12
"""
)
@click.argument("name")
@click.option(
    "-p", "--partitions", type=click.IntRange(min=1), metavar="N", help="Grow to so many; never fewer."
)
@with_settings
@click.option("--remove", multiple=True, metavar="KEY", help="Go back to the default of a setting.")
@with_brokers
def alter(
    target: Target, name: str, partitions: int | None, configs: dict[str, str], remove: tuple[str, ...]
) -> None:
    """Change a topic's settings, or give it more partitions.

    New partitions change where keys go: records of a key that come later may lie in another partition.
    """
    if not (partitions or configs or remove):
        raise click.UsageError("nothing to change: give -c KEY=VALUE, --remove KEY or -p PARTITIONS")

    async def main(client: Client) -> None:
        view = await known_topic(client, name)
        if partitions and partitions < len(view.partitions):
            raise click.ClickException(
                f"topic {name!r} has {counted(len(view.partitions), 'partition')}, and partitions"
                " cannot be taken away"
            )
        if configs or remove:
            _check_settings(remove, await client.admin.describe_configs(topic=name))
            await client.admin.alter_configs({**configs, **dict.fromkeys(remove)}, topic=name)
        if partitions and partitions > len(view.partitions):
            await client.admin.create_partitions(name, partitions)
        view = await client.admin.describe_topic(name)
        entries = await client.admin.describe_configs(topic=name)
        click.echo(f"altered topic {_shape(view)}")
        for key in (*configs, *remove):
            if key in entries:
                _print_setting(entries[key])

    target.run(main)


@command.command(
    epilog="""\b
Examples:
  raftlog topic delete orders
"""
)
@click.argument("names", nargs=-1, required=True, metavar="NAME...")
@with_brokers
def delete(target: Target, names: tuple[str, ...]) -> None:
    """Delete topics and their records. There is no way back."""

    async def main(client: Client) -> None:
        for name in names:
            await known_topic(client, name)
        for name in names:
            await client.admin.delete_topic(name)
            click.echo(f"deleted topic {name}")

    target.run(main)


async def _sizes(client: Client, view: TopicView) -> dict[TopicPartition, int]:
    """What each partition's leader keeps of it, where brokers say so."""
    from raftlog.client.errors import ClientError
    from raftlog.client.metadata import TopicPartition

    led: dict[int, list[TopicPartition]] = {}
    for one in view.partitions:
        if one.leader is not None:
            led.setdefault(one.leader, []).append(TopicPartition(view.name, one.partition))
    sizes: dict[TopicPartition, int] = {}
    for leader, partitions in led.items():
        try:
            sizes |= await client.admin.operations.sizes(partitions, leader)
        except ClientError:  # not served there, or not allowed: nothing else depends on it
            continue
    return sizes


def _check_settings(names: Iterable[str], known: dict[str, ConfigEntry]) -> None:
    for name in names:
        if name not in known:
            hint = nearest(name, known, "raftlog topic describe NAME --settings")
            raise click.ClickException(f"there is no setting {name!r}{hint}")


def _replicas(view: TopicView) -> int:
    return max((len(partition.replicas) for partition in view.partitions), default=0)


def _shape(view: TopicView) -> str:
    replicas = counted(_replicas(view), "replica")
    return f"{view.name}: {counted(len(view.partitions), 'partition')}, {replicas} each"


def _summary(view: TopicView) -> dict[str, Any]:
    return {
        "topic": view.name,
        "topic_id": view.topic_id.hex(),
        "internal": view.is_internal,
        "partitions": len(view.partitions),
        "replicas": _replicas(view),
    }


def _described(
    view: TopicView,
    first: dict[TopicPartition, int],
    end: dict[TopicPartition, int],
    sizes: dict[TopicPartition, int],
    entries: list[ConfigEntry],
) -> dict[str, Any]:
    from raftlog.client.metadata import TopicPartition

    partitions = [
        {
            **asdict(one),
            "first_offset": first.get(TopicPartition(view.name, one.partition)),
            "end_offset": end.get(TopicPartition(view.name, one.partition)),
            "bytes": sizes.get(TopicPartition(view.name, one.partition)),
        }
        for one in view.partitions
    ]
    settings = {entry.name: {"value": entry.value, "source": entry.source} for entry in entries}
    return {**_summary(view), "partitions": partitions, "settings": settings}


def _print_described(
    view: TopicView,
    first: dict[TopicPartition, int],
    end: dict[TopicPartition, int],
    sizes: dict[TopicPartition, int],
    entries: list[ConfigEntry],
) -> None:
    from raftlog.client.metadata import TopicPartition

    click.echo(f"{_shape(view)}, id {view.topic_id.hex()}\n")
    rows = []
    for one in view.partitions:
        key = TopicPartition(view.name, one.partition)
        rows.append(
            (
                one.partition,
                one.leader,
                joined(one.replicas),
                joined(one.in_sync),
                first.get(key),
                end.get(key),
                sizes.get(key),
            )
        )
    print_table(("PARTITION", "LEADER", "REPLICAS", "IN SYNC", "FIRST", "END", "BYTES"), rows)
    if entries:
        click.echo("\nSettings:")
    for entry in entries:
        _print_setting(entry)


def _print_setting(entry: ConfigEntry) -> None:
    value = "(hidden)" if entry.sensitive else entry.value
    origin = f"  ({entry.source})" if entry.source in INHERITED else ""
    click.echo(f"  {entry.name} = {value}{origin}")
