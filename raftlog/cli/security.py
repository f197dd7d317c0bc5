"""`raftlog security`: make a cluster secure, and check what is."""

from __future__ import annotations

import os
from contextlib import aclosing
from pathlib import Path
from typing import TYPE_CHECKING

import click

from raftlog.cli import CommandGroup

if TYPE_CHECKING:
    from raftlog.security.kit import Kit


@click.group(
    cls=CommandGroup,
    epilog="""\b
Examples:
  raftlog security init ./sec --brokers 3 --user app
  raftlog security check --config ./sec/app.properties
""",
)
def command() -> None:
    """Make a cluster secure, and check what is."""


@command.command(
    epilog="""\b
Examples:
  raftlog security init ./sec
  raftlog security init ./sec --brokers 3 --user app
  raftlog security init ./sec --brokers 3 --host a.example --host b.example --host c.example
"""
)
@click.argument("folder", type=click.Path(file_okay=False, path_type=Path))
@click.option("--brokers", default=1, show_default=True, type=click.IntRange(1, 100), help="How many.")
@click.option(
    "--host",
    "hosts",
    multiple=True,
    metavar="HOST",
    default=("localhost",),
    help="Where clients and brokers reach a broker: one for all, or one for each.  [default: localhost]",
)
@click.option("--name", "names", multiple=True, metavar="HOST", help="More names for the certificates.")
@click.option("--user", "users", multiple=True, metavar="NAME", help="A user beside admin.")
def init(
    folder: Path, brokers: int, hosts: tuple[str, ...], names: tuple[str, ...], users: tuple[str, ...]
) -> None:
    """Make what a secured cluster begins with, in FOLDER.

    An authority, a certificate and a broker.toml for each broker, a secret for brokers among themselves,
    the user admin and others with passwords that are made up, and files for their clients.
    """
    from raftlog.errors import ConfigError, InvalidInput
    from raftlog.security.kit import make_kit, places_of

    try:
        kit = make_kit(folder, places_of(hosts, brokers), users, names)
    except (ConfigError, InvalidInput) as error:
        raise click.UsageError(str(error)) from None
    _tell(kit)


def _tell(kit: Kit) -> None:
    for user, password in kit.passwords.items():
        click.echo(f"{user}: password {password}  (in {kit.folder / user}.properties, .conf and .py)")
    click.echo(f"keep {kit.folder / 'ca.key'} away from the brokers: it issues their certificates")
    click.echo("next:")
    for place in kit.places:
        click.echo(f"  raftlog serve --security {kit.broker_folder(place)}")
    *_, last = kit.passwords
    for user in list(kit.passwords)[1:]:
        admin = f"{kit.folder / 'admin'}.properties"
        resources = f"--topic {user}- --group {user}-"
        click.echo(f"  raftlog acl add User:{user} All {resources} --prefix --config {admin}")
    click.echo(f"  raftlog security check --config {kit.folder / last}.properties")


@command.command(
    epilog="""\b
Examples:
  raftlog security check --config app.properties
  raftlog security check --config app.properties --bootstrap broker-1.example:9092
"""
)
@click.option(
    "--config",
    type=click.Path(exists=True, dir_okay=False),
    help="Settings of a client, in a client.properties file.",
)
@click.option("--bootstrap", "-b", metavar="HOST:PORT,…", help="Brokers to look at first.")
def check(config: str | None, bootstrap: str | None) -> None:
    """Look at brokers as a client will see them: name, port, TLS, certificate, login, advertised addresses.

    Exit code 1 at the first that is not good, with the setting to change.
    """
    import trio

    from raftlog.cli.target import BOOTSTRAP_DEFAULT, BOOTSTRAP_VARIABLE
    from raftlog.client.properties import read_properties
    from raftlog.client.settings import ClientSettings, make_settings
    from raftlog.errors import ConfigError
    from raftlog.security.check import look

    try:
        known = dict(read_properties(config).client) if config else {}
        known["bootstrap_servers"] = (
            bootstrap
            or known.get("bootstrap_servers")
            or os.environ.get(BOOTSTRAP_VARIABLE)
            or BOOTSTRAP_DEFAULT
        )
        settings = make_settings(ClientSettings, known)
    except ConfigError as error:
        raise click.UsageError(str(error)) from None

    async def main() -> bool:
        async with aclosing(look(settings)) as findings:
            async for finding in findings:
                mark = "ok  " if finding.is_good else "FAIL"
                click.echo(f"{mark} {finding.step} {finding.found}")
                if not finding.is_good:
                    click.echo(f"     look at: {finding.advice}")
                    return False
        return True

    if not trio.run(main):
        raise SystemExit(1)
