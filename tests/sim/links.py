"""The network between brokers: connections that delay, lose, repeat, overtake, break, and are cut.

A packet is what one turn sends to one peer. Between two brokers there is one connection; on it packets keep
their order, unless the weather says otherwise. A cut direction holds packets back, as TCP does, and lets some
of them go when it heals: that is how messages become old. A reset loses what is under way, or lets it arrive
beside what the next connection brings.

It knows addresses and packets, not what they mean. A packet for a process that has ended meanwhile is lost,
and so is one of a process whose successor has been heard.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

from raftlog.types import BrokerId
from tests.sim.world import World

HELD_MAX: Final = 400
"""Packets that a cut direction holds back; beyond it the sender's queue is full, and drops."""

SHORTLY: Final = 0.02
"""Seconds: the other copy of a packet that still finds what the first one found."""

Deliver = Callable[[BrokerId, Any], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Weather:
    """What the network does to packets. Delays in seconds, the rest are probabilities of a packet."""

    delay_min: float = 0.0002
    delay_max: float = 0.002
    loss: float = 0.0
    repeat: float = 0.0
    overtake: float = 0.0
    """Ignores the order on its connection."""
    late: float = 0.0
    late_max: float = 4.0
    """Arrives shortly after its time, or up to so many seconds late, beside the others."""


CALM: Final = Weather()


class Links:
    """All connections between all brokers."""

    def __init__(self, world: World, rng: random.Random) -> None:
        self.weather = CALM
        self.packets = 0
        self.lost = 0
        self._world, self._rng = world, rng
        self._cut: set[tuple[int, int]] = set()
        self._held: dict[tuple[int, int], list[Callable[[], None]]] = {}
        self._last_arrival: dict[tuple[int, int], float] = {}
        self._connection: dict[tuple[int, int], int] = {}
        self._ends: dict[int, tuple[int, Deliver]] = {}
        self._lives: dict[tuple[int, int], int] = {}

    def attach(self, broker: int, life: int, deliver: Deliver) -> None:
        """A process of `broker` takes packets from now on."""
        self._ends[broker] = (life, deliver)

    def detach(self, broker: int) -> None:
        self._ends.pop(broker, None)

    def is_cut(self, sender: int, receiver: int) -> bool:
        return (sender, receiver) in self._cut

    # Faults

    def cut(self, sender: int, receiver: int) -> None:
        """Nothing arrives in this direction until `heal`."""
        self._cut.add((sender, receiver))

    def heal(self) -> None:
        """All directions carry again; of what was held back some arrives now, in order."""
        for direction in sorted(self._held):
            packets = self._held[direction]
            if self._rng.random() < 0.5:
                packets = packets[self._rng.randint(0, len(packets)) :]
            for send in packets:
                send()
        self._held.clear()
        self._cut.clear()

    def reset(self, one: int, other: int) -> None:
        """The connection between two brokers breaks, and there is another one."""
        survives = self._rng.random() < self.weather.overtake
        for direction in ((one, other), (other, one)):
            if not survives:
                self._connection[direction] = self._connection.get(direction, 0) + 1
            self._last_arrival.pop(direction, None)
            self._held.pop(direction, None)

    # Traffic

    def send(self, sender: int, life: int, receiver: int, packet: Any) -> None:
        direction = (sender, receiver)
        end = self._ends.get(receiver)
        self.packets += 1
        if end is None:
            self.lost += 1
            return
        addressee = end[0]
        if direction in self._cut:
            held = self._held.setdefault(direction, [])
            if len(held) < HELD_MAX:
                held.append(partial(self._transmit, sender, life, receiver, addressee, packet))
            return
        self._transmit(sender, life, receiver, addressee, packet)

    def _transmit(self, sender: int, life: int, receiver: int, addressee: int, packet: Any) -> None:
        rng, weather = self._rng, self.weather
        copies = 1
        if weather is not CALM:
            if rng.random() < weather.loss:
                self.lost += 1
                return
            if rng.random() < weather.repeat:
                copies = 2
        direction = (sender, receiver)
        connection = self._connection.get(direction, 0)
        for copy in range(copies):
            when = self._world.now + rng.uniform(weather.delay_min, weather.delay_max)
            if copy or (weather.late and rng.random() < weather.late):
                when += rng.uniform(0.0, rng.choice((SHORTLY, weather.late_max)))
            elif not weather.overtake or rng.random() >= weather.overtake:
                when = max(when, self._last_arrival.get(direction, 0.0))
                self._last_arrival[direction] = when
            arrival = partial(self._arrive, sender, life, receiver, addressee, connection, packet)
            self._world.at(when, arrival)

    def _arrive(
        self, sender: int, life: int, receiver: int, addressee: int, connection: int, packet: Any
    ) -> None:
        direction = (sender, receiver)
        end = self._ends.get(receiver)
        newest = self._lives.get(direction, 0)
        stale = end is None or end[0] != addressee or life < newest
        if stale or direction in self._cut or connection != self._connection.get(direction, 0):
            self.lost += 1
            return
        assert end is not None
        self._lives[direction] = life
        self._world.note(f"{sender}>{receiver}")
        end[1](BrokerId(sender), packet)
