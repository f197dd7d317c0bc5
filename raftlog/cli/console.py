"""`raftlog console`: the console of any cluster, in a process of its own."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Final

import click

from raftlog.cli.target import Target, with_brokers
from raftlog.config.addresses import join_host_port

if TYPE_CHECKING:
    from raftlog.client.client import Client

LISTEN: Final = "127.0.0.1:9640"
PREFIX: Final = "raftlog.http."


@click.command(
    epilog="""\b
Examples:
  raftlog console --bootstrap kafka-1:9092
  raftlog console -b broker-1:9093 --config client.properties
  raftlog console --http-listen 0.0.0.0:9640 -o raftlog.http.token.file=./token
  raftlog console -o raftlog.http.readonly=true
"""
)
@with_brokers
@click.option(
    "--http-listen",
    metavar="HOST:PORT",
    default=LISTEN,
    show_default=True,
    help="Where the page is; port 0 takes a free one.",
)
@click.option("-o", "overrides", multiple=True, metavar="KEY=VALUE", help="Any setting raftlog.http.…")
def command(target: Target, http_listen: str, overrides: tuple[str, ...]) -> None:
    """Show a cluster, raftlog or Apache Kafka, in a browser.

    The page is the one that every broker of raftlog serves itself, made of what Kafka's protocol tells
    anybody: topics and their records, groups and their lag, brokers, the quorum of the metadata. What goes
    on inside a broker, as its Raft groups, elections and connections, is on the broker's own page alone.
    Prints one line `ready console=…`; Ctrl-C ends it.
    """
    from raftlog.config import BrokerConfig
    from raftlog.errors import ConfigError

    for override in overrides:
        if not override.startswith(PREFIX):
            name = override.partition("=")[0]
            raise click.UsageError(f"{name} is a setting of brokers; here only {PREFIX}… are")
    try:
        config = BrokerConfig.load(None, {}, (f"raftlog.http.listen={http_listen}", *overrides))
    except ConfigError as error:
        raise click.UsageError(str(error)) from error
    if config.http_listen is None:
        raise click.UsageError("--http-listen is HOST:PORT")
    host, port = config.http_listen

    async def main(client: Client) -> None:
        import trio

        from raftlog.broker.binding import listen
        from raftlog.http.access import Access, tokens_of
        from raftlog.http.guard import are_loopback
        from raftlog.http.own_client import OwnClient
        from raftlog.http.server import Server
        from raftlog.outside.app import OutsideApp

        try:
            sockets, tokens = listen(host, port), tokens_of(config)
        except OSError as error:
            where = join_host_port(host, port)
            raise click.ClickException(f"cannot listen on {where}: {error.strerror}") from error
        except ConfigError as error:
            raise click.ClickException(str(error)) from error
        access = Access(config, tokens, is_loopback=are_loopback(sockets))
        app = OutsideApp(OwnClient(lambda: contextlib.nullcontext(client)), access)
        server = Server(sockets, app)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(app.run)
            nursery.start_soon(server.run)
            click.echo(f"ready console=http://{join_host_port(*server.address)}/")

    target.run(main, client_id="raftlog-console")
