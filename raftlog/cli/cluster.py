"""`raftlog cluster`: look at a cluster, add and drain brokers, spread replicas."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import click
import trio

from raftlog.cli import CommandGroup
from raftlog.cli.output import counted, duration, print_json, print_table, size, with_format
from raftlog.cli.target import Target, with_brokers
from raftlog.client.errors import ClientError
from raftlog.client.health import (
    NO_LEADER,
    DiskState,
    PartitionState,
    broker_problems,
    disk_problems,
    topic_problems,
)
from raftlog.client.metadata import TopicPartition
from raftlog.config.addresses import join_host_port
from raftlog.types import BrokerId

if TYPE_CHECKING:
    from raftlog.client.client import Client
    from raftlog.client.metadata import TopicView
    from raftlog.client.operations import BrokerReport, BrokerState
    from raftlog.metadata.catalog import BrokerInfo
    from raftlog.metadata.placement import Move

MOVES_AT_ONCE: Final = 20
"""Partitions that move at a time: each copies its log over the network."""
POLL_SECONDS: Final = 0.5
DISK_SECONDS: Final = 3.0


@click.group(
    cls=CommandGroup,
    epilog="""\b
Examples:
  raftlog cluster status
  raftlog cluster health && echo all is well
  raftlog cluster add 4@10.0.0.4:9192
  raftlog cluster rebalance
  raftlog cluster drain 1
