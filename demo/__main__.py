"""`make demo`: tutorials first, then every line of a real log through a broker that is killed half-way.

The last line says how many lines were produced, consumed, lost and duplicated; anything but none lost, none
duplicated and the order of the input exits with 1. `DEMO_INPUT=FILE` names another text file.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from confluent_kafka import KafkaException

from demo.comparison import by_key, compare
from demo.real_log import PARTITIONS, TOPIC, DemoFailed, Publishing, consume, create_topic, reader
from demo.source import NoInput, find_input, read_lines
from raftlog.cli.output import counted
from raftlog.testing.processes import BrokerDidNotStart, BrokerProcess, free_port

TUTORIALS = (
    ("hello_kafka_python", "The kafka-python tutorial: ten JSON messages, read back by a consumer group"),
    ("hello_confluent", "The confluent-kafka tutorial: a keyed record, configured by client.properties"),
)


def main() -> int:
    source = find_input()
    lines, whole = read_lines(source)
    with tempfile.TemporaryDirectory(prefix="raftlog-demo-") as name:
        folder = Path(name)
        broker = BrokerProcess(folder / "data", port=demo_port())
        try:
            step(1, "A broker, as `raftlog serve` starts it")
            broker.start()
            print(f"   ready on {broker.bootstrap} after {broker.ready_after_s:.2f} s, data in {folder}/data")
            for number, (module, title) in enumerate(TUTORIALS, 2):
                step(number, title)
                tutorial(module, folder, broker.bootstrap)

            extent = "" if whole else " (its beginning: the file is long)"
            step(4, f"A real log, while the broker is killed: {source}")
            print(
                f"   {counted(len(lines), 'line')}{extent}, keyed by {counted(len(by_key(lines)), 'date')},"
                f" to topic {TOPIC} with {PARTITIONS} partitions",
                flush=True,
            )
            create_topic(broker.bootstrap)
            started = time.monotonic()
            publishing = Publishing(broker, len(lines))
            publishing.publish(lines)
            print(f"   all acknowledged {time.monotonic() - started:.1f} s after the first was sent")

            step(5, f"Read back with {reader()}, compared per key and in order")
            outcome = compare(lines, publishing.acknowledged, consume(broker.bootstrap))
            broker.stop()
        except (DemoFailed, KafkaException, subprocess.SubprocessError):
            print(f"\nThe end of the broker's log:\n{broker.log_tail(10)}\n", file=sys.stderr)
            raise
        finally:
            if broker.is_running:
                broker.kill()
    for key in outcome.reordered[:3]:
        print(f"   key {key.decode(errors='replace')}: not the lines of the input, or not in their order")
    for text in outcome.misplaced:
        print(f"   lost or too many: {text.decode(errors='replace')[:100]}")
    print(f"   {'every line is there, once, in order' if outcome.is_perfect else 'THIS IS WRONG'}\n")
    print(outcome)
    return 0 if outcome.is_perfect else 1


def step(number: int, title: str) -> None:
    print(f"\n{number}. {title}", flush=True)


def tutorial(module: str, folder: Path, bootstrap: str) -> None:
    """Run a hello-world as a script of its own, and show what it prints."""
    properties = folder / "client.properties"
    properties.write_text(f"# where the broker is\nbootstrap.servers={bootstrap}\n")
    environment = os.environ | {"BOOTSTRAP": bootstrap, "CLIENT_PROPERTIES": str(properties)}
    script = Path(__file__).with_name(f"{module}.py")
    result = subprocess.run(
        [sys.executable, "-W", "ignore::DeprecationWarning", str(script)],
        env=environment,
        timeout=120,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    for line in result.stdout.splitlines():
        print(f"   {line}")
    if result.returncode != 0:
        raise DemoFailed(f"demo/{module}.py ended with {result.returncode}")


def demo_port() -> int:
    """9092, where every tutorial looks, unless somebody is there."""
    with socket.socket() as sock:
        if sock.connect_ex(("127.0.0.1", 9092)) != 0:
            return 9092
    port = free_port()
    print(f"port 9092 is taken by somebody else: this demo's broker listens on {port}")
    return port


if __name__ == "__main__":
    try:
        raise SystemExit(main())
    except KeyboardInterrupt:
        raise SystemExit(130) from None
    except (
        NoInput,
        DemoFailed,
        BrokerDidNotStart,
        KafkaException,
        subprocess.SubprocessError,
        OSError,
    ) as error:
        print(f"the demo failed: {error}", file=sys.stderr)
        raise SystemExit(1) from error
