"""`raftlog group`: list, describe, move and delete consumer groups."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Final, NoReturn

import click

from raftlog.cli import CommandGroup
from raftlog.cli.output import counted, print_json, print_table, with_format, with_formats
from raftlog.cli.target import Target, known_topic, nearest, with_brokers
from raftlog.cli.times import parse_time

if TYPE_CHECKING:
    from raftlog.client.admin_values import GroupDescription
    from raftlog.client.client import Client
    from raftlog.client.metadata import TopicPartition
    from raftlog.client.offsets import CommittedOffset

EARLIEST_OF_SPARK: Final = -2
DEAD: Final = "Dead"
"""The state of a group that does not exist."""


@click.group(
    cls=CommandGroup,
    epilog="""\b
Examples:
  raftlog group list
  raftlog group describe billing
  raftlog group seek billing orders --to earliest
""",
)
def command() -> None:
    """List, describe, move and delete consumer groups."""


@command.command(
    "list",
    epilog="""\b
Examples:
  raftlog group list
  raftlog group list --format json
""",
)
@with_format
@with_brokers
def list_groups(target: Target, output: str) -> None:
    """List the groups and their states."""

    async def main(client: Client) -> None:
        groups = await client.admin.list_groups()
        if output == "json":
            print_json([{"group": g.group, "state": g.state, "type": g.protocol_type} for g in groups])
        elif not groups:
            click.echo("there are no groups yet (`raftlog consume TOPIC --group NAME` makes one)", err=True)
        else:
            print_table(("GROUP", "STATE", "TYPE"), [(g.group, g.state, g.protocol_type) for g in groups])

    target.run(main)


@command.command(
    epilog="""\b
Examples:
  raftlog group describe billing
  raftlog group describe billing --format json
  raftlog group describe billing --topic orders --format spark
"""
)
@click.argument("group")
@click.option("--topic", "topics", multiple=True, metavar="TOPIC", help="Only this topic; several times.")
@with_formats("spark", help="For people, for programs, or for Spark's option startingOffsets.")
@with_brokers
def describe(target: Target, group: str, topics: tuple[str, ...], output: str) -> None:
    """Show a group's members, where it is in each partition, and how far behind.

    COMMITTED is where it goes on, END the offset that the next record gets, LAG what lies between. A dash
    means that the group has committed nothing there; for Spark that is the beginning, -2.
    """

    async def main(client: Client) -> None:
        found = await _known_group(client, group)
        committed = await client.admin.group_offsets(group)
        assigned = {key for member in found.members for key in member.partitions}
        if topics:
            committed = {key: at for key, at in committed.items() if key.topic in topics}
            assigned = {key for key in assigned if key.topic in topics}
        if output == "spark":
            click.echo(json.dumps(await _for_spark(client, committed, topics)))
            return
        ends = await _ends(client, sorted(committed.keys() | assigned))
        rows = _progress(found, committed, ends)
        if topics:
            rows = [row for row in rows if row[0] in topics]
        if output == "json":
            print_json(_described(found, rows))
            return
        protocol = f", assigned by {found.protocol!r}" if found.protocol else ""
        members = counted(len(found.members), "member")
        click.echo(f"{group}: {found.state}, {members}{protocol}, coordinator {found.coordinator}\n")
        print_table(("TOPIC", "PARTITION", "COMMITTED", "END", "LAG", "MEMBER", "HOST"), rows)

    target.run(main)


def _numbers(ctx: click.Context, parameter: click.Parameter, value: str) -> str:
    if value not in ("earliest", "latest") and not re.fullmatch(r"\d+", value):
        try:
            parse_time(value.removeprefix("@"))
        except ValueError:
            raise click.BadParameter(
                f"{value!r} is none of: earliest, latest, an offset, a date such as 2026-11-21T10:30, or"
                " @ with milliseconds since 1970"
            ) from None
    return value


@command.command(
    epilog="""\b
Examples:
  raftlog group seek billing orders --to earliest
  raftlog group seek billing orders --to 1200 -p 0
  raftlog group seek billing orders --to 2026-11-21T10:30 --dry-run
"""
)
@click.argument("group")
@click.argument("topic")
@click.option(
    "--to",
    "where",
    required=True,
    metavar="PLACE",
    callback=_numbers,
    help="earliest, latest, an offset, a date such as 2026-11-21T10:30Z, or @ with milliseconds since 1970.",
)
@click.option("-p", "--partition", type=click.IntRange(min=0), metavar="N", help="Move it here only.")
@click.option("--dry-run", is_flag=True, help="Say what would be done, and do nothing.")
@with_format
@with_brokers
def seek(
    target: Target, group: str, topic: str, where: str, partition: int | None, dry_run: bool, output: str
) -> None:
    """Make a group go on elsewhere in a topic. Its members must be stopped.

    A group that does not exist is made, so that its members begin there.
    """

    async def main(client: Client) -> None:
        await _check_stopped(client, group, "moved")
        view = await known_topic(client, topic)
        numbers = [one.partition for one in view.partitions if partition in (None, one.partition)]
        if not numbers:
            raise click.ClickException(
                f"topic {topic!r} has no partition {partition}: the last one is {len(view.partitions) - 1}"
            )
        after = await _places(client, topic, numbers, where)
        before = await client.admin.group_offsets(group, list(after))
        if not dry_run:
            await client.admin.alter_group_offsets(group, after)
        rows = [(*key, before[key].offset if key in before else None, after[key]) for key in after]
        names = ("topic", "partition", "before", "after")
        if output == "json":
            print_json([dict(zip(names, row, strict=True)) for row in rows])
            return
        print_table([name.upper() for name in names], rows)
        if dry_run:
            click.echo("nothing was done (--dry-run)", err=True)

    target.run(main)


@command.command(
    epilog="""\b
