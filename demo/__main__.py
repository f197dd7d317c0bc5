"""`make demo`: tutorials first, then every line of a real log through a broker that is killed half-way.

The last line says how many lines were produced, consumed, lost and duplicated; anything but none lost and
none duplicated exits with 1. `DEMO_INPUT=FILE` names another text file.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter, defaultdict
from pathlib import Path

from confluent_kafka import KafkaException, Message, Producer

from raftlog.testing.processes import BrokerProcess, free_port

TOPIC = "real-log"
PARTITIONS = 3
LOGS = (
    "/var/log/dpkg.log",
    "/var/log/syslog",
    "/var/log/messages",
    "/var/log/apt/term.log",
    "/var/log/dnf.log",
)


def find_input() -> Path:
    named = os.environ.get("DEMO_INPUT")
    candidates = [named] if named else LOGS
    for candidate in candidates:
        path = Path(candidate)
        if path.is_file() and os.access(path, os.R_OK) and path.stat().st_size > 0:
            return path
    raise SystemExit(f"no readable log among {', '.join(candidates)}: name a text file with DEMO_INPUT=FILE")


def key_of(line: bytes) -> bytes:
    """The line's date, as logs begin with one; any other text is keyed by its first word."""
    return line.split(maxsplit=1)[0] if line.split() else b"-"


def tutorials(folder: Path, bootstrap: str) -> None:
    properties = folder / "client.properties"
    properties.write_text(f"# where the broker is\nbootstrap.servers={bootstrap}\n")
    environment = os.environ | {"BOOTSTRAP": bootstrap, "CLIENT_PROPERTIES": str(properties)}
    for module in ("demo.hello_kafka_python", "demo.hello_confluent"):
        print(f"\n--- {module}", flush=True)
        subprocess.run([sys.executable, "-m", module], env=environment, check=True, timeout=120)


def publish(lines: list[bytes], broker: BrokerProcess) -> dict[bytes, list[bytes]]:
    """Publish every line, killing the broker half-way; gives the acknowledged lines of each key in order."""
    acknowledged: dict[bytes, list[bytes]] = defaultdict(list)

    def delivered(error: object, message: Message) -> None:
        if error is None:
            acknowledged[bytes(message.key())].append(bytes(message.value()))

    producer = Producer(
        {
            "bootstrap.servers": broker.bootstrap,
            "enable.idempotence": True,
            "linger.ms": 1,
            "batch.num.messages": 50,  # small batches, so that some are in flight when the broker dies
            "message.timeout.ms": 120_000,
            "log_level": 0,  # a killed broker is what this is about
        }
    )
    for number, line in enumerate(lines):
        producer.produce(TOPIC, key=key_of(line), value=line, on_delivery=delivered)
        producer.poll(0)
        if number == len(lines) // 2:
            broker.kill()
            print(
                f"SIGKILL after {number + 1} lines were handed over, {sum(map(len, acknowledged.values()))} acknowledged"
            )
            broker.start()
            print(f"started again on the same data, ready after {broker.ready_after_s:.2f} s")
    unsent = producer.flush(120)
    if unsent:
        raise SystemExit(f"{unsent} lines were never acknowledged")
    return acknowledged


def consume(broker: BrokerProcess, expected: int) -> dict[bytes, list[bytes]]:
    """Everything in the topic by key, in order, read by the command line's consumer."""
    command = [sys.executable, "-m", "raftlog", "consume", TOPIC, "--bootstrap", broker.bootstrap]
    command += ["--from-beginning", "--exit-at-end", "-f", "%k\t%s\n"]
    output = subprocess.run(command, check=True, stdout=subprocess.PIPE, timeout=300).stdout
    consumed: dict[bytes, list[bytes]] = defaultdict(list)
    for row in output.splitlines():
        key, _, value = row.partition(b"\t")
        consumed[key].append(value)
    return consumed


def main() -> int:
    source = find_input()
    lines = source.read_bytes().splitlines()
    with tempfile.TemporaryDirectory(prefix="raftlog-demo-") as name:
        folder = Path(name)
        broker = BrokerProcess(folder / "data", port=demo_port()).start()
        print(f"broker ready on {broker.bootstrap} after {broker.ready_after_s:.2f} s, data in {folder}")
        try:
            tutorials(folder, broker.bootstrap)
            print(
                f"\n--- {source}: {len(lines)} lines, keyed by date, into {PARTITIONS} partitions", flush=True
            )
            create = [sys.executable, "-m", "raftlog", "topic", "create", TOPIC, "-p", str(PARTITIONS)]
            subprocess.run([*create, "--bootstrap", broker.bootstrap], check=True, timeout=60)
            started = time.monotonic()
            acknowledged = publish(lines, broker)
            consumed = consume(broker, len(lines))
            print(f"published and read back in {time.monotonic() - started:.1f} s")
            broker.stop()
        finally:
            if broker.is_running:
                broker.kill()
    return report(acknowledged, consumed, len(lines))


def demo_port() -> int:
    """9092, where every tutorial looks, unless somebody is there."""
    with socket.socket() as sock:
        if sock.connect_ex(("127.0.0.1", 9092)) != 0:
            return 9092
    return free_port()


def report(acknowledged: dict[bytes, list[bytes]], consumed: dict[bytes, list[bytes]], lines: int) -> int:
    wanted = Counter((key, value) for key, values in acknowledged.items() for value in values)
    got = Counter((key, value) for key, values in consumed.items() for value in values)
    lost, duplicated = (wanted - got).total(), (got - wanted).total()
    reordered = [key for key in acknowledged if acknowledged[key] != consumed.get(key, [])]
    if reordered and not lost and not duplicated:
        print(f"out of order within {len(reordered)} keys, the first is {reordered[0]!r}")
    print(
        f"produced {wanted.total()} of {lines}, consumed {got.total()}, lost {lost}, duplicated {duplicated}"
    )
    return 0 if not lost and not duplicated and not reordered and wanted.total() == lines else 1


if __name__ == "__main__":
    try:
        raise SystemExit(main())
    except (KafkaException, subprocess.SubprocessError) as error:
        raise SystemExit(f"the demo failed: {error}") from error
