"""Which brokers are alive, as the metadata leader sees it.

Every broker tells the others twice a second that it lives. One that has been silent for the
session time-out is fenced: it is given nothing new, and clients are not sent to it. Fencing moves no
leadership; the groups see to that themselves, and faster.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from raftlog.metadata.brokers import FenceBroker
from raftlog.metadata.catalog import BrokerInfo
from raftlog.types import BrokerId

ALIVE_INTERVAL: Final = 0.5
"""Seconds between two signs of life."""
NEVER: Final = float("-inf")


class Liveness:
    """Decides whom to fence and whom to take back. Time is seconds on a monotonic clock."""

    def __init__(self, session_timeout: float) -> None:
        self._session_timeout = session_timeout
        self._heard: dict[tuple[BrokerId, bytes], float] = {}  # by broker and start of its process

    def take_office(self) -> None:
        """This broker leads the metadata group from now on: everyone has a session time-out to report."""
        self._heard.clear()

    def heard(self, broker: BrokerId, incarnation: bytes, now: float) -> None:
        """A sign of life of one start of a broker."""
        self._heard[broker, incarnation] = now

    def tick(self, brokers: Mapping[BrokerId, BrokerInfo], now: float) -> list[FenceBroker]:
        """The commands that make the catalog agree with what was heard; the same again, until they are
        applied."""
        known = {(broker.id, broker.incarnation) for broker in brokers.values()}
        for stranger in [start for start in self._heard if start not in known]:
            del self._heard[stranger]
        commands = []
        for broker in brokers.values():
            start = (broker.id, broker.incarnation)
            if not broker.fenced:
                if now - self._heard.setdefault(start, now) > self._session_timeout:
                    commands.append(_fence(broker, True))
            elif now - self._heard.get(start, NEVER) <= self._session_timeout:
                commands.append(_fence(broker, False))
        return commands


def _fence(broker: BrokerInfo, fenced: bool) -> FenceBroker:
    return FenceBroker(broker_id=broker.id, incarnation=broker.incarnation, fenced=fenced)
