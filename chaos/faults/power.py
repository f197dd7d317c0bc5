"""Power loss: a process is killed, and what it had not synced is gone."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from chaos.faults.processes import Brokers, Kill
from raftlog.testing.power import lose_power

TORN: Final = 0.5
"""How often a disk was at work when the power went, and has some of what it was writing."""
SHOWN_MAX: Final = 2


class PowerLoss(Kill):
    """For brokers whose disks keep a journal (`raftlog.testing.power`)."""

    kind = "power"

    def __init__(
        self, brokers: Brokers, journals: Mapping[int, Path], victims: Sequence[int], rng: random.Random
    ) -> None:
        super().__init__(brokers, victims)
        self.what = f"power loss of {','.join(map(str, self.brokers))}"
        self._journals = journals
        self._rng = rng
        self._lost: list[str] = []

    def begin(self) -> None:
        super().begin()
        for broker in self._victims:
            rng = self._rng if self._rng.random() < TORN else None
            self._lost += lose_power(self._journals[broker.node_id], broker.data_dir, rng)

    def end(self) -> str:
        started = super().end()
        some = "; ".join(self._lost[:SHOWN_MAX]) or "all was synced"
        return f"{len(self._lost)} changes were not durable ({some}); {started}"
