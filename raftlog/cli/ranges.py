"""Where reading a topic's partitions begins, from what was typed, asked of the brokers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from raftlog.cli.times import Place

if TYPE_CHECKING:
    from raftlog.client.client import Client
    from raftlog.client.metadata import TopicPartition


async def starts(client: Client, place: Place, partitions: list[TopicPartition]) -> dict[TopicPartition, int]:
    """The offset to start at in each partition, within what the partition holds; where that is another one
    than was asked for, it is said."""
    from raftlog.client.assignment import EARLIEST, LATEST

    first = await client.admin.list_offsets(dict.fromkeys(partitions, EARLIEST))
    end = await client.admin.list_offsets(dict.fromkeys(partitions, LATEST))
    at_time = (
        await client.admin.list_offsets(dict.fromkeys(partitions, place.value))
        if place.kind == "time"
        else dict.fromkeys(partitions)
    )
    found = {}
    for key in partitions:
        lowest, highest = (at.offset if (at := side[key]) else 0 for side in (first, end))
        match place.kind:
            case "beginning":
                wanted = lowest
            case "end":
                wanted = highest
            case "time":
                wanted = at.offset if (at := at_time[key]) else highest
            case "last":
                wanted = max(lowest, highest - place.value)
            case _:
                wanted = place.value
        found[key] = min(max(wanted, lowest), highest)
        if found[key] != wanted:
            click.echo(
                f"{key!r} holds offsets {lowest} to {highest}: starting at {found[key]} instead of {wanted}",
                err=True,
            )
    return found