""",
)
def command() -> None:
    """Look at a cluster, add and drain brokers, spread replicas."""


@command.command(epilog="\b\nExample:\n  raftlog cluster status --format json")
@with_format
@with_brokers
def status(target: Target, output: str) -> None:
    """Show the brokers, what each keeps and leads, how it does, and what is not as it should be.

    LAG is how many entries of Raft logs a broker has not acknowledged yet to those that lead. Under load some
    are always under way; a lag that grows is of a broker that cannot keep up.
    """

    async def main(client: Client) -> None:
        operations = client.admin.operations
        brokers, moves = await operations.brokers(), await operations.moves()
        topics = await _topics(client)
        reports = await operations.reports()
        rows = [_row(broker, topics, reports) for broker in brokers]
        partitions = [p for topic in topics.values() for p in topic.partitions]
        leaderless = sum(p.leader is None for p in partitions)
        leader = await operations.metadata_leader()
        has_leader = leader is not None and await operations.has_controller()
        if output == "json":
            print_json(
                {
                    "brokers": rows,
                    "partitions": len(partitions),
                    "without_leader": leaderless,
                    "moving": len(moves),
                    "metadata_has_leader": has_leader,
                    "metadata_leader": leader,
                }
            )
            return
        print_table([column.upper().removesuffix("_S") for column in rows[0]], [_shown(row) for row in rows])
        click.echo(
            f"\n{counted(len(partitions), 'partition')}, {leaderless} without a leader, {len(moves)} moving"
        )
        click.echo(f"broker {leader} leads the metadata" if has_leader else NO_LEADER)

    target.run(main)


def _row(
    broker: BrokerState, topics: Mapping[str, TopicView], reports: Mapping[int, BrokerReport]
) -> dict[str, object]:
    partitions = [p for topic in topics.values() for p in topic.partitions]
    report = reports.get(broker.id)
    leaders = [other.followers_behind for other in reports.values() if other.followers_behind is not None]
    return {
        "broker": broker.id,
        "address": join_host_port(broker.host, broker.port) if broker.port else "not started yet",
        "rack": broker.rack or "-",
        "state": "down" if not broker.is_alive else "draining" if broker.is_draining else "alive",
        "replicas": sum(broker.id in p.replicas for p in partitions),
        "leads": sum(broker.id == p.leader for p in partitions),
        "lag": sum(behind.get(broker.id, 0) for behind in leaders) if leaders else None,
        "bytes": report and report.bytes,
        "uptime_s": report and report.uptime_s,
        "version": report and report.build,
    }


def _shown(row: Mapping[str, object]) -> list[object]:
    """For people."""
    show: dict[str, Callable[[Any], str]] = {"bytes": size, "uptime_s": duration}
    return [show[name](value) if name in show and value is not None else value for name, value in row.items()]


@command.command(epilog="\b\nExample:\n  raftlog cluster health || page-the-operator")
@with_format
@with_brokers
def health(target: Target, output: str) -> None:
    """Tell whether all brokers live, partitions are led by a full set of replicas, and disks are well.

    Exit code 1 when something is amiss; each problem is a line. For scripts and monitoring.
    """
    problems: list[str] = []

    async def main(client: Client) -> None:
        brokers = await client.admin.operations.brokers()
        topics = await _topics(client)
        if not await client.admin.operations.has_controller():
            problems.append(NO_LEADER)
        disks = [disk for broker in brokers if (disk := await _disk(client, broker)) is not None]
        problems.extend(_problems(brokers, topics, disks))
        if output == "json":
            print_json({"healthy": not problems, "problems": problems})
            return
        partitions = sum(len(topic.partitions) for topic in topics.values())
        well = f"healthy: {counted(len(brokers), 'broker')}, {counted(partitions, 'partition')}"
        click.echo("\n".join(problems) or well)

    target.run(main)
    if problems:
        raise click.exceptions.Exit(1)


async def _disk(client: Client, broker: BrokerState) -> DiskState | None:
    """None for a broker that does not say: it is down, or is about to be called that."""
    if broker.is_alive:
        with trio.move_on_after(DISK_SECONDS), contextlib.suppress(ClientError):
            return await client.admin.operations.disk(broker.id)
    return None


def _problems(
    brokers: Sequence[BrokerState], topics: Mapping[str, TopicView], disks: Sequence[DiskState]
) -> list[str]:
    problems = broker_problems((broker.id, broker.is_alive) for broker in brokers)
    for topic in topics.values():
        rows = [
            PartitionState(p.partition, p.leader, len(p.replicas), len(p.in_sync)) for p in topic.partitions
        ]
        problems += topic_problems(topic.name, rows)
    return problems + disk_problems(disks)


@command.command(epilog="\b\nExample:\n  raftlog cluster add 4@10.0.0.4:9192")
@click.argument("broker", metavar="ID@HOST:PORT")
@with_brokers
def add(target: Target, broker: str) -> None:
    """Admit a broker. ID is its node id, HOST:PORT its peer listener.

    Then start it with `raftlog serve --node-id ID --peer-listen HOST:PORT --join …` and spread replicas
    to it with `raftlog cluster rebalance`.
    """
    number, at, address = broker.partition("@")
    if not at or not number.isdigit():
        raise click.BadParameter(f"{broker!r} is not ID@HOST:PORT", param_hint="ID@HOST:PORT")

    async def main(client: Client) -> None:
        await client.admin.operations.add_broker(int(number), address)
        click.echo(f"broker {number} may join now; its peer listener is expected at {address}")

    target.run(main)


@command.command(epilog="\b\nExample:\n  raftlog cluster rebalance")
@with_brokers
def rebalance(target: Target) -> None:
    """Spread replicas and preferred leaders evenly, by rack where there are racks.

    Clients go on meanwhile. Ctrl-C stops asking for more; what was asked for is still carried out.
    """

    async def main(client: Client) -> None:
        from raftlog.metadata.placement import plan_leaders, plan_rebalance

        moved = 0
        while True:
            brokers, layout = await _brokers(client), await _Layout.read(client)
            moves = plan_rebalance(brokers, layout.assignments, moves_max=MOVES_AT_ONCE)
            if not moves:
                break
            await _carry_out(client, layout, moves)
            moved += len(moves)
            click.echo(f"{counted(moved, 'replica')} moved", err=True)
        while moves := plan_leaders(layout.assignments, moves_max=1000):
            await _carry_out(client, layout, moves)
            layout = await _Layout.read(client)
        await client.admin.operations.elect_leaders()
        click.echo(f"{counted(moved, 'replica')} moved, leaders are even")

    target.run(main)


@command.command(epilog="\b\nExample:\n  raftlog cluster drain 1 && raftlog cluster remove 1")
@click.argument("broker", type=int)
@click.option("--undo", is_flag=True, help="Let it be given replicas again; `rebalance` gives it some.")
@with_brokers
def drain(target: Target, broker: int, undo: bool) -> None:
    """Move every replica off a broker and give it nothing new. Clients go on meanwhile.

    A broker that was drained is given nothing until it is removed, or the drain is undone.
    """

    async def main(client: Client) -> None:
        from raftlog.metadata.placement import NotEnoughBrokers, plan_drain

        await client.admin.operations.drain_broker(broker, not undo)
        if undo:
            click.echo(f"broker {broker} is given replicas again; raftlog cluster rebalance moves some to it")
            return
        layout = await _Layout.read(client)
        plan = plan_drain(await _brokers(client), layout.assignments, BrokerId(broker))
        if isinstance(plan, NotEnoughBrokers):
            await client.admin.operations.drain_broker(broker, False)
            raise click.ClickException(
                f"a partition has {counted(plan.wanted, 'replica')}, and only {plan.usable} of the other"
                " brokers may be given one (alive, and not draining): add a broker first"
            )
        for start in range(0, len(plan), MOVES_AT_ONCE):
            part = plan[start : start + MOVES_AT_ONCE]
            await _carry_out(client, layout, part)
            click.echo(f"{start + len(part)} of {counted(len(plan), 'partition')} moved", err=True)
        click.echo(f"broker {broker} keeps nothing any more; stop it, then: raftlog cluster remove {broker}")

    target.run(main)


@command.command(epilog="\b\nExample:\n  raftlog cluster remove 1")
@click.argument("broker", type=int)
@with_brokers
def remove(target: Target, broker: int) -> None:
    """Forget a broker that was drained."""

    async def main(client: Client) -> None:
        await client.admin.operations.remove_broker(broker)
        click.echo(f"broker {broker} is no longer part of the cluster")

    target.run(main)


@dataclass(frozen=True, slots=True)
class _Layout:
    """Which replicas there are, in the planner's terms."""

    assignments: dict[tuple[bytes, int], tuple[BrokerId, ...]]
    names: dict[bytes, str]

    @classmethod
    async def read(cls, client: Client) -> _Layout:
        topics = await _topics(client)
        return cls(
            {
                (topic.topic_id, p.partition): tuple(map(BrokerId, p.replicas))
                for topic in topics.values()
                for p in topic.partitions
            },
            {topic.topic_id: topic.name for topic in topics.values()},
        )


async def _topics(client: Client) -> dict[str, TopicView]:
    return await client.admin.describe_topics()


async def _brokers(client: Client) -> list[BrokerInfo]:
    """The brokers in the planner's terms; those that are down count as fenced."""
    from raftlog.metadata.catalog import BrokerInfo

    return [
        BrokerInfo(
            id=BrokerId(broker.id),
            host=broker.host,
            port=broker.port,
            peer_host="",
            peer_port=0,
            rack=broker.rack,
            fenced=not broker.is_alive,
            draining=broker.is_draining,
        )
        for broker in await client.admin.operations.brokers()
    ]


async def _carry_out(client: Client, layout: _Layout, moves: Sequence[Move]) -> None:
    """Ask for moves and wait until none of them is under way."""
    wanted = {TopicPartition(layout.names[m.topic_id], m.partition): m.target for m in moves}
    await client.admin.operations.move(wanted)
    while wanted.keys() & (await client.admin.operations.moves()).keys():  # noqa: ASYNC110
        await trio.sleep(POLL_SECONDS)  # nobody tells a client when a move ends
