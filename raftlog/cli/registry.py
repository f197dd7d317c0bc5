"""`raftlog registry`: a schema registry, as a process beside any brokers of Kafka's protocol."""

from __future__ import annotations

import importlib.util
from typing import TYPE_CHECKING, Final

import click

from raftlog.cli import fail
from raftlog.cli.listening import Listening, serves_http
from raftlog.cli.output import log_to_stderr
from raftlog.cli.target import Target, with_brokers

if TYPE_CHECKING:
    from raftlog.client.client import Client

GOODBYE_SECONDS_MAX: Final = 5.0
"""A change that is under way is finished or given up."""
EXTRA: Final = ("avro", "jsonschema", "google.protobuf", "grpc_tools", "google.type")
"""What the extra brings, looked for before anybody waits for brokers."""


def _is_missing(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is None
    except ModuleNotFoundError:  # the package around it
        return True


@click.command(
    epilog="""\b
Examples:
  raftlog registry
  raftlog registry --bootstrap broker-1:9092 --listen 0.0.0.0:8081 --token-file registry.token
  curl -s localhost:8081/subjects
"""
)
@serves_http("127.0.0.1:8081")
@click.option(
    "--insecure",
    is_flag=True,
    help="Serve others than this machine, whoever they are, when there is no token.",
)
@click.option("--topic", default="_schemas", show_default=True, help="The topic that keeps everything.")
@click.option(
    "--replication-factor",
    type=click.IntRange(1, 100),
    default=3,
    show_default=True,
    help="Of the topic when it is made; fewer where there are fewer brokers.",
)
@with_brokers
def command(
    target: Target,
    listening: Listening,
    insecure: bool,
    topic: str,
    replication_factor: int,
) -> None:
    """Run a schema registry with Confluent's API, until Ctrl-C.

    Everything is kept in the compacted topic _schemas of the brokers, so that any number of registries may
    run side by side. Prints one line `ready registry=http://127.0.0.1:8081 …` when it serves.
    """
    missing = [name for name in EXTRA if _is_missing(name)]
    if missing:
        fail(f"raftlog registry: {missing[0]} is not installed; pip install 'raftlog[registry]' brings it", 2)
    log_to_stderr()
    tokens, sockets = listening.tokens(), listening.open()

    async def main(client: Client) -> None:
        from raftlog.config.addresses import join_host_port
        from raftlog.registry.app import open_server
        from raftlog.registry.reader import Reader
        from raftlog.registry.registry import Registry
        from raftlog.registry.topic import open_topic

        reader = Reader()
        try:
            async with open_topic(client, topic, replication_factor) as schemas:
                server = open_server(
                    Registry(schemas, reader), sockets, tokens, listening.hosts, is_insecure=insecure
                )
                state = schemas.state
                click.echo(
                    f"ready registry=http://{join_host_port(*server.address)} topic={topic}"
                    f" subjects={len(state.subjects())} id_max={state.id_max}"
                )
                await server.run()
        finally:
            await reader.aclose()

    target.serve(main, goodbye_seconds_max=GOODBYE_SECONDS_MAX, client_id="raftlog-registry")
