"""Real broker processes for tests, demos and chaos: start, wait until ready, kill, pause, stop.

A `BrokerProcess` keeps its ports and its data folder over restarts, so that what clients know of it stays
true. It is plain and blocking: the process is real, so nothing here belongs on an event loop.
"""

from __future__ import annotations

import contextlib
import os
import random
import selectors
import signal
import socket
import subprocess
import sys
import time
from collections import deque
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, TYPE_CHECKING, Final

from raftlog.errors import RaftlogError

if TYPE_CHECKING:
    from raftlog.testing.security import TestSecurity

START_TIMEOUT_S: Final = 60.0
"""How long a start may take; generous, since the machine may be busy with other tests."""

PORTS: Final = (15_000, 32_000)
RAFTLOG: Final = (sys.executable, "-m", "raftlog")


class BrokerDidNotStart(RaftlogError):
    """The process ended, or said nothing in time; the message holds the end of its log."""


BLOCK: Final = 500
"""Ports that one process gives. Tests side by side are processes whose ids lie close together: each gives
others, so that none gives the port of a broker that another restarts just now."""

_given: deque[int] = deque(maxlen=BLOCK // 2)
"""Ports given lately: nobody may listen on one yet, and two brokers must not be told the same."""


def free_port() -> int:
    """A TCP port of 127.0.0.1 that nobody listens on right now.

    It lies below those that the kernel gives to outgoing connections, so that it stays free while its broker
    is down: a client that dials such a port for long enough ends up connected to itself.
    """
    first, end = PORTS
    begin = first + os.getpid() * BLOCK % (end - first)
    while True:
        port = random.randrange(begin, begin + BLOCK)
        if port in _given:
            continue
        with socket.socket() as sock:
            try:
                sock.bind(("127.0.0.1", port))
            except OSError:
                continue
        _given.append(port)
        return port


class BrokerProcess:
    """`raftlog serve` as a child process.

    `options` are Kafka's dotted keys; `arguments` are added to the command line as they are;
    `open_files_max` is `ulimit -n` for the process; `host` is where it listens; `program` is what the command
    line begins with, such as `ip netns exec NAME python -m raftlog`. `--http-listen` among the
    arguments has HTTP served. With `security` clients log in, in TLS.
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
        host: str = "127.0.0.1",
        program: tuple[str, ...] = RAFTLOG,
        security: TestSecurity | None = None,
    ) -> None:
        self.data_dir = Path(data_dir)
        self.port = port if port is not None else free_port()
        self.node_id = node_id
        self.options = dict(options or {})
        self.arguments = arguments
        self.open_files_max = open_files_max
        self.host = host
        self.program = program
        self._security = security
        self.log_path = self.data_dir.parent / f"{self.data_dir.name}.log"
        self.ready_after_s = 0.0
        self._process: subprocess.Popen[bytes] | None = None

    def __repr__(self) -> str:
        state = f"pid={self.pid}" if self.is_running else "stopped"
        return f"<BrokerProcess {self.node_id} {self.bootstrap} {state}>"

    @property
    def bootstrap(self) -> str:
        """`host:port` for a client's `bootstrap_servers`."""
        return f"{self.host}:{self.port}"

    @property
    def is_running(self) -> bool:
        """Whether there is a process; it may be paused."""
        return self._process is not None and self._process.poll() is None

    @property
    def exit_code(self) -> int | None:
        """How the process ended, negative for a signal; None while it runs or before it was started."""
        return None if self._process is None else self._process.poll()

    @property
    def pid(self) -> int:
        """The process's number, also after its end."""
        assert self._process is not None, "never started"
        return self._process.pid

    @property
    def _stdout(self) -> IO[bytes]:
        assert self._process is not None and self._process.stdout is not None, "never started"
        return self._process.stdout

    def _did_not_start(self, why: str) -> BrokerDidNotStart:
        return BrokerDidNotStart(f"broker {self.node_id}: {why}\n{self.log_tail()}")

    def launch(self) -> None:
        """Start the process without waiting for it."""
        assert not self.is_running, self
        self.data_dir.parent.mkdir(parents=True, exist_ok=True)
        command = [*self.program, "serve", "--node-id", str(self.node_id)]
        command += ["--listen", self.bootstrap, "--http-listen", "", "--data-dir", str(self.data_dir)]
        if self.host != "127.0.0.1" and self._security is None:  # a network of tests
            command += ["--insecure"]
        command += self.arguments
        secured: dict[str, object] = {}
        if self._security is not None:
            secured = {**self._security.settings, "listeners": self._security.listener(self.bootstrap)}
        for key, value in (secured | self.options).items():
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
        stdout = self._stdout
        with selectors.DefaultSelector() as selector:
            selector.register(stdout, selectors.EVENT_READ)
            line = b""
            while not line.endswith(b"\n"):
                left = self._started_at + timeout_s - time.monotonic()
                if left <= 0 or not selector.select(left):
                    self.kill()
                    raise self._did_not_start(f"no ready line within {timeout_s} s")
                chunk = os.read(stdout.fileno(), 4096)
                if not chunk:
                    code = self.wait()
                    raise self._did_not_start(f"exited with {code}")
                line += chunk
        self.ready_after_s = time.monotonic() - self._started_at
        if not line.startswith(b"ready"):
            raise self._did_not_start(f"printed {line!r} instead of a ready line")

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

    def wait(self, timeout_s: float = 30.0) -> int:
        """Wait for the process to end by itself, or by a signal it has got; its exit code."""
        assert self._process is not None
        code = self._process.wait(timeout_s)
        if self._process.stdout is not None:
            self._process.stdout.close()
        return code

    def pause(self) -> None:
        """SIGSTOP: the process keeps its sockets and answers nothing."""
        os.kill(self.pid, signal.SIGSTOP)

    def resume(self) -> None:
        """SIGCONT: the process goes on after `pause`."""
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
        return self.wait(timeout_s)


def http_address(broker: BrokerProcess) -> str:
    """HOST:PORT where a broker serves HTTP; it was given among its arguments."""
    return broker.arguments[broker.arguments.index("--http-listen") + 1]


@contextlib.contextmanager
def broker_process(data_dir: Path | str, **keywords: object) -> Iterator[BrokerProcess]:
    """A running broker process, killed on the way out."""
    broker = BrokerProcess(data_dir, **keywords)  # type: ignore[arg-type]
    broker.start()
    try:
        yield broker
    finally:
        broker.kill()


class ClusterProcesses:
    """Brokers 1 to `nodes` as processes that know each other by `--peers`, each with a folder of its own
    under `root`. `options`, `arguments` and `security` are every broker's, `hosts` and `programs` each
    broker's own; with `http` each has an HTTP port. A context manager that kills them all."""

    def __init__(
        self,
        root: Path | str,
        nodes: int = 3,
        *,
        options: Mapping[str, object] | None = None,
        arguments: tuple[str, ...] = (),
        hosts: Mapping[int, str] | None = None,
        programs: Mapping[int, tuple[str, ...]] | None = None,
        http: bool = False,
        security: TestSecurity | None = None,
    ) -> None:
        self.root = Path(root)
        self.brokers: dict[int, BrokerProcess] = {}
        self._peers: dict[int, str] = {}
        self._options = dict(options or {})
        self._arguments = arguments
        self._hosts = dict(hosts or {})
        self._programs = dict(programs or {})
        self._http = http
        self._security = security
        for node_id in range(1, nodes + 1):
            self._peers[node_id] = self._free_address(node_id)
        for node_id in self._peers:
            self._make(node_id, ("--peers", self._named_peers()))

    def __repr__(self) -> str:
        return f"<ClusterProcesses {list(self.brokers.values())}>"

    def __enter__(self) -> ClusterProcesses:
        return self

    def __exit__(self, *exc: object) -> None:
        self.kill()

    @property
    def bootstrap(self) -> str:
        """Every broker, running or not."""
        return ",".join(broker.bootstrap for broker in self.brokers.values())

    def start(self) -> ClusterProcesses:
        """Start all brokers at once and wait until all of them serve. Raises BrokerDidNotStart, of the one
        that others may wait for, and leaves none running."""
        try:
            for broker in self.brokers.values():
                broker.launch()
            self._wait_ready()
        except BaseException:
            self.kill()
            raise
        return self

    def _wait_ready(self) -> None:
        """For each when it says something or ends: who ends at once is why others would wait in vain."""
        with selectors.DefaultSelector() as selector:
            for broker in self.brokers.values():
                selector.register(broker._stdout, selectors.EVENT_READ, broker)
            while waiting := list(selector.get_map().values()):
                spoke = [key for key, _ in selector.select(START_TIMEOUT_S)]
                for key in spoke or waiting:
                    selector.unregister(key.fileobj)
                    key.data.wait_ready()

    def kill(self) -> None:
        """SIGKILL for every broker that was started; nothing is left of their processes."""
        for broker in self.brokers.values():
            if broker._process is not None:
                broker.kill()

    def stop(self) -> None:
        """SIGTERM for all at once; raises when one does not end with 0."""
        running = [broker for broker in self.brokers.values() if broker.is_running]
        for broker in running:
            os.kill(broker.pid, signal.SIGTERM)
        codes = {broker.node_id: broker.wait() for broker in running}
        assert not any(codes.values()), codes

    def newcomer(self, node_id: int) -> tuple[BrokerProcess, str]:
        """A broker that is not started yet and joins the others once they admit it, and the address of its
        peer listener, with which they do (`raftlog cluster add`)."""
        assert node_id not in self.brokers, node_id
        join = self._named_peers()
        self._peers[node_id] = self._free_address(node_id)
        return self._make(node_id, ("--join", join)), self._peers[node_id]

    def forget(self, node_id: int) -> None:
        """A broker that was removed from the cluster, and stopped."""
        assert not self.brokers[node_id].is_running, node_id
        del self.brokers[node_id], self._peers[node_id]

    def _host(self, node_id: int) -> str:
        return self._hosts.get(node_id, "127.0.0.1")

    def _free_address(self, node_id: int) -> str:
        return f"{self._host(node_id)}:{free_port()}"

    def _named_peers(self) -> str:
        return ",".join(f"{node_id}@{address}" for node_id, address in self._peers.items())

    def _make(self, node_id: int, others: tuple[str, str]) -> BrokerProcess:
        http = ("--http-listen", self._free_address(node_id)) if self._http else ()
        broker = self.brokers[node_id] = BrokerProcess(
            self.root / f"broker-{node_id}",
            node_id=node_id,
            options=self._options,
            arguments=("--peer-listen", self._peers[node_id], *others, *http, *self._arguments),
            host=self._host(node_id),
            program=self._programs.get(node_id, RAFTLOG),
            security=self._security,
        )
        return broker
