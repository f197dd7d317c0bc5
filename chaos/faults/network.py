"""Partitions that are real: each broker in a network namespace of its own, and nftables that drops packets.

What is dropped is dropped as in a broken switch: nothing is refused or closed, and what TCP still has to
say arrives after the end. Needs Linux, root, iproute2 and nftables. A rule lies where the packet arrives, or
where it leaves to the clients, who are in no namespace; it counts, so that a cut that lost nothing is told.
"""

from __future__ import annotations

import itertools
import json
import os
import shutil
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from chaos.faults.fault import CannotRun, Fault, NoEffect, ids

CLIENTS: Final = 0
"""Whoever is in no broker's namespace, as an end of a cut."""

TABLE: Final = "chaos"
BRIDGE: Final = "bridge"
Link = tuple[int, int]
"""From where, to where."""

_numbers = itertools.count()


def check_namespaces() -> None:
    """Raises CannotRun."""
    missing = [name for name in ("ip", "nft") if shutil.which(name) is None]
    if missing or os.geteuid() != 0:
        raise CannotRun("network namespaces need Linux, root, iproute2's ip and nftables' nft")


class Network:
    """Namespaces for brokers 1 to `nodes` on one bridge. A context manager that takes them down again.

    The bridge has a namespace of its own: on a machine with Docker, packets between ports of a bridge go
    through the machine's iptables, whose FORWARD drops them.
    """

    def __init__(self, nodes: int) -> None:
        number = next(_numbers)
        self._name = f"rc{os.getpid()}{chr(97 + number % 26)}"
        self._subnet = _free_subnet(78 + number % 26)
        self._brokers = range(1, nodes + 1)

    def __enter__(self) -> Network:
        try:
            _run("ip", "netns", "add", self._switch)
            _run("ip", "-n", self._switch, "link", "add", BRIDGE, "type", "bridge")
            _run("ip", "-n", self._switch, "link", "set", BRIDGE, "up")
            _run(
                "ip",
                "link",
                "add",
                self._name,
                "type",
                "veth",
                "peer",
                "name",
                "clients",
                "netns",
                self._switch,
            )
            _run("ip", "-n", self._switch, "link", "set", "clients", "master", BRIDGE, "up")
            _run("ip", "addr", "add", f"{self.host(CLIENTS)}/24", "dev", self._name)
            _run("ip", "link", "set", self._name, "up")
            for broker in self._brokers:
                self._add(broker)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *exc: object) -> None:
        for broker in self._brokers:
            _run("ip", "netns", "del", self._namespace(broker), check=False)
        _run("ip", "link", "del", self._name, check=False)
        _run("ip", "netns", "del", self._switch, check=False)

    def _add(self, broker: int) -> None:
        space, port = self._namespace(broker), f"broker{broker}"
        _run("ip", "netns", "add", space)
        _run(
            "ip",
            "-n",
            self._switch,
            "link",
            "add",
            port,
            "type",
            "veth",
            "peer",
            "name",
            "eth0",
            "netns",
            space,
        )
        _run("ip", "-n", self._switch, "link", "set", port, "master", BRIDGE, "up")
        _run("ip", "-n", space, "addr", "add", f"{self.host(broker)}/24", "dev", "eth0")
        _run("ip", "-n", space, "link", "set", "eth0", "up")
        _run("ip", "-n", space, "link", "set", "lo", "up")
        for chain in ("input", "output"):
            hook = f"{{ type filter hook {chain} priority 0 ; }}"
            self._nft(broker, f"add table inet {TABLE} ; add chain inet {TABLE} {chain} {hook}")

    @property
    def _switch(self) -> str:
        return f"{self._name}s"

    def _namespace(self, broker: int) -> str:
        return f"{self._name}n{broker}"

    def host(self, broker: int) -> str:
        return f"{self._subnet}.{broker + 1}"

    @property
    def hosts(self) -> dict[int, str]:
        return {broker: self.host(broker) for broker in self._brokers}

    @property
    def within(self) -> dict[int, tuple[str, ...]]:
        """What runs a command in a broker's namespace."""
        return {broker: ("ip", "netns", "exec", self._namespace(broker)) for broker in self._brokers}

    def lose(self, links: Iterable[Link]) -> None:
        """Drop every packet on these links, until `heal`."""
        for source, target in links:
            if target == CLIENTS:
                rule = f"output ip daddr {self.host(CLIENTS)}"
                broker = source
            else:
                rule = f"input ip saddr {self.host(source)}"
                broker = target
            self._nft(broker, f'add rule inet {TABLE} {rule} counter drop comment "{source}>{target}"')

    def heal(self) -> dict[Link, int]:
        """Drop nothing any more; how many packets each link has lost."""
        lost: dict[Link, int] = {}
        for broker in self._brokers:
            listed = json.loads(self._nft(broker, f"list table inet {TABLE}", "-j"))["nftables"]
            for rule in (one["rule"] for one in listed if "rule" in one):
                source, _, target = rule["comment"].partition(">")
                lost[int(source), int(target)] = _packets(rule)
            self._nft(broker, f"flush table inet {TABLE}")
        return lost

    def _nft(self, broker: int, command: str, *options: str) -> str:
        return _run("ip", "netns", "exec", self._namespace(broker), "nft", *options, command)


