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
    from raftlog.config import BrokerConfig
    from raftlog.http.app import Endpoints
    from raftlog.http.view import Faults

SECURITY_FILE: Final = "broker.toml"
"""The settings in a folder of `raftlog security init`."""
EXIT_DISK_FAILED = 74
"""The exit code when the disk failed or is damaged (EX_IOERR), so that a supervisor can tell."""

COLLECTOR_THRESHOLDS: Final = (50_000, 100, 1000)
"""Objects that are made before the collector looks at the young ones, which takes ten milliseconds if all of
them live; how often that is before it looks at older ones, and at all. At Python's own (700, 10, 10) full
looks made up most of a small producer's p99."""


def _no_port(ctx: click.Context, parameter: click.Parameter, value: str | None) -> None:
    """`raftlog dev` has that option, and most servers do."""
    if value is not None:
        raise click.UsageError(f"no such option: --port; did you mean --listen 127.0.0.1:{value}?")


@click.command(
    epilog="""\b
Examples:
  raftlog serve
  raftlog serve --listen 0.0.0.0:9092 --advertise broker-1.example:9092 --insecure
  raftlog serve --node-id 1 --peers 1@127.0.0.1:9192,2@127.0.0.1:9193,3@127.0.0.1:9194
  raftlog serve -o num.partitions=3 -o log.retention.hours=24
  raftlog serve --security ./sec/broker-1
"""
)
@click.option("--config", "config_file", metavar="FILE", help="Settings in TOML or .properties.")
@click.option("--node-id", metavar="N", help="This broker's id (node.id).")
@click.option("--listen", metavar="HOST:PORT", help="For Kafka clients; port 0 takes a free one (listeners).")
@click.option("--port", hidden=True, expose_value=False, callback=_no_port)
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
@click.option("--security", metavar="DIR", help="A broker's folder that `raftlog security init` has made.")
@click.option("--insecure", is_flag=True, help="Serve others than this machine, whoever they are.")
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
    security: str | None,
    insecure: bool,
    overrides: tuple[str, ...],
    verbose: bool,
) -> None:
    """Start a broker.

    With no options: a single broker on 127.0.0.1:9092, data in ./raftlog-data. Prints one line `ready …`
    on stdout when it serves; logs go to stderr. SIGTERM, SIGHUP and Ctrl-C stop it, exit code 0.
    """
    logging.basicConfig(
        stream=sys.stderr,
        level=logging.INFO if verbose else logging.WARNING,
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
    )
    logging.getLogger("raftlog.audit").setLevel(logging.INFO)  # written whatever else is
    options = {
        "node.id": node_id,
        "listeners": f"PLAINTEXT://{listen}" if listen else None,
        "advertised.listeners": f"PLAINTEXT://{advertise}" if advertise else None,
        "raftlog.peer.listen": peer_listen,
        "raftlog.http.listen": http_listen,
        "raftlog.peers": peers,
        "raftlog.join": join,
        "log.dirs": data_dir,
        "raftlog.insecure": "true" if insecure else None,
    }
    named = [f"{key}={value}" for key, value in options.items() if value is not None]
    if security is not None:
        if config_file is not None:
            _fail("--security and --config: broker.toml in the folder is the file of settings", 2)
        config_file = os.path.join(security, SECURITY_FILE)
    serve(config_file, (*named, *overrides), security)


