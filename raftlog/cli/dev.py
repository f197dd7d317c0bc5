"""`raftlog dev`: a local cluster, a process a broker.

Decides ports and folders, says when all serve, tells of a broker that dies, brings it back when it is asked
to, and stops them together. The brokers are `raftlog serve`, so whatever is done to one of them from
outside happens to a real one. Their console is served here, where it can also cut links, kill and pause
(`raftlog.dev`).

`raftlog dev --revive` asks the `raftlog dev` that runs: it finds its process in a file in the data folder,
sends a signal, and waits for another file, which says what has become of the brokers that were down.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple, NoReturn

import click

if TYPE_CHECKING:
    from raftlog.testing.processes import BrokerProcess

NODES_MAX: Final = 25
"""More than anybody needs on one machine, and few enough that the port ranges do not meet."""
PEER_PORTS: Final = 100
"""What is added to --port for the first broker's peer port: 9092 makes 9192."""
HTTP_PORTS: Final = 552
"""And for the console: 9092 makes 9644. The brokers' own HTTP ports are the next ones."""
STOP_TIMEOUT_S: Final = 10.0
TAIL_LINES: Final = 20
REVIVE: Final = signal.SIGUSR1
PID_FILE: Final = "dev.pid"
"""There when all serve, and so heed REVIVE."""
ANSWER_FILE: Final = "dev.revived"
ANSWER_POLL_S: Final = 0.05
PATIENCE_S: Final = 3.0
"""After so long who waits for a broker is told that it does."""
FOLDER_PREFIX: Final = "raftlog-dev-"
"""Of temporary folders."""


@click.command(
    epilog="""\b
Examples:
  raftlog dev
  raftlog dev --nodes 1 --data-dir ./dev
  raftlog dev --port 19092 -o num.partitions=3
  kill -9 PID; raftlog dev --revive
"""
)
@click.option("--nodes", type=click.IntRange(1, NODES_MAX), default=3, show_default=True, help="Brokers.")
@click.option(
    "--port",
    type=click.IntRange(0, 65534 - HTTP_PORTS - NODES_MAX),
    default=9092,
    show_default=True,
    help="The first broker's port; the others take the next ones. 0 takes free ones.",
)
@click.option("--data-dir", type=click.Path(file_okay=False), help="Where data and logs lie; else temporary.")
@click.option("-o", "overrides", multiple=True, metavar="KEY=VALUE", help="Any setting of every broker.")
@click.option(
    "--revive",
    is_flag=True,
    help="Have the cluster that runs bring back its brokers that died; of several, --data-dir says which.",
)
def command(nodes: int, port: int, data_dir: str | None, overrides: tuple[str, ...], revive: bool) -> None:
    """Run a local cluster, a process a broker.

    Prints one line `ready bootstrap=127.0.0.1:9092,… console=http://127.0.0.1:9644/` on stdout when every
    broker serves, and then what each is: its process, address and log. The console shows the cluster at
    work, and can cut links, kill and pause brokers, and slow their disks. Ctrl-C stops all of them. A
    broker that dies is reported, and the others go on; `raftlog dev --revive`, in another terminal, brings
    it back with what it had, and returns when it serves.
    """
    from raftlog.testing.processes import free_port, http_address

    if revive:
        _ask_to_revive(data_dir)
        return
    started = time.monotonic()
    ports = _ports(nodes, port)
    if port:
        _refuse_taken(ports, port)
    signal.signal(REVIVE, signal.SIG_IGN)  # until all serve
    # A shell has its background jobs ignore the first; the last comes when a terminal is closed.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.default_int_handler)
    with _folder(data_dir) as folder:
        brokers = _plan(folder, ports, overrides)
        try:
            _start(brokers)
            bootstrap = ",".join(broker.bootstrap for broker in brokers)
            http = ",".join(map(http_address, brokers))

            def ready(console: str) -> None:
                (folder / PID_FILE).write_text(f"{os.getpid()}\n", encoding="ascii")
                after = time.monotonic() - started
                told = f"console={console} " if console else ""
                click.echo(f"ready bootstrap={bootstrap} {told}http={http} data={folder} after={after:.2f}s")
                for broker in brokers:
                    click.echo(_described(broker))
                click.echo(f"in another terminal, first: export RAFTLOG_BOOTSTRAP={bootstrap}")
                if nodes > 1:
                    click.echo(
                        f"try it: kill -9 {brokers[0].pid}; and bring it back: {_revive_command(data_dir)}"
                    )

            _serve(
                brokers,
                bootstrap,
                port + HTTP_PORTS if port else free_port(),
                folder / ANSWER_FILE,
                ready,
                _revive_command(data_dir),
            )
            _stop(brokers)
        except KeyboardInterrupt:
            _stop(brokers)
        finally:
            (folder / PID_FILE).unlink(missing_ok=True)
            for broker in brokers:
                if broker.is_running:
                    broker.kill()


def _described(broker: BrokerProcess) -> str:
    return f"broker {broker.node_id}: process {broker.pid}, {broker.bootstrap}, log {broker.log_path}"


def _revive_command(data_dir: str | None) -> str:
    return "raftlog dev --revive" + (f" --data-dir {data_dir}" if data_dir is not None else "")


