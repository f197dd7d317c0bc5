"""Start Apache Kafka nodes and keep them until a signal comes."""

from __future__ import annotations

import argparse
import base64
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from tests.kafka_peer.jars import jars

READY_SECONDS_MAX: Final = 60.0
STOP_SECONDS_MAX: Final = 15.0

_PROPERTIES = """\
node.id={node}
process.roles=broker,controller
controller.quorum.voters={voters}
listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller_port}
advertised.listeners=PLAINTEXT://127.0.0.1:{port}
controller.listener.names=CONTROLLER
inter.broker.listener.name=PLAINTEXT
listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT
log.dirs={data}
num.partitions=1
default.replication.factor={replicas}
min.insync.replicas={in_sync}
offsets.topic.replication.factor={replicas}
offsets.topic.num.partitions=4
share.coordinator.state.topic.replication.factor={replicas}
share.coordinator.state.topic.min.isr={in_sync}
transaction.state.log.replication.factor={replicas}
transaction.state.log.min.isr={in_sync}
transaction.state.log.num.partitions=4
group.initial.rebalance.delay.ms=0
group.min.session.timeout.ms=1000
auto.create.topics.enable=true
delete.topic.enable=true
log.cleaner.dedupe.buffer.size=8388608
"""


def _java(lib: Path, heap: str, *arguments: str) -> list[str]:
    return [
        "java", f"-Xms{heap}", f"-Xmx{heap}", "-XX:+UseG1GC", "-XX:MaxGCPauseMillis=20",
        "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn", "-cp", f"{lib}/*", *arguments,
    ]  # fmt: skip


def _wait_for_port(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + READY_SECONDS_MAX
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise SystemExit(f"Kafka exited with {process.returncode}:\n{log.read_text()[-2000:]}")
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            time.sleep(0.1)
        else:
            return
    raise SystemExit(
        f"Kafka does not listen on {port} after {READY_SECONDS_MAX:.0f} s:\n{log.read_text()[-2000:]}"
    )


@contextmanager
def running(port: int, nodes: int, heap: str, extra: list[str]) -> Iterator[str]:
    """`nodes` Kafka nodes on `port`, `port` + 10000, …; gives their bootstrap addresses."""
    lib = jars()
    data = Path(tempfile.mkdtemp(prefix="kafka-peer-"))
    # A zero first, or the id may begin with a dash and be taken for an option.
    cluster_id = base64.urlsafe_b64encode(bytes(1) + os.urandom(15)).decode().rstrip("=")
    ports = [port + 10_000 * i for i in range(nodes)]
    voters = ",".join(f"{i + 1}@127.0.0.1:{p + 1}" for i, p in enumerate(ports))
    processes: list[subprocess.Popen[bytes]] = []
    try:
        for index, node_port in enumerate(ports):
            properties = data / f"node{index + 1}.properties"
            text = _PROPERTIES.format(
                node=index + 1, voters=voters, port=node_port, controller_port=node_port + 1,
                data=data / f"k{index + 1}", replicas=min(3, nodes), in_sync=min(2, nodes),
            )  # fmt: skip
            properties.write_text(text + "\n".join(extra) + "\n")
            format_arguments = ("format", "-t", cluster_id, "-c", str(properties))
            subprocess.run(
                _java(lib, "64m", "kafka.tools.StorageTool", *format_arguments),
                check=True,
                stdout=subprocess.DEVNULL,
            )
            command = _java(lib, heap, "kafka.Kafka", str(properties))
            with (data / f"node{index + 1}.log").open("wb") as log:
                processes.append(subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT))
        for index, node_port in enumerate(ports):
            _wait_for_port(node_port, processes[index], data / f"node{index + 1}.log")
        yield ",".join(f"127.0.0.1:{p}" for p in ports)
    finally:
        for process in processes:
            process.terminate()
        for process in processes:
            try:
                process.wait(timeout=STOP_SECONDS_MAX)
            except subprocess.TimeoutExpired:
                process.kill()
        shutil.rmtree(data, ignore_errors=True)


def _free_port() -> int:
    """A port whose neighbour is free as well, as far as one can tell."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def _stop(*_: object) -> None:
    raise KeyboardInterrupt


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.kafka_peer", description=__doc__)
    parser.add_argument("what", choices=("start", "run"))
    parser.add_argument("--port", type=int, default=0, help="19092 for start, a free one for run")
    parser.add_argument("--nodes", type=int, default=1)
    parser.add_argument("--heap", default="512m")
    parser.add_argument("-o", "--option", action="append", default=[], metavar="KEY=VALUE")
    parser.epilog = "run takes its command after --"
    given = sys.argv[1:]
    cut = given.index("--") if "--" in given else len(given)
    arguments, command = parser.parse_args(given[:cut]), given[cut + 1 :]
    if (arguments.what == "run") != bool(command):
        parser.error("run needs a command after --, start takes none")
    signal.signal(signal.SIGTERM, _stop)
    port = arguments.port or (19092 if arguments.what == "start" else _free_port())
    try:
        with running(port, arguments.nodes, arguments.heap, arguments.option) as bootstrap:
            if arguments.what == "run":
                environment = {**os.environ, "RAFTLOG_TEST_BOOTSTRAP": bootstrap}
                return subprocess.run(command, env=environment).returncode
            print(f"ready bootstrap={bootstrap}", flush=True)
            signal.pause()
    except KeyboardInterrupt:
        pass
    return 0


sys.exit(main())
