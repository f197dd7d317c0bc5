"""`raftlog connect`: run connectors, and show those that there are."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import click

from raftlog.cli import CommandGroup
from raftlog.cli.listening import Listening, serves_http
from raftlog.cli.output import log_to_stderr
from raftlog.cli.target import Target, with_brokers

if TYPE_CHECKING:
    from raftlog.client.client import Client

GOODBYE_SECONDS_MAX: Final = 15.0
"""A sink that is stopped writes what it has, and commits it."""


@click.group(
    cls=CommandGroup,
    epilog="""\b
Examples:
  raftlog connect run pipeline.toml
  raftlog connect plugins
""",
)
def command() -> None:
    """Bring files and tables into topics, and topics elsewhere."""


@command.command(
    epilog="""\b
Examples:
  raftlog connect run pipeline.toml
  raftlog connect run files.toml warehouse.toml --bootstrap broker:9092
""",
)
@click.argument("pipelines", metavar="FILE.toml…", nargs=-1, required=True)
@click.option(
    "--offsets-topic",
    default="connect-offsets",
    show_default=True,
    help="The compacted topic where sources keep their positions.",
)
@with_brokers
def run(target: Target, pipelines: tuple[str, ...], offsets_topic: str) -> None:
    """Run the connectors of pipeline files until Ctrl-C. One that fails for good ends the command."""
    from raftlog.connect.pipeline import load
    from raftlog.errors import ConfigError

    log_to_stderr()
    try:
        specs = [spec for pipeline in pipelines for spec in load(pipeline)]
    except ConfigError as error:
        raise click.UsageError(str(error)) from error

    async def main(client: Client) -> None:
        from raftlog.connect.worker import run as work

        click.echo(f"running {' '.join(f'{spec.name}={spec.kind}' for spec in specs)}")
        await work(specs, client, positions_topic=offsets_topic)

    target.serve(main, goodbye_seconds_max=GOODBYE_SECONDS_MAX)


@command.command(
    epilog="""\b
Examples:
  raftlog connect serve
  raftlog connect serve --bootstrap broker:9092 --listen 0.0.0.0:8083 --token-file connect.token
  curl -s localhost:8083/connectors
""",
)
@serves_http("127.0.0.1:8083")
@click.option(
    "--configs-topic",
    default="connect-configs",
    show_default=True,
    help="The compacted topic that says what is to run.",
)
@click.option(
    "--offsets-topic",
    default="connect-offsets",
    show_default=True,
    help="The compacted topic where sources keep their positions.",
)
@with_brokers
def serve(
    target: Target,
    listening: Listening,
    configs_topic: str,
    offsets_topic: str,
) -> None:
    """Run connectors that are made and changed over HTTP, as with Kafka Connect, until Ctrl-C.

    Prints one line `ready connect=http://127.0.0.1:8083 …` when it serves. A connector that fails stays where
    it is, and its status says why.
    """
    log_to_stderr()
    tokens, sockets = listening.tokens(), listening.open()

    async def main(client: Client) -> None:
        from raftlog.config.addresses import join_host_port
        from raftlog.connect.herd import Herd
        from raftlog.connect.serving import serve as work
        from raftlog.http.server import Server

        def ready(server: Server, herd: Herd) -> None:
            where = join_host_port(*server.address)
            click.echo(f"ready connect=http://{where} connectors={len(herd.members)}")

        await work(
            client,
            sockets,
            ready,
            tokens=tokens,
            hosts=listening.hosts,
            configs_topic=configs_topic,
            positions_topic=offsets_topic,
        )

    target.serve(main, goodbye_seconds_max=GOODBYE_SECONDS_MAX, client_id="raftlog-connect")


@command.command(
    epilog="""\b
Examples:
  raftlog connect plugins
  raftlog connect plugins file-source
""",
)
@click.argument("name", required=False)
def plugins(name: str | None) -> None:
    """Print the connectors that are installed, or the options of one."""
    from raftlog.connect.options import describe
    from raftlog.connect.plugins import find, installed
    from raftlog.errors import ConfigError

    try:
        if name is None:
            kinds, broken = installed()
            for one, kind in kinds.items():
                click.echo(f"{one}  {(kind.__doc__ or '').splitlines()[0]}")
            for error in broken.values():
                click.echo(f"raftlog connect: {error}", err=True)
            return
        found = find(name)
    except ConfigError as error:
        raise click.ClickException(str(error)) from error
    for each in describe(found.Config):
        default = "" if each.required else f"  [default: {each.default!r}]"
        click.echo(f"{each.name}{default}\n    {each.doc}")
