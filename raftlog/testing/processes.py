"""Real broker processes for tests, demos and chaos: start, wait until ready, kill, pause, stop.

A `BrokerProcess` keeps its ports and its data folder over restarts, so that what clients know of it stays
true. It is plain and blocking: the process is real, so nothing here belongs on an event loop.
"""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

from raftlog.errors import RaftlogError

START_TIMEOUT_S: Final = 60.0
"""How long a start may take; generous, since the machine may be busy with other tests."""


class BrokerDidNotStart(RaftlogError):
    """The process ended, or said nothing in time; the message holds the end of its log."""


def free_port() -> int:
    """A TCP port of 127.0.0.1 that nobody listens on right now."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


class BrokerProcess:
    """`raftlog serve` as a child process.

    `options` are Kafka's dotted keys; `arguments` are added to the command line as they are;
    `open_files_max` is `ulimit -n` for the process.
    """

    def __init__(
        self,
        data_dir: Path | str,
        *,
        port: int | None = None,
        node_id: int = 1,
        options: Mapping[str, object] | None = None,
        arguments: tuple[str, ...] = (),
        open_files_max: int | None = None,
    ) -> None:
        self.data_dir = Path(data_dir)
        self.port = port if port is not None else free_port()
        self.node_id = node_id
        self.options = dict(options or {})
        self.arguments = arguments
        self.open_files_max = open_files_max
        self.log_path = self.data_dir.parent / f"{self.data_dir.name}.log"
        self.ready_after_s = 0.0
        self._process: subprocess.Popen[bytes] | None = None

    def __repr__(self) -> str:
        state = f"pid={self.pid}" if self.is_running else "stopped"
        return f"<BrokerProcess {self.node_id} {self.bootstrap} {state}>"

    @property
    def bootstrap(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def is_running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int:
        assert self._process is not None, "never started"
        return self._process.pid

    def launch(self) -> None:
        """Start the process without waiting for it."""
        assert not self.is_running, self
        self.data_dir.parent.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "-m", "raftlog", "serve", "--node-id", str(self.node_id)]
        command += ["--listen", self.bootstrap, "--data-dir", str(self.data_dir), *self.arguments]
        for key, value in self.options.items():
            command += ["-o", f"{key}={value}"]
        if self.open_files_max is not None:
            command = ["/bin/sh", "-c", f'ulimit -n {self.open_files_max}; exec "$@"', "sh", *command]
        with self.log_path.open("ab") as log:
            self._started_at = time.monotonic()
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=log
            )

    def wait_ready(self, timeout_s: float = START_TIMEOUT_S) -> None:
        """Wait for the `ready` line; raises BrokerDidNotStart with the end of the broker's log."""
        assert self._process is not None and self._process.stdout is not None, "never started"
        stdout = self._process.stdout
        with selectors.DefaultSelector() as selector:
            selector.register(stdout, selectors.EVENT_READ)
            line = b""
            while not line.endswith(b"\n"):
                left = self._started_at + timeout_s - time.monotonic()
                if left <= 0 or not selector.select(left):
                    self.kill()
                    raise BrokerDidNotStart(f"no ready line within {timeout_s} s\n{self.log_tail()}")
                chunk = os.read(stdout.fileno(), 4096)
                if not chunk:
                    code = self._process.wait()
                    raise BrokerDidNotStart(f"exited with {code}\n{self.log_tail()}")
                line += chunk
        self.ready_after_s = time.monotonic() - self._started_at
        if not line.startswith(b"ready"):
            raise BrokerDidNotStart(f"printed {line!r} instead of a ready line")

    def start(self) -> BrokerProcess:
        """Start and wait until the broker serves."""
        self.launch()
        self.wait_ready()
        return self

    def kill(self) -> None:
        """SIGKILL, and wait for the process to be gone."""
        self._end(signal.SIGKILL, 60)

    def stop(self, timeout_s: float = 30.0) -> int:
        """SIGTERM, and the exit code; a broker that does not obey in time is killed and that raises."""
        assert self._process is not None
        try:
            return self._end(signal.SIGTERM, timeout_s)
        except subprocess.TimeoutExpired:
            self.kill()
            raise

    def pause(self) -> None:
        """SIGSTOP: the process keeps its sockets and answers nothing."""
        os.kill(self.pid, signal.SIGSTOP)

    def resume(self) -> None:
        os.kill(self.pid, signal.SIGCONT)

    def memory_bytes(self) -> int:
        """Resident memory."""
        pages = int(Path(f"/proc/{self.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")

    def cpu_seconds(self) -> float:
        """User and system time since the start."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def log_tail(self, lines: int = 30) -> str:
        """The last lines that the broker wrote to stderr."""
        if not self.log_path.exists():
            return ""
        return "\n".join(self.log_path.read_text(errors="replace").splitlines()[-lines:])

    def _end(self, number: signal.Signals, timeout_s: float) -> int:
        assert self._process is not None
        if self._process.poll() is None:
            self._process.send_signal(number)
            if number is signal.SIGTERM:
                self._process.send_signal(signal.SIGCONT)
        code = self._process.wait(timeout_s)
        if self._process.stdout is not None:
            self._process.stdout.close()
        return code


@contextlib.contextmanager
def broker_process(data_dir: Path | str, **keywords: object) -> Iterator[BrokerProcess]:
    """A running broker process, killed on the way out."""
    broker = BrokerProcess(data_dir, **keywords)  # type: ignore[arg-type]
    broker.start()
    try:
        yield broker
    finally:
        broker.kill()