class Cut(Fault):
    """Links lose everything. `what` is said with the links that are meant, such as `1 | 2,3`."""

    kind = "cut"

    def __init__(self, network: Network, what: str, links: Iterable[Link]) -> None:
        self._links = sorted(set(links))
        super().__init__(f"cut {what}", sorted({end for link in self._links for end in link} - {CLIENTS}))
        self._network = network

    def begin(self) -> None:
        self._network.lose(self._links)

    def end(self) -> str:
        return self.judge(self._network.heal())

    def judge(self, lost: Mapping[Link, int]) -> str:
        """Whether packets were lost wherever they should be."""
        # Whether a client sends a broker anything is up to the client. Of two brokers one dials the other, so
        # that where both ways are cut, packets may be lost on one of them only.
        idle = [
            link
            for link in self._links
            if not lost.get(link) and not lost.get(link[::-1]) and CLIENTS not in link
        ]
        if idle or not sum(lost.values()):
            raise NoEffect(f"no packet was lost on {idle or self._links}")
        return f"{sum(lost.values())} packets lost on {len(lost)} one-way links"


class Flap(Cut):
    """A cut that goes off and on while it lasts."""

    kind = "flap"

    def __init__(self, network: Network, what: str, links: Iterable[Link]) -> None:
        super().__init__(network, what, links)
        self.what = f"flap {what}"
        self._lost: dict[Link, int] = {}

    def off(self) -> None:
        """Carry again, for now."""
        for link, count in self._network.heal().items():
            self._lost[link] = self._lost.get(link, 0) + count

    def end(self) -> str:
        self.off()
        return self.judge(self._lost)


class CreepingCut(Cut):
    """Links to one after the other are lost, and all come back at once. What was sent on the first of them
    lies in the kernel meanwhile, and arrives behind what the others have done since."""

    kind = "creeping"

    def __init__(self, network: Network, ones: Sequence[int], others: Sequence[Sequence[int]]) -> None:
        self._steps = [both_ways(ones, each) for each in others]
        super().__init__(network, "", [link for step in self._steps for link in step])
        self.what = f"cut {names(ones)} | {', then '.join(map(names, others))}"

    def begin(self) -> None:
        self.spread()

    def spread(self) -> None:
        """Lose the links of the next step, too."""
        self._network.lose(self._steps.pop(0))


def both_ways(ones: Sequence[int], others: Sequence[int]) -> list[Link]:
    return [link for one in ones for other in others for link in ((one, other), (other, one))]


def apart(network: Network, ones: Sequence[int], others: Sequence[int]) -> Cut:
    """Nothing passes between two sides."""
    return Cut(network, f"{names(ones)} | {names(others)}", both_ways(ones, others))


def one_way(network: Network, sources: Sequence[int], targets: Sequence[int]) -> Cut:
    """Nothing passes from `sources` to `targets`."""
    links = [(source, target) for source in sources for target in targets]
    return Cut(network, f"{names(sources)} -> {names(targets)} one way", links)


def _free_subnet(second: int) -> str:
    """The beginning of addresses that no other run on this machine has."""
    routes = _run("ip", "route", "show")
    first = os.getpid() % 250
    for third in (*range(first, 250), *range(first)):
        if f"10.{second}.{third}.0/" not in routes:
            return f"10.{second}.{third}"
    raise CannotRun(f"all networks 10.{second}.* are taken: ip link shows whose they are")


def names(brokers: Sequence[int]) -> str:
    """As ids, with the clients by name."""
    real = ids([one for one in brokers if one != CLIENTS])
    return ",".join(filter(None, (real, "clients" if CLIENTS in brokers else "")))


def _packets(rule: Mapping[str, Any]) -> int:
    return sum(part["counter"]["packets"] for part in rule["expr"] if "counter" in part)


def _run(*command: str, check: bool = True) -> str:
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=30)
    if check and done.returncode != 0:
        raise NoEffect(f"{' '.join(command)}: {done.stderr.strip()}")
    return done.stdout
