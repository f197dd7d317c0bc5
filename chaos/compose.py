"""The brokers of the compose file's profile `chaos` as a stage: each is a container, each link Toxiproxy's.

The engine runs on this machine, so that a container is a process that takes signals, and its volume a folder:
faults, scenarios and checkers know nothing of either. Brokers run as the file has them, so only scenarios are
played that ask for nothing but Toxiproxy.
"""

from __future__ import annotations

import json
import os
import random
import select
import shutil
import signal
import subprocess
import time
from pathlib import Path
from typing import Any, Final
from urllib.error import URLError
from urllib.request import urlopen

from chaos.faults.fault import CannotRun
from chaos.faults.toxiproxy import REQUEST_TIMEOUT_S, START_TIMEOUT_S, Toxiproxy
from chaos.stage import Links, Stage, Wants
from raftlog.testing.processes import START_TIMEOUT_S as BROKER_TIMEOUT_S
from raftlog.testing.processes import BrokerProcess, ClusterProcesses

PROJECT: Final = "raftlog-chaos"
"""Volumes and containers are its own, and go with it: nobody's data is among them."""
CLIENTS_PORT: Final = 19091
"""Of Toxiproxy, and the number of the broker behind it."""
PROXIES: Final = 9
"""One each way between any two brokers, and one for the clients of each."""
COMMAND_TIMEOUT_S: Final = 600.0
"""An image may have to be built."""
POLL_S: Final = 0.05


def check_compose(wants: Wants) -> None:
    """Raises CannotRun when a scenario cannot be played on containers, or this machine has no engine."""
    if wants != Wants(links=Links.PROXIES):
        raise CannotRun("in containers only what needs Toxiproxy alone is played")
    if os.geteuid() != 0:
        raise CannotRun("signals to containers, and a look at their volumes, need root")
    for command in (["docker", "info"], [*_compose(), "version"]):
        if shutil.which(command[0]) is None:
            raise CannotRun(f"{command[0]} is not installed")
        if subprocess.run(command, capture_output=True, check=False).returncode != 0:
            raise CannotRun(f"{' '.join(command)} fails: is the engine running?")


def _compose() -> list[str]:
    return ["docker-compose"] if shutil.which("docker-compose") else ["docker", "compose"]


def _run(*command: str) -> str:
    """What it prints. Raises CannotRun, with what it said."""
    done = subprocess.run(command, capture_output=True, text=True, timeout=COMMAND_TIMEOUT_S, check=False)
    if done.returncode != 0:
        raise CannotRun(f"{' '.join(command)}: {done.stderr.strip()[-1000:]}")
    return done.stdout


class Container:
    """One that was created."""

    def __init__(self, name: str) -> None:
        self.name = name

    def start(self) -> None:
        """Returns when its process is there."""
        _run("docker", "start", self.name)

    def look(self) -> dict[str, Any]:
        """All that the engine knows of it now."""
        found: dict[str, Any] = json.loads(_run("docker", "inspect", self.name))[0]
        return found

    def published(self, port: int) -> int:
        """The port of this machine that leads to one of a running container."""
        return int(self.look()["NetworkSettings"]["Ports"][f"{port}/tcp"][0]["HostPort"])

    def address(self) -> str:
        """Where this machine reaches it, whatever is published."""
        networks = self.look()["NetworkSettings"]["Networks"]
        return str(next(iter(networks.values()))["IPAddress"])


class ContainerBroker(BrokerProcess):
    """`raftlog serve` in a container."""

    def __init__(self, container: Container, node_id: int) -> None:
        self._container = container
        (volume,) = container.look()["Mounts"]
        super().__init__(volume["Source"], node_id=node_id)
        self._pid = 0
        self._pidfd = -1
        """A descriptor that can be read once the process has ended."""

    @property
    def is_running(self) -> bool:
        return self._pidfd >= 0 and not self._has_ended(0.0)

    def _has_ended(self, timeout_s: float) -> bool:
        return bool(select.select([self._pidfd], [], [], timeout_s)[0])

    @property
    def exit_code(self) -> int | None:
        if self._pidfd < 0 or self.is_running:
            return None
        code = int(_run("docker", "wait", self._container.name))
        return 128 - code if code > 128 else code  # as a shell says that a signal ended it

    @property
    def pid(self) -> int:
        assert self._pid, "never started"
        return self._pid

    def launch(self) -> None:
        self._container.start()
        self.has_started()

    def has_started(self) -> None:
        """Its container runs."""
        self._started_at = time.monotonic()
        self._pid = int(self._container.look()["State"]["Pid"])
        if self._pidfd >= 0:
            os.close(self._pidfd)
        self._pidfd = os.pidfd_open(self._pid)

    def wait_ready(self, timeout_s: float = BROKER_TIMEOUT_S) -> None:
        port = self._container.published(9644)
        while not _answers(f"http://127.0.0.1:{port}/readyz"):
            if time.monotonic() > self._started_at + timeout_s:
                raise self._did_not_start(f"not ready within {timeout_s} s")
            time.sleep(POLL_S)
        self.ready_after_s = time.monotonic() - self._started_at

    def kill(self) -> None:
        if self.is_running:
            signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)
        self.wait()

    def stop(self, timeout_s: float = 30.0) -> int:
        for number in (signal.SIGTERM, signal.SIGCONT):
            signal.pidfd_send_signal(self._pidfd, number)
        return self.wait(timeout_s)

    def wait(self, timeout_s: float = 30.0) -> int:
        if not self._has_ended(timeout_s):
            raise subprocess.TimeoutExpired(self._container.name, timeout_s)
        code = self.exit_code
        assert code is not None
        return code

    def log_tail(self, lines: int = 30) -> str:
        command = ["docker", "logs", "--tail", str(lines), self._container.name]
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
        return done.stderr


