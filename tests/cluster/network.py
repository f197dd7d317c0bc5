"""A network between brokers that loses packets where it is told to: a network namespace each, and a bridge.

What a cut loses is lost as in a broken switch: nothing is refused, nothing is closed, and what TCP still has
to say arrives when the cut heals. Needs Linux, root, and iproute2.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterable
from typing import Final

from raftlog.testing.processes import RAFTLOG

CLIENTS: Final = 0
"""Whoever is in no broker's namespace, as an end of a cut."""
NOWHERE: Final = "02:00:00:00:de:ad"
"""A hardware address that nobody has."""


def is_possible() -> bool:
    """Whether this process may make network namespaces."""
    return os.geteuid() == 0 and shutil.which("ip") is not None


class Network:
    """Namespaces for brokers 1 to `nodes`. A context manager that takes them down again."""

    def __init__(self, nodes: int) -> None:
        self._name = f"rl{os.getpid()}"
        self._subnet = f"10.77.{os.getpid() % 250}"
        self._brokers = range(1, nodes + 1)
        self._cuts: set[tuple[int, int]] = set()

    def __enter__(self) -> Network:
        try:
            _ip("link", "add", self._name, "type", "bridge")
            _ip("addr", "add", f"{self.host(CLIENTS)}/24", "dev", self._name)
            _ip("link", "set", self._name, "up")
            for broker in self._brokers:
                self._add(broker)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *exc: object) -> None:
        for broker in self._brokers:
            _ip("netns", "del", self.namespace(broker), check=False)
        _ip("link", "del", self._name, check=False)

    def _add(self, broker: int) -> None:
        space, outside = self.namespace(broker), f"{self._name}v{broker}"
        _ip("netns", "add", space)
        _ip("link", "add", outside, "type", "veth", "peer", "name", "eth0", "netns", space)
        _ip("link", "set", outside, "master", self._name, "up")
        _ip("-n", space, "addr", "add", f"{self.host(broker)}/24", "dev", "eth0")
        _ip("-n", space, "link", "set", "eth0", "up")
        _ip("-n", space, "link", "set", "lo", "up")

    def namespace(self, broker: int) -> str:
        return f"{self._name}n{broker}"

    def host(self, broker: int) -> str:
        return f"{self._subnet}.{broker + 1}"

    @property
    def hosts(self) -> dict[int, str]:
        return {broker: self.host(broker) for broker in self._brokers}

    @property
    def programs(self) -> dict[int, tuple[str, ...]]:
        """What runs raftlog in a broker's namespace."""
        return {broker: ("ip", "netns", "exec", self.namespace(broker), *RAFTLOG) for broker in self._brokers}

    def cut(self, sources: Iterable[int], targets: Iterable[int], *, both_ways: bool = True) -> None:
        """Lose every packet from `sources` to `targets`, and back."""
        targets = list(targets)
        for source in sources:
            for target in targets:
                self._lose(source, target)
                if both_ways:
                    self._lose(target, source)

    def heal(self) -> None:
        """Lose nothing any more."""
        while self._cuts:
            source, target = self._cuts.pop()
            self._neighbour(source, "del", self.host(target))

    def _lose(self, source: int, target: int) -> None:
        self._neighbour(source, "replace", self.host(target), "lladdr", NOWHERE, "nud", "permanent")
        self._cuts.add((source, target))

    def _neighbour(self, source: int, *arguments: str) -> None:
        """Where `source` believes that somebody is."""
        if source == CLIENTS:
            _ip("neigh", *arguments, "dev", self._name)
        else:
            _ip("-n", self.namespace(source), "neigh", *arguments, "dev", "eth0")


def _ip(*arguments: str, check: bool = True) -> None:
    subprocess.run(["ip", *arguments], check=check, capture_output=True, text=True)
