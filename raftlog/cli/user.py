"""`raftlog user`: who may log in with a password."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Final

import click

from raftlog.cli import CommandGroup
from raftlog.cli.output import print_json, print_table, with_format
from raftlog.cli.target import Target, nearest, with_brokers

if TYPE_CHECKING:
    from raftlog.client.client import Client

MECHANISMS: Final = ("SCRAM-SHA-256", "SCRAM-SHA-512")

from_stdin = click.option("--stdin", is_flag=True, help="Read the password from standard input, a line.")
made_up = click.option("--generate", is_flag=True, help="Make a password up, and print it once.")
mechanisms = click.option(
    "--mechanism",
    type=click.Choice(MECHANISMS),
    multiple=True,
    default=MECHANISMS,
    help="How the user may log in.  [default: both]",
)


@click.group(
    cls=CommandGroup,
    epilog="""\b
Examples:
  raftlog user add alice --generate
  raftlog user list
  raftlog user passwd alice
  raftlog user remove alice
""",
)
def command() -> None:
    """Add, list and remove users, and change their passwords.

    Passwords go to the brokers salted, on connections that nobody can listen to: in TLS, or on the broker's
    own machine. They are never on a command line.
    """


@command.command(
    epilog="""\b
Examples:
  raftlog user add alice
  raftlog user add alice --generate
  pass show kafka/alice | raftlog user add alice --stdin --config admin.properties
"""
)
@click.argument("name")
@from_stdin
@made_up
@mechanisms
@with_brokers
def add(target: Target, name: str, stdin: bool, generate: bool, mechanism: tuple[str, ...]) -> None:
    """Add a user. The password is asked for."""

    async def main(client: Client) -> None:
        users = client.admin.operations.users
        if name in await users.listed():
            raise click.ClickException(
                f"there is a user {name!r}: `raftlog user passwd` gives another password"
            )
        await users.set_password(name, password, mechanisms=mechanism)
        click.echo(f"added {name}", err=generate)

    password = _password(name, stdin=stdin, generate=generate)
    target.run(main)
    if generate:
        click.echo(password)


@command.command(
    epilog="""\b
Examples:
  raftlog user passwd alice
  raftlog user passwd alice --generate
"""
)
@click.argument("name")
@from_stdin
@made_up
@mechanisms
@with_brokers
def passwd(target: Target, name: str, stdin: bool, generate: bool, mechanism: tuple[str, ...]) -> None:
    """Give a user another password. Connections that were made with the old one end."""

    async def main(client: Client) -> None:
        await _known(client, name)
        await client.admin.operations.users.set_password(name, password, mechanisms=mechanism)
        click.echo(f"changed the password of {name}", err=generate)

    password = _password(name, stdin=stdin, generate=generate)
    target.run(main)
    if generate:
        click.echo(password)


@command.command(
    "list",
    epilog="""\b
Examples:
  raftlog user list
  raftlog user list --format json
""",
)
@with_format
@with_brokers
def list_users(target: Target, output: str) -> None:
    """List the users that have a password."""

    async def main(client: Client) -> None:
        found = sorted((await client.admin.operations.users.listed()).items())
        if output == "json":
            print_json([{"user": user, "mechanisms": mechanisms} for user, mechanisms in found])
        elif not found:
            click.echo("there are no users", err=True)
        else:
            print_table(("USER", "MECHANISMS"), [(user, ", ".join(sorted(by))) for user, by in found])

    target.run(main)


@command.command(
    epilog="""\b
Examples:
  raftlog user remove alice
"""
)
@click.argument("name")
@with_brokers
def remove(target: Target, name: str) -> None:
    """Remove a user. Connections that the user has made end."""

    async def main(client: Client) -> None:
        await _known(client, name)
        await client.admin.operations.users.remove(name)
        click.echo(f"removed {name}")

    target.run(main)


async def _known(client: Client, name: str) -> None:
    """Raises click.ClickException with the nearest name for a user that is not there."""
    users = await client.admin.operations.users.listed()
    if name not in users:
        raise click.ClickException(f"there is no user {name!r}{nearest(name, users, 'raftlog user list')}")


def _password(name: str, *, stdin: bool, generate: bool) -> str:
    if stdin and generate:
        raise click.UsageError("--stdin and --generate: one or the other")
    if generate:
        from raftlog.security.credentials import new_password

        return new_password()
    if stdin:
        password = sys.stdin.readline().rstrip("\r\n")
    else:
        password = click.prompt(f"Password of {name}", hide_input=True, confirmation_prompt=True, err=True)
    if not password:
        raise click.UsageError("an empty password")
    return str(password)
