"""The stage: brokers as a user would start them, and the places where faults can reach them.

What a scenario wants of it is a `Wants`; what this machine lacks for that is said before anything starts.
"""

from __future__ import annotations

import json
import random
import subprocess
import sys
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Final

from chaos.access import Access, check_secured
from chaos.faults.disk import check_mounts, check_strace, mount_small, unmount
from chaos.faults.fault import CannotRun
from chaos.faults.network import Network, check_namespaces
from chaos.faults.power import PowerLoss
from chaos.faults.toxiproxy import Toxiproxy, server_path
from raftlog.testing.clock import Clock
from raftlog.testing.processes import RAFTLOG, BrokerProcess, ClusterProcesses, free_port
from raftlog.testing.repeats import Repeats
from raftlog.testing.security import AUTHORIZED, TestSecurity, allow_everything

TESTING: Final = (sys.executable, "-m", "raftlog.testing.serve")
COMMAND_TIMEOUT_S: Final = 180.0


class Links(Enum):
    """What connects brokers with each other and with their clients."""

    PLAIN = "127.0.0.1"
    NAMESPACES = "network namespaces"
    PROXIES = "Toxiproxy"


@dataclass(frozen=True, slots=True, kw_only=True)
class Wants:
    """What a scenario needs. `sync_delay`: seconds that each sync takes longer, of disks that lose power.
    `disk_bytes`: of a file system of its own for each broker; 0 for none."""

    brokers: int = 3
    links: Links = Links.PLAIN
    loses_power: bool = False
    sync_delay: float = 0.0
    disk_bytes: int = 0
    clocks: bool = False
    repeats: bool = False
    strace: bool = False
    options: Mapping[str, object] = field(default_factory=dict)

    def check(self) -> None:
        """Raises CannotRun when this machine lacks something, with what it is."""
        if self.links is Links.NAMESPACES:
            check_namespaces()
        if self.links is Links.PROXIES:
            server_path()
        if self.disk_bytes:
            check_mounts()
        if self.strace:
            check_strace()


class CommandFailed(Exception):
    """`raftlog …` did not end with 0; the message is what it said."""