def _answers(url: str) -> bool:
    """Whether a page is there, and says that all is well."""
    try:
        with urlopen(url, timeout=REQUEST_TIMEOUT_S) as answer:
            return bool(answer.status == 200)
    except (URLError, OSError):
        return False


class Containers(ClusterProcesses):
    """The profile's brokers."""

    def __init__(self, root: Path, containers: dict[int, Container]) -> None:
        super().__init__(root, nodes=0)
        self._containers = [ContainerBroker(container, node_id) for node_id, container in containers.items()]
        self.brokers.update((broker.node_id, broker) for broker in self._containers)

    def start(self) -> Containers:
        """The file has started them, all at once: a new cluster is ready when all its brokers run."""
        for broker in self._containers:
            broker.has_started()
        for broker in self._containers:
            broker.wait_ready()
        return self

    def kill(self) -> None:
        for broker in self.brokers.values():
            if broker.is_running:
                broker.kill()


class ServedToxiproxy(Toxiproxy):
    """The profile's server, whose proxies are there from its start."""

    def __init__(self, container: Container, folder: Path) -> None:
        super().__init__(folder)
        self._container = container

    def __enter__(self) -> ServedToxiproxy:
        self._port = self._container.published(8474)
        deadline = time.monotonic() + START_TIMEOUT_S
        while not _answers(f"http://127.0.0.1:{self._port}/version"):
            if time.monotonic() > deadline:
                raise CannotRun("Toxiproxy's container does not answer")
            time.sleep(POLL_S)
        own = self._container.address()
        for name, proxy in self._ask("GET", "/proxies").items():
            host, _, port = proxy["listen"].rpartition(":")
            self._listen[name] = f"{own if host in ('[::]', '0.0.0.0') else host}:{port}"
        if len(self._listen) != PROXIES:  # it leaves out, with a line in its log, those that it cannot make
            raise CannotRun(f"Toxiproxy has no proxies but {', '.join(self._listen)}")
        return self


class ComposeStage(Stage):
    """Up from a compose file, and down again with its volumes; the brokers' data is copied out before."""

    def __init__(self, file: Path, root: Path, wants: Wants, *, rng: random.Random) -> None:
        super().__init__(root, wants, rng=rng)
        self._base = [*_compose(), "--project-name", PROJECT, "--file", str(file), "--profile", "chaos"]

    def _check(self) -> None:
        check_compose(self.wants)

    def _open(self) -> None:
        down = [*self._base, "down", "--volumes", "--timeout", "1"]
        _run(*down)  # what a run left that was killed
        self._stack.callback(_run, *down)
        services = ["toxiproxy", *(f"chaos-{broker}" for broker in self.journals)]
        _run(*self._base, "up", "--detach", *services)
        toxiproxy, *brokers = (Container(self._id(service)) for service in services)
        self.proxies = self._stack.enter_context(ServedToxiproxy(toxiproxy, self.root))
        self.cluster = Containers(self.root, dict(zip(self.journals, brokers, strict=True)))
        self._advertised = {
            broker: f"localhost:{toxiproxy.published(CLIENTS_PORT + broker)}" for broker in self.brokers
        }
        self._stack.callback(self._end)
        self.cluster.start()

    def _id(self, service: str) -> str:
        return _run(*self._base, "ps", "--quiet", "--all", service).strip()

    def _end(self) -> None:
        self.cluster.kill()
        for broker in self.brokers.values():
            shutil.copytree(broker.data_dir, self.root / f"broker-{broker.node_id}")
