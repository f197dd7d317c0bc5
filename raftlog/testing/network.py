"""The network between one embedded broker and its peers, which can lose what goes over it.

It loses as a network does that drops: nobody is told, and the connections stay. Those in which bytes could
be missing break when the network heals, as TCP's do at last.
"""

from __future__ import annotations

from collections.abc import Awaitable, Sequence

from raftlog.net.stream import Buffer, FileRange, Stream
from raftlog.types import BrokerId


class Network:
    """What lies between one broker and the others, over all its lives. For the thread of its event loop."""

    def __init__(self) -> None:
        self._cut: frozenset[BrokerId] = frozenset()
        self._ways: dict[BrokerId, Way] = {}

    def __repr__(self) -> str:
        return f"<Network without {sorted(self._cut)}>"

    def through(self, peer: BrokerId, stream: Stream) -> Stream:
        """A connection with a peer; see `Links.through`."""
        if peer in self._cut:
            raise OSError("cut off")
        way = self._ways[peer] = Way(self, peer, stream)
        return way

    def is_cut(self, peer: BrokerId) -> bool:
        return peer in self._cut

    def cut(self, peers: frozenset[BrokerId]) -> None:
        """Lose what goes to these peers or comes from them; the others are reached again."""
        healed, self._cut = self._cut - peers, peers
        for peer in healed & self._ways.keys():
            self._ways.pop(peer).shut_down()


class Way:
    """A stream to one peer that is passed on, or lost."""

    def __init__(self, network: Network, peer: BrokerId, stream: Stream) -> None:
        self._network = network
        self._peer = peer
        self._stream = stream
        self.peer_host = stream.peer_host

    def readable(self) -> Awaitable[None]:
        return self._stream.readable()

    def receive_into(self, buffer: memoryview) -> int:
        count = self._stream.receive_into(buffer)
        if count and self._network.is_cut(self._peer):
            raise BlockingIOError
        return count

    def writable(self) -> Awaitable[None]:
        return self._stream.writable()

    def send(self, buffers: Sequence[Buffer]) -> int:
        if self._network.is_cut(self._peer):
            return sum(map(len, buffers))
        return self._stream.send(buffers)

    def send_file(self, part: FileRange) -> int:
        return part.length if self._network.is_cut(self._peer) else self._stream.send_file(part)

    def shut_down(self) -> None:
        self._stream.shut_down()

    def close(self) -> None:
        self._stream.close()