def _ask_to_revive(data_dir: str | None) -> None:
    """Send the signal to the cluster of a folder, or to the one of this user that runs, and wait until its
    brokers serve. Fails when one does not."""
    if data_dir is not None:
        folders = [Path(data_dir)]
    else:
        folders = [
            one for one in Path(tempfile.gettempdir()).glob(f"{FOLDER_PREFIX}*") if one.owner() == _me()
        ]
    running = [(folder, pid) for folder in folders if (pid := _pid_of(folder)) is not None]
    if not running:
        where = f"of {data_dir}" if data_dir is not None else "in a temporary folder"
        _fail(f"no `raftlog dev` {where} runs; a cluster with a folder of its own is named by --data-dir")
    if len(running) > 1:
        named = ", ".join(str(folder) for folder, _ in running)
        _fail(f"several run: name one with --data-dir: {named}")
    ((folder, pid),) = running
    answer = folder / ANSWER_FILE
    answer.unlink(missing_ok=True)
    os.kill(pid, REVIVE)
    asked, is_told = time.monotonic(), False
    while not answer.exists():
        if _pid_of(folder) != pid:
            _fail("the cluster has ended meanwhile")
        if not is_told and time.monotonic() > asked + PATIENCE_S:
            is_told = True
            click.echo("waiting until it serves: that takes a majority of the brokers", err=True)
        time.sleep(ANSWER_POLL_S)
    lines = json.loads(answer.read_text(encoding="utf-8"))
    for line in lines["back"]:
        click.echo(line)
    if lines["failed"]:
        _fail("; ".join(lines["failed"]))


def _me() -> str:
    import pwd

    return pwd.getpwuid(os.getuid()).pw_name


def _pid_of(folder: Path) -> int | None:
    """The `raftlog dev` that runs in a folder."""
    try:
        pid = int((folder / PID_FILE).read_text(encoding="ascii"))
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except (OSError, ValueError):
        return None
    return pid if b"dev" in words else None  # another process may have its number by now


@contextlib.contextmanager
def _folder(data_dir: str | None) -> Iterator[Path]:
    if data_dir is not None:
        folder = Path(data_dir)
        folder.mkdir(parents=True, exist_ok=True)
        yield folder
        return
    folder = Path(tempfile.mkdtemp(prefix=FOLDER_PREFIX))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


class _Ports(NamedTuple):
    """Of one broker."""

    clients: int
    peers: int
    http: int


def _ports(nodes: int, first: int) -> list[_Ports]:
    """Each broker's ports; 0 takes free ones."""
    from raftlog.testing.processes import free_port

    if not first:
        return [_Ports(free_port(), free_port(), free_port()) for _ in range(nodes)]
    return [_Ports(first + n, first + PEER_PORTS + n, first + HTTP_PORTS + 1 + n) for n in range(nodes)]


def _refuse_taken(ports: Sequence[_Ports], first: int) -> None:
    """End before a broker is started whose port is taken: it could not say which option of ours to change."""
    from raftlog.broker.binding import listen

    for number in (number for each in ports for number in each):
        try:
            for sock in listen("127.0.0.1", number):
                sock.close()
        except OSError as error:
            _fail(
                f"cannot listen on 127.0.0.1:{number}: {error.strerror}; --port {first} takes it for the"
                " brokers, another --port takes others, and --port 0 free ones"
            )


def _plan(folder: Path, ports: Sequence[_Ports], overrides: Sequence[str]) -> list[BrokerProcess]:
    from raftlog.testing.processes import BrokerProcess

    named = ",".join(f"{n}@127.0.0.1:{each.peers}" for n, each in enumerate(ports, 1))
    brokers = []
    for n, own in enumerate(ports):
        arguments = ["--http-listen", f"127.0.0.1:{own.http}", "-o", "raftlog.dev.faults=true"]
        if len(ports) > 1:
            arguments += ["--peer-listen", f"127.0.0.1:{own.peers}", "--peers", named]
        for override in overrides:
            arguments += ["-o", override]
        broker = BrokerProcess(
            folder / f"broker-{n + 1}",
            port=own.clients,
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


def _serve(
    brokers: Sequence[BrokerProcess],
    bootstrap: str,
    port: int,
    answer: Path,
    ready: Callable[[str], None],
    how_to_revive: str,
) -> None:
    """Serve the console, tell of every broker that ends, and bring those back when REVIVE comes, with an
    `answer` in a file; until another signal comes, or all have ended."""
    import trio

    from raftlog.dev.serving import Told, serve

    def died(broker: BrokerProcess) -> None:
        click.echo(
            f"broker {broker.node_id} ({broker.bootstrap}) ended with {broker.exit_code}; the end of"
            f" {broker.log_path}:\n{broker.log_tail(TAIL_LINES)}\nbring it back: {how_to_revive}",
            err=True,
        )

    said: dict[str, list[str]] = {"back": [], "failed": []}

    def say(line: str, *, failed: bool = False) -> None:
        click.echo(line, err=failed)
        said["failed" if failed else "back"].append(line)

    def back(broker: BrokerProcess, why_not: Exception | None) -> None:
        if why_not is not None:
            say(f"broker {broker.node_id} did not come back: {why_not}", failed=True)
        else:
            say(f"{_described(broker)}: back after {broker.ready_after_s:.2f}s")

    def all_run() -> None:
        say("every broker runs")

    def settled(is_asked: bool) -> None:
        if is_asked:
            written = answer.with_suffix(".new")
            written.write_text(json.dumps(said), encoding="utf-8")
            written.rename(answer)  # who waits for it finds it whole
        for lines in said.values():
            lines.clear()

    if not trio.run(serve, brokers, bootstrap, port, REVIVE, Told(ready, died, back, all_run, settled)):
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
