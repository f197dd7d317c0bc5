"""`raftlog txn`: list, describe and abort transactions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import click

from raftlog.cli import CommandGroup
from raftlog.cli.output import print_json, print_table, with_format
from raftlog.cli.target import Target, nearest, with_brokers

if TYPE_CHECKING:
    from raftlog.client.client import Client

STATES: Final = (
    "Empty",
    "Ongoing",
    "PrepareCommit",
    "PrepareAbort",
    "CompleteCommit",
    "CompleteAbort",
)


@click.group(
    cls=CommandGroup,
    epilog="""\b
Examples:
  raftlog txn list
  raftlog txn describe till-1
  raftlog txn abort till-1
""",
)
def command() -> None:
    """List, describe and abort transactions."""


@command.command(
    "list",
    epilog="""\b
Examples:
  raftlog txn list
  raftlog txn list --state Ongoing --format json
""",
)
@click.option("--state", type=click.Choice(STATES, case_sensitive=False), help="Those in this state only.")
@with_format
@with_brokers
def list_transactions(target: Target, state: str | None, output: str) -> None:
    """List the transactional ids, and what they are doing."""

    async def main(client: Client) -> None:
        found = await client.admin.operations.transactions.listed(state)
        if output == "json":
            print_json(
                [{"id": each.id, "producer_id": each.producer_id, "state": each.state} for each in found]
            )
        elif not found:
            click.echo("there are no transactional ids", err=True)
        else:
            rows = [(each.id, each.state, each.producer_id) for each in found]
            print_table(("TRANSACTIONAL ID", "STATE", "PRODUCER ID"), rows)

    target.run(main)


@command.command(
    epilog="""\b
Examples:
  raftlog txn describe till-1
  raftlog txn describe till-1 --format json
"""
)
@click.argument("transactional_id")
@with_format
@with_brokers
def describe(target: Target, transactional_id: str, output: str) -> None:
    """Show what a transactional id is doing: its state, its producer, the partitions of its transaction."""

    async def main(client: Client) -> None:
        found = await client.admin.operations.transactions.describe(transactional_id)
        if found is None:
            raise await _unknown(client, transactional_id)
        partitions = [f"{topic}-{number}" for topic, number in found.partitions]
        if output == "json":
            print_json(
                {
                    "id": found.id,
                    "state": found.state,
                    "producer_id": found.producer_id,
                    "producer_epoch": found.producer_epoch,
                    "timeout_ms": found.timeout_ms,
                    "started_ms": found.started_ms,
                    "coordinator": found.coordinator,
                    "partitions": partitions,
                }
            )
            return
        producer = f"producer {found.producer_id} at epoch {found.producer_epoch}"
        click.echo(f"{found.id}: {found.state}, {producer}, coordinator {found.coordinator}")
        if partitions:
            click.echo("in the transaction: " + ", ".join(partitions))

    target.run(main)


@command.command(
    epilog="""\b
Examples:
  raftlog txn abort till-1
"""
)
@click.argument("transactional_id")
@with_brokers
def abort(target: Target, transactional_id: str) -> None:
    """Abort what is open under a transactional id, and fence the producer that has it.

    What is decided already is not turned. The producer learns of it with its next request.
    """

    async def main(client: Client) -> None:
        if not await client.admin.operations.transactions.abort(transactional_id):
            raise await _unknown(client, transactional_id)
        click.echo(f"{transactional_id}: nothing is open, and its producer is fenced")

    target.run(main)


async def _unknown(client: Client, transactional_id: str) -> click.ClickException:
    known = [each.id for each in await client.admin.operations.transactions.listed()]
    hint = nearest(transactional_id, known, "raftlog txn list")
    return click.ClickException(f"there is no transactional id {transactional_id!r}{hint}")
