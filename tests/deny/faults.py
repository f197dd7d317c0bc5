"""What happens to brokers meanwhile. Each fault meets a change: it holds the administrator, is there for a
moment, and lets the change begin."""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, suppress
from typing import Final

import trio

from raftlog.testing.broker import BrokerFailed, EmbeddedBroker
from raftlog.testing.cluster import EmbeddedCluster
from raftlog.types import BrokerId
from tests.deny.clocks import set_clock
from tests.deny.cue import Cue
from tests.deny.late import weather_at

CHANGE_OVER_S: Final = 6.0
"""A change that meets a fault takes as long as a lease."""
OTHERS_BETWEEN: Final = 3
"""Faults of other kinds to those that a lease is for."""
ASKS_WITHIN_S: Final = 5.0
"""A broker renews its lease twice a second, if it is answered; a busy machine answers too late at times."""
LATE_MAX_S: Final = 0.9
"""An answer that takes a second is awaited no more, and a busy machine takes its part of that."""


class Faults:
    """Goes through all kinds in turn, each time in another order. Those that a lease is for come again and
    again in between, so that half a minute has each of them."""

    def __init__(self, cluster: EmbeddedCluster, cue: Cue, rng: random.Random) -> None:
        self.cluster, self.rng = cluster, rng
        self.done: Counter[str] = Counter()
        self._cue = cue
        self._next: list[str] = []
        self._hand: list[str] = []

    def one(self) -> None:
        """Something goes wrong for a while, longer or shorter than a lease, and is right again."""
        kind = self._kind()
        broker = self._broker(kind)
        self._cue.hold()
        self._cue.avoided = broker.port
        try:
            with KINDS[kind](self, broker):
                self._meet(kind)
        finally:
            self._cue.avoided = None
            self._cue.release()
        self.done[kind] += 1

    def _kind(self) -> str:
        if not self._hand:
            if len(self._next) < OTHERS_BETWEEN:
                self._next += self.rng.sample(sorted(KINDS.keys() - PROMPT), len(KINDS) - len(PROMPT))
            others, self._next = self._next[:OTHERS_BETWEEN], self._next[OTHERS_BETWEEN:]
            self._hand = self.rng.sample([*OFTEN, *others], len(OFTEN) + len(others))
        return self._hand.pop()

    def _meet(self, kind: str) -> None:
        """While the fault is there."""
        rng = self.rng
        if kind in PROMPT or rng.random() < 0.5:
            time.sleep(0.0 if kind in PROMPT else rng.uniform(0.0, 1.0))
            with self._cue.until_over(CHANGE_OVER_S):
                self._cue.release()
            time.sleep(rng.uniform(0.2, 1.0))
        else:
            self._cue.release()
            time.sleep(rng.uniform(0.2, 2.0) if rng.random() < 0.7 else rng.uniform(2.0, 8.0))

    def _broker(self, kind: str) -> EmbeddedBroker:
        """Most who hear late are no leader: its lease does not rest on an answer."""
        brokers = self.cluster.brokers
        if kind == "late and cut" and self.rng.random() < 0.8:
            brokers = [each for each in brokers if not _leads(each)] or brokers
        return self.rng.choice(brokers)


def _leads(broker: EmbeddedBroker) -> bool:
    """Whether it leads the metadata, as far as it knows."""
    return broker.inside.metadata.is_ready


@contextmanager
def _pause(faults: Faults, broker: EmbeddedBroker) -> Iterator[None]:
    broker.pause()
    yield
    broker.resume()


@contextmanager
def _isolate(faults: Faults, broker: EmbeddedBroker) -> Iterator[None]:
    faults.cluster.faults.isolate(broker)
    yield
    faults.cluster.faults.heal()


@contextmanager
def _cut(faults: Faults, broker: EmbeddedBroker) -> Iterator[None]:
    """One way between two, and only one of them loses what comes and goes."""
    other = faults.rng.choice([each for each in faults.cluster.brokers if each is not broker])
    broker.cut(frozenset({BrokerId(other.id)}))
    yield
    faults.cluster.faults.heal()


