"""A network that delivers twice (`raftlog.testing.repeats`)."""

from __future__ import annotations

from collections.abc import Mapping

from chaos.faults.fault import Fault, NoEffect
from raftlog.testing.repeats import Repeats


class Repeated(Fault):
    """Of what brokers send each other, some comes again, at once or late."""

    kind = "repeat"

    def __init__(self, networks: Mapping[int, Repeats], share: float, late_s: float) -> None:
        super().__init__(f"{share:.0%} comes again, up to {late_s:.1f} s late", list(networks))
        self._networks, self._share, self._late_s = networks, share, late_s
        self._before = 0

    def begin(self) -> None:
        self._before = self._count()
        for network in self._networks.values():
            network.change(self._share, self._late_s)

    def end(self) -> str:
        for network in self._networks.values():
            network.change(0, 0)
        count = self._count() - self._before
        if not count:
            raise NoEffect("nothing came again")
        return f"{count} frames came again"

    def _count(self) -> int:
        return sum(network.count() for network in self._networks.values())
