"""`make demo`: tutorials first, then every line of a real log, twice: through a broker that is killed
half-way and started again, and through a cluster of three that loses a leader half-way. At last the fraud
example, on three brokers of which one is killed.

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
from collections.abc import Callable, Sequence
from pathlib import Path

from confluent_kafka import KafkaException

import raftlog
from demo.comparison import Outcome, by_key, compare
from demo.fraud import fraud
from demo.real_log import DemoFailed, Publishing, consume, create_topic, reader
from demo.source import Line, NoInput, find_input, read_lines
from examples.fraud.warehouse import Verdict
from raftlog.cli.output import counted
from raftlog.testing.processes import BrokerDidNotStart, BrokerProcess, ClusterProcesses, free_port

BROKERS = 3


def main() -> int:
    source = find_input()
    lines, whole = read_lines(source)
    extent = "" if whole else " (its beginning: the file is long)"
    with tempfile.TemporaryDirectory(prefix="raftlog-demo-") as name:
        folder = Path(name)
        broker = BrokerProcess(folder / "data", port=demo_port())
        try:
            step(1, "A broker, as `raftlog serve` starts it")
            broker.start()
            say(f"ready on {broker.bootstrap} after {broker.ready_after_s:.2f} s, data in {folder}/data")

            step(2, "The kafka-python tutorial: ten JSON messages, read back by a consumer group")
            tutorial("hello_kafka_python", folder, broker.bootstrap)

            step(3, "The confluent-kafka tutorial: a keyed record, configured by client.properties")
            tutorial("hello_confluent", folder, broker.bootstrap)

            step(4, f"A real log, and the broker is killed: {source}")
            say(f"{counted(len(lines), 'line')}{extent}, keyed by {counted(len(by_key(lines)), 'date')}")
            outcome = through_one_broker(lines, broker)
            broker.stop()
        except (DemoFailed, KafkaException, subprocess.SubprocessError):
            show_log(broker)
            raise
        finally:
            if broker.is_running:
                broker.kill()

        step(5, "The same log, to three brokers, and one that leads is killed")
        with ClusterProcesses(folder / "cluster", BROKERS) as cluster:
            outcome += through_a_cluster(lines, cluster)

        step(6, "Fraud: payments from a file to alerts and a warehouse, on three brokers, one killed")
        verdict = through_the_example(folder / "fraud")
    print(f"\n{outcome}")
    return 0 if outcome.is_perfect and verdict.is_right else 1


def through_one_broker(lines: Sequence[Line], broker: BrokerProcess) -> Outcome:
    """Publish to a broker that is killed and started again."""

    def start_again() -> None:
        broker.start()
        say(f"started again on the same data, ready after {broker.ready_after_s:.2f} s")

    create_topic(broker.bootstrap, replicas=1)
    publishing = Publishing(broker.bootstrap, len(lines))
    return publish(lines, broker.bootstrap, publishing, broker.kill, start_again)


def through_a_cluster(lines: Sequence[Line], cluster: ClusterProcesses) -> Outcome:
    """Publish to brokers of which one is killed, and stays dead."""
    started = time.monotonic()
    cluster.start()
    say(f"ready on {cluster.bootstrap} after {time.monotonic() - started:.2f} s")
    create_topic(cluster.bootstrap, replicas=BROKERS)
    publishing = Publishing(cluster.bootstrap, len(lines))

    def kill_the_leader() -> None:
        leader = publishing.leader_of_most()
        say(f"broker {leader} leads where most lines are, and is killed for good")
        cluster.brokers[leader].kill()

    try:
        return publish(lines, cluster.bootstrap, publishing, kill_the_leader, lambda: None)
    except (DemoFailed, KafkaException, subprocess.SubprocessError):
        for broker in cluster.brokers.values():
            show_log(broker)
        raise


def through_the_example(folder: Path) -> Verdict:
    """Run the fraud example, and say what it found."""
    folder.mkdir()
    with ClusterProcesses(folder / "brokers", BROKERS) as cluster:
        cluster.start()
        try:
            verdict = fraud(cluster, folder, say)
        except (DemoFailed, raftlog.ClientError):
            for broker in cluster.brokers.values():
                show_log(broker)
            for log in sorted(folder.glob("*.log")):
                print(f"\n{log.name}:\n{log.read_text(errors='replace')[-3000:]}", file=sys.stderr)
            raise
    say(f"{verdict}: {'every one as it must be' if verdict.is_right else 'THIS IS WRONG'}")
    return verdict


def publish(
    lines: Sequence[Line],
    bootstrap: str,
    publishing: Publishing,
    strike: Callable[[], None],
    recover: Callable[[], None],
) -> Outcome:
    """Publish the lines, read them back, compare, and say how it went."""
    started = time.monotonic()
    publishing.publish(lines, strike, recover)
    say(f"all acknowledged {time.monotonic() - started:.1f} s after the first was sent")
    outcome = compare(lines, publishing.acknowledged, consume(bootstrap))
    for key in outcome.reordered[:3]:
        say(f"key {key.decode(errors='replace')}: not the lines of the input, or not in their order")
    for text in outcome.misplaced:
        say(f"lost or too many: {text.decode(errors='replace')[:100]}")
    verdict = "every line is there, once, in order" if outcome.is_perfect else "THIS IS WRONG"
    say(f"read back with {reader()} and compared, per key and in order: {verdict}")
    return outcome


def step(number: int, title: str) -> None:
    print(f"\n{number}. {title}", flush=True)


def say(text: str) -> None:
    print(f"   {text}", flush=True)


def show_log(broker: BrokerProcess) -> None:
    """When the demo fails, why may be here."""
    if tail := broker.log_tail(10):
        print(f"\nThe end of the log of broker {broker.node_id}:\n{tail}\n", file=sys.stderr)


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
        say(line)
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
        raftlog.ClientError,
        NoInput,
        DemoFailed,
        BrokerDidNotStart,
        KafkaException,
        subprocess.SubprocessError,
        OSError,
    ) as error:
        print(f"the demo failed: {error}", file=sys.stderr)
        raise SystemExit(1) from error
