"""What clients use at one broker, told to the others: they will come there, too, when this one ends."""

from __future__ import annotations

from typing import Any

from raftlog.cluster.calls import Reply
from raftlog.cluster.front import Front
from raftlog.cluster.peers import Peers
from raftlog.errors import InvalidInput
from raftlog.types import BrokerId


class SpokenNews:
    """Said once to every peer that connects."""

    def __init__(self, front: Front, peers: Peers) -> None:
        self._front = front
        self._peers = peers
        peers.calls.serve("spoken", self._on_spoken)
        peers.watch(connected=self._connected)

    def _connected(self, peer: BrokerId) -> None:
        if spoken := self._front.spoken():
            self._peers.calls.tell(peer, "spoken", spoken)

    def _on_spoken(self, sender: BrokerId, body: Any, reply: Reply) -> None:
        spoken = []
        for row in body if isinstance(body, list) else [body]:
            match row:
                case [int(api), int(version)]:
                    spoken.append((api, version))
                case _:
                    raise InvalidInput(f"clients of broker {sender} speak {row!r}")
        self._front.on_spoken(spoken)
