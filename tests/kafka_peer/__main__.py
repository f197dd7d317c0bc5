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
import uuid
from pathlib import Path
from typing import Final

VERSION: Final = "4.1.1"
POM: Final = Path(__file__).with_name("pom.xml")
READY_SECONDS_MAX: Final = 60.0

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


def cache_dir() -> Path:
    return Path(os.environ.get("RAFTLOG_KAFKA_CACHE") or Path.home() / ".cache" / "raftlog" / "kafka")


def jars() -> Path:
    """The folder of Kafka's jars, filled through Maven at the first call."""
    lib = cache_dir() / f"lib-{VERSION}"
    if not (lib / f"kafka_2.13-{VERSION}.jar").exists():
        lib.mkdir(parents=True, exist_ok=True)
        print(f"resolving Apache Kafka {VERSION} with Maven …", file=sys.stderr, flush=True)
        subprocess.run(
            ["mvn", "-q", "-B", "-f", POM, f"-Dkafka.version={VERSION}",
             "dependency:copy-dependencies", f"-DoutputDirectory={lib}"],
            check=True,
        )  # fmt: skip
    return lib


def _java(lib: Path, heap: str, *arguments: str) -> list[str]:
    return [
        "java", f"-Xms{heap}", f"-Xmx{heap}", "-XX:+UseG1GC", "-XX:MaxGCPauseMillis=20",
        "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn", "-cp", f"{lib}/*", *arguments,
    ]  # fmt: skip


def _wait_for_port(port: int, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + READY_SECONDS_MAX
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise SystemExit(f"Kafka exited with {process.returncode} before it listened on {port}")
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            time.sleep(0.1)
        else:
            return
    raise SystemExit(f"Kafka does not listen on {port} after {READY_SECONDS_MAX:.0f} s")


def start(port: int, nodes: int, heap: str, extra: list[str]) -> None:
    """Run `nodes` Kafka nodes on `port`, `port` + 10000, … until SIGINT or SIGTERM."""
    lib = jars()
    data = Path(tempfile.mkdtemp(prefix="kafka-peer-"))
    cluster_id = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
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
            processes.append(subprocess.Popen(command, stdout=sys.stderr))
        for node_port, process in zip(ports, processes, strict=True):
            _wait_for_port(node_port, process)
        bootstrap = ",".join(f"127.0.0.1:{p}" for p in ports)
        print(f"ready bootstrap={bootstrap}", flush=True)
        processes[0].wait()
    except KeyboardInterrupt:
        pass
    finally:
        for process in processes:
            process.terminate()
        for process in processes:
            try:
                process.wait(timeout=15)
            except subprocess.TimeoutExpired:
                process.kill()
        shutil.rmtree(data, ignore_errors=True)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.kafka_peer", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    starter = commands.add_parser("start", help="run Kafka in the foreground")
    starter.add_argument("--port", type=int, default=19092)
    starter.add_argument("--nodes", type=int, default=1)
    starter.add_argument("--heap", default="512m")
    starter.add_argument("-o", "--option", action="append", default=[], metavar="KEY=VALUE")
    arguments = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: (_ for _ in ()).throw(KeyboardInterrupt()))
    start(arguments.port, arguments.nodes, arguments.heap, arguments.option)


main()
