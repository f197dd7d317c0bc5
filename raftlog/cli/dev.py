"""`raftlog dev`: a local cluster, a process a broker.

Decides ports and folders, says when all serve, tells of a broker that dies, and stops them together. The
brokers are `raftlog serve`, so whatever is done to one of them from outside happens to a real one.
"""

from __future__ import annotations

import contextlib
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final, NoReturn

import click

if TYPE_CHECKING:
    from raftlog.testing.processes import BrokerProcess

NODES_MAX: Final = 25
"""More than anybody needs on one machine, and few enough that the port ranges do not meet."""
PEER_PORTS: Final = 100
"""What is added to --port for the first broker's peer port: 9092 makes 9192."""
HTTP_PORTS: Final = 552
"""And for its HTTP port: 9092 makes 9644."""
WATCH_INTERVAL_S: Final = 0.2
STOP_TIMEOUT_S: Final = 10.0
TAIL_LINES: Final = 20


@click.command(
    epilog="""\b
Examples:
  raftlog dev
  raftlog dev --nodes 1 --data-dir ./dev
  raftlog dev --port 19092 -o num.partitions=3
"""
)
@click.option("--nodes", type=click.IntRange(1, NODES_MAX), default=3, show_default=True, help="Brokers.")
@click.option(
    "--port",
    type=click.IntRange(0, 65535 - HTTP_PORTS - NODES_MAX),
    default=9092,
    show_default=True,
    help="The first broker's port; the others take the next ones. 0 takes free ones.",
)
@click.option("--data-dir", type=click.Path(file_okay=False), help="Where data and logs lie; else temporary.")
@click.option("-o", "overrides", multiple=True, metavar="KEY=VALUE", help="Any setting of every broker.")
def command(nodes: int, port: int, data_dir: str | None, overrides: tuple[str, ...]) -> None:
    """Run a local cluster, a process a broker.

    Prints one line `ready bootstrap=127.0.0.1:9092,…` on stdout when every broker serves. Logs go to
    broker-N.log in the data folder. Ctrl-C stops all of them. A broker that dies is reported, and the
    others go on.
    """
    from raftlog.testing.processes import http_address

    started = time.monotonic()
    for number in (signal.SIGINT, signal.SIGTERM):  # a shell has its background jobs ignore the first
        signal.signal(number, signal.default_int_handler)
    with _folder(data_dir) as folder:
        brokers = _plan(folder, nodes, port, overrides)
        try:
            _start(brokers)
            bootstrap = ",".join(broker.bootstrap for broker in brokers)
            after = time.monotonic() - started
            http = ",".join(map(http_address, brokers))
            click.echo(f"ready bootstrap={bootstrap} http={http} data={folder} after={after:.2f}s")
            _watch(brokers)
        except KeyboardInterrupt:
            _stop(brokers)
        finally:
            for broker in brokers:
                if broker.is_running:
                    broker.kill()


@contextlib.contextmanager
def _folder(data_dir: str | None) -> Iterator[Path]:
    if data_dir is not None:
        yield Path(data_dir)
        return
    folder = Path(tempfile.mkdtemp(prefix="raftlog-dev-"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _plan(folder: Path, nodes: int, port: int, overrides: Sequence[str]) -> list[BrokerProcess]:
    from raftlog.testing.processes import BrokerProcess, free_port

    def ports(first: int) -> list[int]:
        return [first + n if port else free_port() for n in range(nodes)]

    clients, peers, http = ports(port), ports(port + PEER_PORTS), ports(port + HTTP_PORTS)
    named = ",".join(f"{n}@127.0.0.1:{peer}" for n, peer in enumerate(peers, 1))
    brokers = []
    for n in range(nodes):
        arguments = ["--http-listen", f"127.0.0.1:{http[n]}"]
        if nodes > 1:
            arguments += ["--peer-listen", f"127.0.0.1:{peers[n]}", "--peers", named]
        for override in overrides:
            arguments += ["-o", override]
        broker = BrokerProcess(
            folder / f"broker-{n + 1}",
            port=clients[n],
            node_id=n + 1,
            arguments=tuple(arguments),
        )
        brokers.append(broker)
    return brokers


def _start(brokers: Sequence[BrokerProcess]) -> None:
    from raftlog.testing.processes import BrokerDidNotStart

    for broker in brokers:
        broker.launch()
    for broker in brokers:
        try:
            broker.wait_ready()
        except BrokerDidNotStart as error:
            _fail(f"broker {broker.node_id} did not start: {error}")


def _watch(brokers: Sequence[BrokerProcess]) -> None:
    """Tell of every broker that ends, until all have."""
    living = list(brokers)
    while living:
        time.sleep(WATCH_INTERVAL_S)
        for broker in [broker for broker in living if not broker.is_running]:
            living.remove(broker)
            click.echo(
                f"broker {broker.node_id} ({broker.bootstrap}) ended with {broker.exit_code}; the end of"
                f" {broker.log_path}:\n{broker.log_tail(TAIL_LINES)}",
                err=True,
            )
    _fail("no broker is left")


def _stop(brokers: Sequence[BrokerProcess]) -> None:
    """All at once; who does not stop in time is killed."""
    stopping = [threading.Thread(target=_stop_one, args=(broker,)) for broker in brokers if broker.is_running]
    for thread in stopping:
        thread.start()
    for thread in stopping:
        thread.join()


def _stop_one(broker: BrokerProcess) -> None:
    from subprocess import TimeoutExpired

    try:
        broker.stop(STOP_TIMEOUT_S)
    except TimeoutExpired:
        click.echo(f"broker {broker.node_id} did not stop in {STOP_TIMEOUT_S:g} s and was killed", err=True)


def _fail(message: str) -> NoReturn:
    click.echo(f"raftlog dev: {message}", err=True)
    sys.exit(1)
