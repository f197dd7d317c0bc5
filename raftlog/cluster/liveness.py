"""Which brokers are alive, as the metadata leader sees it.

Every broker tells the metadata leader twice a second that it lives. One that has been silent for the
session time-out is fenced: it is given nothing new, and clients are not sent to it. Fencing moves no
leadership; the groups see to that themselves, and faster.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from raftlog.metadata.catalog import BrokerInfo
from raftlog.metadata.commands import FenceBroker
from raftlog.types import BrokerId

ALIVE_INTERVAL: Final = 0.5
"""Seconds between two signs of life."""


class Liveness:
    """Decides whom to fence and whom to take back. Time is seconds on a monotonic clock."""

    def __init__(self, session_timeout: float) -> None:
        self._session_timeout = session_timeout
        self._heard: dict[BrokerId, tuple[bytes, float]] = {}
        self._since = float("-inf")

    def take_office(self, now: float) -> None:
        """This broker leads the metadata group from now on: everyone has a session time-out to report."""
        self._heard.clear()
        self._since = now

    def heard(self, broker: BrokerId, incarnation: bytes, now: float) -> None:
        """A sign of life of one start of a broker."""
        self._heard[broker] = (incarnation, now)

    def tick(self, brokers: Mapping[BrokerId, BrokerInfo], now: float) -> list[FenceBroker]:
        """The commands that make the catalog agree with what was heard."""
        commands = []
        for broker in brokers.values():
            incarnation, at = self._heard.get(broker.id, (broker.incarnation, self._since))
            is_alive = incarnation == broker.incarnation and now - at <= self._session_timeout
            if is_alive and broker.fenced and broker.id not in self._heard:
                continue  # silent since this leader took office: no reason to take it back
            if is_alive == broker.fenced:
                commands.append(
                    FenceBroker(broker_id=broker.id, incarnation=broker.incarnation, fenced=not is_alive)
                )
        return commands