class Stage:
    """Running brokers. A context manager that ends them, and takes down what they stood on."""

    def __init__(
        self, root: Path, wants: Wants, *, plant: str = "", secured: bool = False, rng: random.Random
    ) -> None:
        """`secured`: clients log in, in TLS, and do what rules allow; brokers know each other by a secret."""
        self.root = root
        self.wants = wants
        self.rng = rng
        self._plant = plant
        self._is_secured = secured
        self._security: TestSecurity | None = None
        self._stack = ExitStack()
        self.network: Network | None = None
        self.proxies: Toxiproxy | None = None
        self.clocks: dict[int, Clock] = {}
        """By broker, when the scenario moves them."""
        self.repeats: dict[int, Repeats] = {}
        """By broker, when what it is sent may come again."""
        self._advertised: dict[int, str] = {}
        self.journals = {broker: root / f"journal-{broker}" for broker in range(1, wants.brokers + 1)}

    def __enter__(self) -> Stage:
        self._check()
        self.root.mkdir(parents=True, exist_ok=True)
        try:
            self._open()
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(self, *exc: object) -> None:
        self._stack.close()

    def _check(self) -> None:
        self.wants.check()
        if self._is_secured:
            check_secured()

    def _open(self) -> None:
        wants, within = self.wants, dict[int, tuple[str, ...]]()
        if wants.links is Links.NAMESPACES:
            self.network = self._stack.enter_context(Network(wants.brokers))
            within = self.network.within
        if wants.clocks:
            self.clocks = {broker: Clock(self.root / f"clock-{broker}") for broker in self.journals}
        if wants.repeats:
            self.repeats = {broker: Repeats(self.root / f"repeats-{broker}") for broker in self.journals}
        hosts = self.network.hosts if self.network else {}
        if self._is_secured:
            self._security = TestSecurity(self.root / "security", list(hosts.values()))
        self.cluster = ClusterProcesses(
            self.root,
            wants.brokers,
            options={**wants.options, **(AUTHORIZED if self._security else {})},
            arguments=("-v",),
            hosts=hosts,
            programs={broker: (*within.get(broker, ()), *self._program(broker)) for broker in self.journals},
            security=self._security,
        )
        if wants.disk_bytes:
            self._give_small_disks(wants.disk_bytes)
        if wants.links is Links.PROXIES:
            self.proxies = self._stack.enter_context(Toxiproxy(self.root))
            self._put_proxies_between(self.proxies)
        self._stack.callback(self.cluster.kill)
        self.cluster.start()
        if self._security is not None:
            allow_everything(self.access.bootstrap, self._security)

    def _program(self, broker: int) -> tuple[str, ...]:
        arguments: list[str] = []
        if self.wants.loses_power:
            arguments += ["--journal", str(self.journals[broker])]
            arguments += ["--sync-delay", str(self.wants.sync_delay)]
        if self.wants.clocks:
            arguments += ["--clock", str(self.clocks[broker].path)]
        if self.wants.repeats:
            arguments += ["--repeats", str(self.repeats[broker].path)]
        if self._plant:
            arguments += ["--plant", self._plant]
        return (*TESTING, *arguments) if arguments else RAFTLOG

    def _give_small_disks(self, size: int) -> None:
        for broker in self.brokers.values():
            disk = self.root / f"disk-{broker.node_id}"
            self._stack.callback(unmount, [disk])
            mount_small(disk, size)
            broker.data_dir = disk / "data"

    def _put_proxies_between(self, proxies: Toxiproxy) -> None:
        """Every broker dials every other through a proxy of its own, and clients all of them.

        What a broker says of its own address is where nobody listens: else the others would dial it there,
        past their proxies, as soon as they have heard of it.
        """
        addresses = dict(one.split("@") for one in _argument(self.brokers[1], "--peers").split(","))
        for broker in self.brokers.values():
            own = str(broker.node_id)
            peers = {
                other: address if other == own else proxies.add(f"{own}-{other}", address)
                for other, address in addresses.items()
            }
            listed = ",".join(f"{other}@{address}" for other, address in peers.items())
            advertised = proxies.add(f"clients-{own}", broker.bootstrap)
            arguments = list(broker.arguments)
            arguments[arguments.index("--peers") + 1] = listed
            nowhere = f"raftlog.peer.advertise={broker.host}:{free_port()}"
            broker.arguments = (*arguments, "-o", nowhere)
            broker.options["advertised.listeners"] = self._listener(advertised)
            self._advertised[broker.node_id] = advertised

    def _listener(self, address: str) -> str:
        """As brokers are told of it."""
        return self._security.listener(address) if self._security else f"PLAINTEXT://{address}"

    # What there is

    @property
    def brokers(self) -> dict[int, BrokerProcess]:
        return self.cluster.brokers

    def pids(self) -> dict[int, int]:
        """Of the brokers that run, by id."""
        return {node_id: broker.pid for node_id, broker in list(self.brokers.items()) if broker.is_running}

    @property
    def access(self) -> Access:
        """How clients reach all brokers."""
        return Access(",".join(self.address(broker) for broker in self.brokers), self._security)

    def address(self, broker: int) -> str:
        """Where clients reach a broker."""
        return self._advertised.get(broker) or self.brokers[broker].bootstrap

    def memory(self) -> dict[int, int]:
        """Bytes of each broker that runs."""
        return {one.node_id: one.memory_bytes() for one in self.brokers.values() if one.is_running}

    def power_loss(self, victims: list[int]) -> PowerLoss:
        return PowerLoss(self.brokers, self.journals, victims, self.rng)

    def raftlog(self, *arguments: str) -> str:
        """What `raftlog …` prints on stdout. Raises CommandFailed."""
        command = [sys.executable, "-m", "raftlog", *arguments]
        done = subprocess.run(command, capture_output=True, text=True, timeout=COMMAND_TIMEOUT_S, check=False)
        if done.returncode != 0:
            raise CommandFailed(f"raftlog {' '.join(arguments)}: {done.stdout[-500:]}{done.stderr[-500:]}")
        return done.stdout

    def findings(self, data_dir: Path) -> list[str]:
        """What `raftlog log verify` says is wrong on the disk of a broker that does not run."""
        command = [sys.executable, "-m", "raftlog", "log", "verify", str(data_dir), "--format", "json"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=COMMAND_TIMEOUT_S, check=False)
        if done.returncode == 0:
            return []
        try:
            said = json.loads(done.stdout)
        except ValueError:
            return [done.stderr.strip() or done.stdout.strip()]
        return [str(one) for one in said.get("findings", [said])]


def _argument(broker: BrokerProcess, name: str) -> str:
    return broker.arguments[broker.arguments.index(name) + 1]


__all__ = ["CannotRun", "CommandFailed", "Links", "Stage", "Wants"]
