"""Three brokers as processes that say what their loops took."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Final

from raftlog.testing.processes import free_port

PATIENCE_S: Final = 120.0
COUNT: Final = 3


class MeasuredCluster:
    """A context manager; leaving it ends the brokers."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.ports = [free_port() for _ in range(COUNT)]
        self._peer_ports = [free_port() for _ in range(COUNT)]
        self._brokers: list[subprocess.Popen[str] | None] = [None] * COUNT

    @property
    def bootstrap(self) -> str:
        return ",".join(f"127.0.0.1:{port}" for port in self.ports)

    def __enter__(self) -> MeasuredCluster:
        for number in range(COUNT):
            self.launch(number)
        for number in range(COUNT):
            self.wait_ready(number)
        return self

    def __exit__(self, *exc: object) -> None:
        for number in range(COUNT):
            self.kill(number)

    def launch(self, number: int) -> None:
        peers = ",".join(f"{id}@127.0.0.1:{port}" for id, port in enumerate(self._peer_ports, 1))
        options = {
            "node.id": number + 1,
            "listeners": f"PLAINTEXT://127.0.0.1:{self.ports[number]}",
            "raftlog.peer.listen": f"127.0.0.1:{self._peer_ports[number]}",
            "raftlog.peers": peers,
            "log.dirs": self.root / str(number + 1),
            "default.replication.factor": COUNT,
        }
        self._brokers[number] = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "tests.loop_time.broker",
                *(f"{key}={value}" for key, value in options.items()),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def wait_ready(self, number: int) -> None:
        line = self._pipe(number, "stdout").readline()
        assert line == "ready\n", f"broker {number + 1} said {line!r}"

    def kill(self, number: int) -> None:
        broker = self._brokers[number]
        if broker is not None:
            broker.kill()
            broker.wait()
            self._brokers[number] = None

    def ask(self, number: int, question: str) -> dict[str, Any]:
        """See `tests.loop_time.broker`."""
        stdin = self._pipe(number, "stdin")
        stdin.write(f"{question}\n")
        stdin.flush()
        told: dict[str, Any] = json.loads(self._pipe(number, "stdout").readline())
        return told

    def ask_all(self, question: str) -> dict[int, dict[str, Any]]:
        """What each broker that runs says, by its id."""
        return {number + 1: self.ask(number, question) for number in range(COUNT) if self._brokers[number]}

    def wait_equal(self) -> None:
        """Wait until all brokers have the same groups and have committed the same."""
        deadline = time.monotonic() + PATIENCE_S
        while True:
            states = [(state["groups"], state["committed"]) for state in self.ask_all("state").values()]
            if len(set(states)) == 1:
                return
            assert time.monotonic() < deadline, f"the brokers differ: {states}"
            time.sleep(0.2)

    def _pipe(self, number: int, name: str) -> Any:
        broker = self._brokers[number]
        assert broker is not None, f"broker {number + 1} is down"
        return getattr(broker, name)
