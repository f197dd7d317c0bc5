"""The connections of a simulated broker to its peers, in the place of `raftlog.transport.links.Links`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from raftlog.raft.messages import Message
from raftlog.transport.lanes import Lane
from raftlog.transport.links import Address, Links
from raftlog.types import BrokerId


class SimLinks(Links):
    """The connections of one broker, as far as its parts ask for them. The simulation says who is connected,
    and carries what is sent, or loses it."""

    def __init__(
        self,
        broker_id: BrokerId,
        *,
        on_connected: Callable[[BrokerId], None],
        on_disconnected: Callable[[BrokerId], None],
        on_note: Callable[[BrokerId, bytes], None],
        send_raft: Callable[[BrokerId, Any], None],
        send_note: Callable[[BrokerId, bytes], None],
        **others: object,
    ) -> None:
        self.broker_id, self.on_note = broker_id, on_note
        self._connected: set[BrokerId] = set()
        self.removed_by = set()
        self._tell_connected, self._tell_disconnected = on_connected, on_disconnected
        self._send_raft, self._send_note = send_raft, send_note

    async def run(self, listeners: Sequence[Any]) -> None:
        """Nothing is dialled: see `connect`."""

    def tell_removed(self, was_removed: Callable[[BrokerId], bool]) -> None:
        """Nobody is greeted here."""

    def set_peers(self, peers: Mapping[BrokerId, Sequence[Address]]) -> None:
        pass

    def send(self, to: BrokerId, messages: Sequence[Message]) -> None:
        self._send_raft(to, messages)

    def send_note(self, to: BrokerId, body: bytes, *, lane: Lane = Lane.URGENT) -> bool:
        if to in self._connected:
            self._send_note(to, body)
        return to in self._connected

    def is_connected(self, peer: BrokerId) -> bool:
        return peer in self._connected

    def process_of(self, peer: BrokerId) -> bytes | None:
        return None

    def connect(self, peer: BrokerId) -> None:
        """There is a connection with a process of the peer, in the place of any before."""
        self.disconnect(peer)
        self._connected.add(peer)
        self._tell_connected(peer)

    def disconnect(self, peer: BrokerId) -> None:
        if peer in self._connected:
            self._connected.remove(peer)
            self._tell_disconnected(peer)