Examples:
  raftlog group delete billing
"""
)
@click.argument("groups", nargs=-1, required=True, metavar="GROUP...")
@with_brokers
def delete(target: Target, groups: tuple[str, ...]) -> None:
    """Delete groups and what they have committed. Their members must be stopped."""

    async def main(client: Client) -> None:
        from raftlog.client.errors import UnknownGroup

        for group in groups:
            await _check_stopped(client, group, "deleted")
            try:
                await client.admin.delete_group(group)
            except UnknownGroup:
                await _refuse_unknown(client, group)
            click.echo(f"deleted group {group}")

    target.run(main)


async def _for_spark(
    client: Client, committed: dict[TopicPartition, CommittedOffset], topics: Iterable[str]
) -> dict[str, dict[str, int]]:
    """Where the group goes on in each partition of these topics, or of all that it has committed anything
    of."""
    from raftlog.client.metadata import TopicPartition

    found = {}
    for topic in sorted({key.topic for key in committed} | set(topics)):
        view = await known_topic(client, topic)
        places = {
            one.partition: committed.get(TopicPartition(topic, one.partition)) for one in view.partitions
        }
        found[topic] = {
            str(number): EARLIEST_OF_SPARK if at is None else at.offset for number, at in places.items()
        }
    return found


async def _known_group(client: Client, group: str) -> GroupDescription:
    found = await client.admin.describe_group(group)
    if found.state == DEAD and not await client.admin.group_offsets(group):
        await _refuse_unknown(client, group)
    return found


async def _refuse_unknown(client: Client, group: str) -> NoReturn:
    names = [one.group for one in await client.admin.list_groups()]
    raise click.ClickException(f"there is no group {group!r}{nearest(group, names, 'raftlog group list')}")


async def _check_stopped(client: Client, group: str, what: str) -> None:
    """Refuse to touch a group that somebody reads with."""
    members = (await client.admin.describe_group(group)).members
    if members:
        hosts = ", ".join(sorted({f"{one.client_id} at {one.host}" for one in members}))
        raise click.ClickException(
            f"group {group!r} has {counted(len(members), 'member')} ({hosts}): stop them, or wait for their"
            f" session to time out, before it is {what}"
        )


async def _places(client: Client, topic: str, partitions: list[int], where: str) -> dict[TopicPartition, int]:
    """The offset that `--to` means in each partition, within what the partition holds."""
    from raftlog.client.assignment import EARLIEST, LATEST
    from raftlog.client.metadata import TopicPartition

    keys = [TopicPartition(topic, number) for number in partitions]
    first = await _offsets(client, keys, EARLIEST)
    end = await _offsets(client, keys, LATEST)
    if where == "earliest":
        return first
    if where == "latest":
        return end
    if re.fullmatch(r"\d+", where):
        return {key: min(max(int(where), first[key]), end[key]) for key in keys}
    found = await _offsets(client, keys, parse_time(where.removeprefix("@")))
    return {key: found.get(key, end[key]) for key in keys}


async def _offsets(client: Client, keys: Iterable[TopicPartition], spec: int) -> dict[TopicPartition, int]:
    found = await client.admin.list_offsets(dict.fromkeys(keys, spec))
    return {key: place.offset for key, place in found.items() if place is not None}


async def _ends(client: Client, keys: list[TopicPartition]) -> dict[TopicPartition, int]:
    """The end offsets of those partitions that still exist."""
    from raftlog.client.assignment import LATEST

    existing = set(await client.admin.list_topics(internal=True)) if keys else set()
    return await _offsets(client, [key for key in keys if key.topic in existing], LATEST)


def _progress(
    found: GroupDescription,
    committed: dict[TopicPartition, CommittedOffset],
    ends: dict[TopicPartition, int],
) -> list[tuple[str, int | None, int | None, int | None, int | None, str | None, str | None]]:
    """A row for each partition, and one for each member that has none."""
    owner = {key: member for member in found.members for key in member.partitions}
    rows: list[Any] = []
    for key in sorted(committed.keys() | owner.keys()):
        offset = committed[key].offset if key in committed else None
        end = ends.get(key)
        lag = max(0, end - offset) if end is not None and offset is not None else None
        member = owner.get(key)
        rows.append(
            (*key, offset, end, lag, member.client_id if member else None, member.host if member else None)
        )
    idle = [member for member in found.members if not member.partitions]
    return rows + [("(no partition)", None, None, None, None, one.client_id, one.host) for one in idle]


def _described(found: GroupDescription, rows: list[Any]) -> dict[str, Any]:
    names = ("topic", "partition", "committed", "end", "lag", "client_id", "host")
    return {
        "group": found.group,
        "state": found.state,
        "protocol": found.protocol,
        "coordinator": found.coordinator,
        "members": [
            {
                "member_id": member.member_id,
                "instance_id": member.instance_id,
                "client_id": member.client_id,
                "host": member.host,
                "partitions": [f"{key!r}" for key in member.partitions],
            }
            for member in found.members
        ],
        "offsets": [dict(zip(names, row, strict=True)) for row in rows if row[1] is not None],
    }