def serve(config_file: str | None, overrides: tuple[str, ...], security: str | None = None) -> None:
    """Load the settings, run a broker until a signal comes, and close it. Files that belong to a folder
    `security` are looked for there. Exits on any failure."""
    started = time.monotonic()
    from raftlog.cli import life_lines, log_lines
    from raftlog.config import BrokerConfig
    from raftlog.errors import ConfigError, DamagedLog, DataDirBusy, NewerFormat, StorageError

    try:
        config = BrokerConfig.load(config_file, os.environ, overrides)
        if security is not None:
            config = config.with_files_in(security)
    except ConfigError as error:
        _fail(str(error), 2)
    log_lines.set_up(config)
    from raftlog.broker.exposure import WAYS_OUT, exposure, named

    if (danger := exposure(config)) is not None:
        if not config.bool("raftlog.insecure"):
            _fail(f"{danger}: {WAYS_OUT}", 2)
        logging.getLogger("raftlog.broker").warning("raftlog.insecure: %s", danger)
    life_lines.starts(config)
    import trio

    from raftlog.cli.endpoints import open_endpoints
    from raftlog.storage.descriptors import raise_limit

    os.umask(0o077)  # what a broker writes is everybody's records
    raise_limit()
    opening = time.monotonic()
    try:
        broker, faults = _open(config)
        try:
            endpoints = open_endpoints(config, broker, faults)
        except ConfigError:
            broker.close()
            raise
    except (ConfigError, DataDirBusy, NewerFormat) as error:
        _fail(str(error), 2)
    except (DamagedLog, StorageError) as error:
        life_lines.failed(config, error)
        raise SystemExit(EXIT_DISK_FAILED) from None
    life_lines.recovered(config, broker, time.monotonic() - opening)
    ending: list[float] = []

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_stop_on_signal, broker, endpoints, nursery.cancel_scope, ending)
            if endpoints is not None:
                nursery.start_soon(endpoints.run)
            await nursery.start(broker.run)
            if endpoints is not None:
                endpoints.serves()
            gc.freeze()  # the replicas live as long, too
            bootstrap = join_host_port(*broker.address)
            took = time.monotonic() - started
            backend = broker.backend
            print(
                f"ready bootstrap={bootstrap} node={backend.broker_id} cluster={backend.cluster_id}"
                f"{_told(endpoints)} security={named(config)} after={took:.2f}s",
                flush=True,
            )
            life_lines.log.info("serves clients at %s, %.2f s after its start", bootstrap, took)

    failure: BaseException | None = None
    settle_collector()
    try:
        trio.run(main)
    except BaseExceptionGroup as group:
        wrong = group.subgroup((ConfigError, NewerFormat))
        if wrong is not None:
            life_lines.failed(config, _first(wrong))
            raise SystemExit(2) from None
        failures = group.subgroup(StorageError)
        if failures is None:
            life_lines.failed(config, group)
            raise SystemExit(1) from None
        failure = _first(failures)
    finally:
        try:
            broker.close()
        except StorageError as error:
            failure = failure or error
    if failure is not None:
        life_lines.failed(config, failure)
        raise SystemExit(EXIT_DISK_FAILED)
    life_lines.stopped(time.monotonic() - ending[0] if ending else 0.0)


def _open(config: BrokerConfig) -> tuple[Broker, Faults | None]:
    """The broker, and what `raftlog dev` can do to it, if this is one of its."""
    from raftlog.broker.server import Broker

    if not config.bool("raftlog.dev.faults"):
        return Broker.open(config), None
    from raftlog.dev.inside import Inside

    faults = Inside()
    broker = Broker.open(config, disk=faults.disk)
    broker.inside.links.through = faults.network.through
    return broker, faults


def settle_collector() -> None:
    """Before the loop runs: what start-up made lives as long as the process, and the collector need not look
    at it again. What requests make holds no cycles, so that it seldom need look for any: a look stops the
    loop, and one at all replicas of a thousand partitions for a tenth of a second."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*COLLECTOR_THRESHOLDS)


def _told(endpoints: Endpoints | None) -> str:
    return "" if endpoints is None else f" http={join_host_port(*endpoints.address)}"


async def _stop_on_signal(
    broker: Broker, endpoints: Endpoints | None, scope: trio.CancelScope, ending: list[float]
) -> None:
    """The first signal hands the leaderships over and stops; the second stops at once. SIGHUP, which a
    terminal sends when it is closed, is one of them, unless whoever started the broker had it ignored, as
    nohup does. `ending` is told when."""
    import trio

    from raftlog.cli import life_lines

    async def hand_over() -> None:
        await broker.hand_over()
        if endpoints is not None:
            await endpoints.farewell()
        scope.cancel()

    heeded = [signal.SIGTERM, signal.SIGINT]
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        heeded.append(signal.SIGHUP)
    with trio.open_signal_receiver(*heeded) as signals:
        async with trio.open_nursery() as nursery:
            number = await anext(signals)
            ending.append(time.monotonic())
            life_lines.stops(broker, signal.Signals(number).name)
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