@contextmanager
def _break(faults: Faults, broker: EmbeddedBroker) -> Iterator[None]:
    """All see at once that it is gone."""
    networks = [each.network for each in faults.cluster.brokers]
    for network in networks:
        weather_at(network).breaks = True
    with _isolate(faults, broker):
        for network in networks:
            weather_at(network).breaks = False
        yield


@contextmanager
def _deaf(faults: Faults, broker: EmbeddedBroker) -> Iterator[None]:
    """It is heard, and hears nobody."""
    weather_at(broker.network).deaf = True
    yield
    _clear(faults, broker)


@contextmanager
def _mute(faults: Faults, broker: EmbeddedBroker) -> Iterator[None]:
    """It hears, and nobody hears it."""
    weather_at(broker.network).mute = True
    yield
    _clear(faults, broker)


def _clear(faults: Faults, broker: EmbeddedBroker) -> None:
    """Connections that have lost something end."""
    faults.cluster.faults.isolate(broker)
    weather = weather_at(broker.network)
    weather.deaf = weather.mute = False
    weather.delay = 0.0
    faults.cluster.faults.heal()


@contextmanager
def _late(faults: Faults, broker: EmbeddedBroker) -> Iterator[None]:
    weather_at(broker.network).delay = faults.rng.uniform(0.2, 4.0)
    yield
    weather_at(broker.network).delay = 0.0


@contextmanager
def _late_and_cut(faults: Faults, broker: EmbeddedBroker) -> Iterator[None]:
    """What it has just asked is answered, late; nothing that is said after reaches it."""
    weather = weather_at(broker.network)
    weather.delay = faults.rng.uniform(0.75, LATE_MAX_S)
    time.sleep(weather.delay + 0.6)  # until all that it waits for was asked meanwhile
    weather.answered.clear()
    weather.watched = True
    weather.answered.wait(ASKS_WITHIN_S)
    weather.watched = False
    weather.deaf = weather.mute = True
    yield
    _clear(faults, broker)


@contextmanager
def _slow_disk(faults: Faults, broker: EmbeddedBroker) -> Iterator[None]:
    broker.disk.slow_down(faults.rng.uniform(0.1, 2.0))
    yield
    broker.disk.slow_down(0)


@contextmanager
def _hand_over(faults: Faults, broker: EmbeddedBroker) -> Iterator[None]:
    """Whatever another broker leads, this one is to lead, the metadata too."""
    for other in faults.cluster.brokers:
        if other is not broker:
            other.call(_give_all, other, BrokerId(broker.id))
    yield


async def _give_all(broker: EmbeddedBroker, to: BrokerId) -> None:
    for group in list(broker.inside.driver.groups.values()):
        if group.is_leader:
            group.leading.transfer(to, trio.current_time())


@contextmanager
def _clock(faults: Faults, broker: EmbeddedBroker) -> Iterator[None]:
    set_clock(broker.id, faults.rng.choice((-1, 1)) * faults.rng.choice((5.0, 3600.0, 86400.0)))
    yield
    set_clock(broker.id, 0.0)


@contextmanager
def _kill(faults: Faults, broker: EmbeddedBroker) -> Iterator[None]:
    """It is started again before the change begins, or when it is over."""
    with suppress(BrokerFailed):
        broker.kill()
    starts_first = faults.rng.random() < 0.5
    if starts_first:
        faults.cluster.start(broker)
    yield
    if not starts_first:
        faults.cluster.start(broker)
    faults.cluster.wait_ready()


KINDS: Final[Mapping[str, Callable[[Faults, EmbeddedBroker], AbstractContextManager[None]]]] = {
    "pause": _pause,
    "isolate": _isolate,
    "cut": _cut,
    "break": _break,
    "deaf": _deaf,
    "mute": _mute,
    "late": _late,
    "late and cut": _late_and_cut,
    "slow disk": _slow_disk,
    "hand over": _hand_over,
    "clock": _clock,
    "kill": _kill,
}
OFTEN: Final = ("break", "late and cut", "late and cut")
"""Those that a lease is for. The second takes an answer that comes at the right moment."""
PROMPT: Final = frozenset(OFTEN)
"""A change meets them while a lease from before lasts."""
