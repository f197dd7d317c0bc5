"""`raftlog serve`: one broker in this process."""

from __future__ import annotations

import gc
import logging
import os
import signal
import sys
import time
from typing import TYPE_CHECKING, Final, NoReturn

import click

from raftlog.config.addresses import join_host_port

if TYPE_CHECKING:
    import trio

    from raftlog.broker.server import Broker
    from raftlog.http.app import Endpoints

EXIT_DISK_FAILED = 74
"""The exit code when the disk failed or is damaged (EX_IOERR), so that a supervisor can tell."""

COLLECTOR_THRESHOLDS: Final = (100_000, 50, 1000)
"""Objects that are made before the collector looks at the young ones; how often that is before it looks at
older ones, and at all. At Python's own (700, 10, 10) full looks made up most of a small producer's p99."""


@click.command(
    epilog="""\b
Examples:
  raftlog serve
  raftlog serve --listen 0.0.0.0:9092 --advertise broker-1.example:9092 --data-dir /srv/raftlog
  raftlog serve --node-id 1 --peer-listen :9192 --peers 1@a:9192,2@b:9192,3@c:9192
  raftlog serve -o num.partitions=3 -o log.retention.hours=24
"""
)
@click.option("--config", "config_file", metavar="FILE", help="Settings in TOML or .properties.")
@click.option("--node-id", metavar="N", help="This broker's id (node.id).")
@click.option("--listen", metavar="HOST:PORT", help="For Kafka clients; port 0 takes a free one (listeners).")
@click.option("--advertise", metavar="HOST:PORT", help="What clients are told (advertised.listeners).")
@click.option("--peer-listen", metavar="HOST:PORT", help="For other brokers (raftlog.peer.listen).")
@click.option("--http-listen", metavar="HOST:PORT", help="For probes and metrics (raftlog.http.listen).")
@click.option(
    "--peers",
    metavar="ID@HOST:PORT,…",
    help="The founding brokers, this one included (raftlog.peers).",
)
@click.option(
    "--join",
    metavar="ID@HOST:PORT,…",
    help="Brokers of the cluster that this one is added to (raftlog.join).",
)
@click.option("--data-dir", metavar="DIR", help="Where the data lies (log.dirs).")
@click.option("-o", "overrides", multiple=True, metavar="KEY=VALUE", help="Any setting by its dotted name.")
@click.option("--verbose", "-v", is_flag=True, help="Log what goes right, too.")
def command(
    config_file: str | None,
    node_id: str | None,
    listen: str | None,
    advertise: str | None,
    peer_listen: str | None,
    http_listen: str | None,
    peers: str | None,
    join: str | None,
    data_dir: str | None,
    overrides: tuple[str, ...],
    verbose: bool,
) -> None:
    """Start a broker.

    With no options: a single broker on 127.0.0.1:9092, data in ./raftlog-data. Prints one line `ready …`
    on stdout when it serves; logs go to stderr. SIGTERM and Ctrl-C stop it, exit code 0.
    """
    logging.basicConfig(
        stream=sys.stderr,
        level=logging.INFO if verbose else logging.WARNING,
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
    )
    options = {
        "node.id": node_id,
        "listeners": f"PLAINTEXT://{listen}" if listen else None,
        "advertised.listeners": f"PLAINTEXT://{advertise}" if advertise else None,
        "raftlog.peer.listen": peer_listen,
        "raftlog.http.listen": http_listen,
        "raftlog.peers": peers,
        "raftlog.join": join,
        "log.dirs": data_dir,
    }
    named = [f"{key}={value}" for key, value in options.items() if value is not None]
    serve(config_file, (*named, *overrides))


def serve(config_file: str | None, overrides: tuple[str, ...]) -> None:
    """Load the settings, run a broker until a signal comes, and close it. Exits on any failure."""
    started = time.monotonic()
    from raftlog.cli import log_lines
    from raftlog.config import BrokerConfig
    from raftlog.errors import ConfigError, DamagedLog, DataDirBusy, NewerFormat, StorageError

    try:
        config = BrokerConfig.load(config_file, os.environ, overrides)
    except ConfigError as error:
        _fail(str(error), 2)
    log_lines.set_up(config)
    import trio

    from raftlog.broker.server import Broker
    from raftlog.cli.endpoints import open_endpoints
    from raftlog.storage.descriptors import raise_limit

    os.umask(0o077)  # what a broker writes is everybody's records
    raise_limit()
    try:
        broker = Broker.open(config)
        try:
            endpoints = open_endpoints(config, broker)
        except ConfigError:
            broker.close()
            raise
    except (ConfigError, DataDirBusy, NewerFormat) as error:
        _fail(str(error), 2)
    except (DamagedLog, StorageError) as error:
        _fail(str(error), EXIT_DISK_FAILED)

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_stop_on_signal, broker, endpoints, nursery.cancel_scope)
            if endpoints is not None:
                nursery.start_soon(endpoints.run)
            await nursery.start(broker.run)
            if endpoints is not None:
                endpoints.serves()
            settle_collector()
            bootstrap = join_host_port(*broker.address)
            took = time.monotonic() - started
            backend = broker.backend
            print(
                f"ready bootstrap={bootstrap} node={backend.broker_id} cluster={backend.cluster_id}"
                f"{_told(endpoints)} after={took:.2f}s",
                flush=True,
            )

    failure: BaseException | None = None
    try:
        trio.run(main)
    except BaseExceptionGroup as group:
        wrong = group.subgroup((ConfigError, NewerFormat))
        if wrong is not None:
            _fail(f"the broker stops: {_first(wrong)}", 2)
        failures = group.subgroup(StorageError)
        if failures is None:
            raise
        failure = _first(failures)
    finally:
        try:
            broker.close()
        except StorageError as error:
            failure = failure or error
    if failure is not None:
        _fail(f"the broker stops: {failure}", EXIT_DISK_FAILED)


def settle_collector() -> None:
    """Once it serves: what start-up made lives as long as the process, and the collector need not look at it
    again. What requests make holds no cycles, so that it seldom need look for any: a look stops the loop."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*COLLECTOR_THRESHOLDS)


def _told(endpoints: Endpoints | None) -> str:
    return "" if endpoints is None else f" http={join_host_port(*endpoints.address)}"


async def _stop_on_signal(broker: Broker, endpoints: Endpoints | None, scope: trio.CancelScope) -> None:
    """The first signal hands the leaderships over and stops; the second stops at once."""
    import trio

    async def hand_over() -> None:
        await broker.hand_over()
        if endpoints is not None:
            await endpoints.farewell()
        scope.cancel()

    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        async with trio.open_nursery() as nursery:
            await anext(signals)
            if endpoints is not None:
                endpoints.stops()
            nursery.start_soon(hand_over)
            await anext(signals)
            scope.cancel()


def _first(group: BaseException) -> BaseException:
    while isinstance(group, BaseExceptionGroup):
        group = group.exceptions[0]
    return group


def _fail(message: str, code: int) -> NoReturn:
    click.echo(f"raftlog serve: {message}", err=True)
    raise SystemExit(code)
