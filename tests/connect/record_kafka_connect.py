"""`python -m tests.connect.record_kafka_connect`: plays the consoles' calls on Kafka Connect, with Java and
jars of Maven Central, on a broker of ours, and keeps what it answers."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from urllib.error import URLError

from raftlog.testing.processes import ClusterProcesses
from tests.connect.console_calls import RECORDED, Peer, play
from tests.foreign.commands import JavaTools
from tests.foreign.worker import Worker


def main() -> None:
    with tempfile.TemporaryDirectory() as name, ClusterProcesses(Path(name) / "brokers") as brokers:
        folder = Path(name)
        brokers.start()
        (folder / "in.log").write_text("one\ntwo\n")
        worker = Worker(JavaTools("apps"), brokers.bootstrap, folder)
        package = "org.apache.kafka.connect.file"
        source = f"{package}.FileStreamSourceConnector"
        peer = Peer(
            worker._url,
            source,
            {"connector.class": source, "file": str(folder / "in.log"), "topic": "lines", "tasks.max": "1"},
            {
                "connector.class": f"{package}.FileStreamSinkConnector",
                "file": str(folder / "out.log"),
                "topics": "lines",
            },
            {"filename": str(folder / "in.log")},
        )

        def is_up() -> bool:
            try:
                return peer.ask("GET", "/connectors")[0] == 200
            except (URLError, OSError):
                return False

        try:
            worker.program.until("the worker is up", is_up)
            answers = play(peer)
        finally:
            worker.program.stop()
    text = json.dumps(answers, indent=1, sort_keys=False).replace(str(folder), "FOLDER")
    RECORDED.write_text(text + "\n")
    print(f"{len(answers)} answers of Kafka Connect in {RECORDED.name}")


if __name__ == "__main__":
    main()
