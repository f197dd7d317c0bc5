"""The way to one peer, connected or not, and what has yet to be sent over it."""

from __future__ import annotations

import trio

from raftlog.net.sending import UNBOUNDED, SendQueue
from raftlog.net.stream import Stream
from raftlog.transport.lanes import PIECE_BYTES, Lane, Outflow
from raftlog.transport.wire import Buffers
from raftlog.types import BrokerId


class Connection:
    """One connection with a peer. Frames wait in their lanes, and what nothing may pass in the queue."""

    def __init__(self, stream: Stream, *, in_pieces: bool) -> None:
        self.stream = stream
        self._lanes = Outflow(in_pieces=in_pieces)
        self.queue = SendQueue(stream, bytes_max=UNBOUNDED, refill=self._lanes.take)
        self._waits = trio.Event()

    @property
    def bytes_queued(self) -> int:
        return self.queue.bytes_waiting + self._lanes.bytes_waiting

    @property
    def bytes_sent(self) -> int:
        return self.queue.bytes_sent

    def send(self, lane: Lane, frame: Buffers) -> bool:
        """Send or queue a frame; False when its lane is full."""
        queue, size = self.queue, sum(map(len, frame))
        try:
            if not queue.waiting and size <= PIECE_BYTES:  # most frames fit the socket
                queue.send(frame)
            elif not self._lanes.add(lane, frame, size):
                return False
            elif not queue.waiting:
                queue.push()
        except OSError:
            return True  # it is broken: who reads from it finds out, and says so
        if queue.waiting:
            self._waits.set()
        return True

    async def write_queued(self) -> None:
        """Send what `send` had to queue. Raises OSError when the connection is broken."""
        while True:
            await self._waits.wait()
            await self.queue.drain()
            self._waits = trio.Event()


class Link:
    """The way to one peer, connected or not."""

    def __init__(self, peer: BrokerId) -> None:
        self.peer = peer
        self.dropped_frames = 0
        self._sent_before = 0
        self.connection: Connection | None = None

    @property
    def is_connected(self) -> bool:
        return self.connection is not None

    @property
    def bytes_queued(self) -> int:
        return 0 if self.connection is None else self.connection.bytes_queued

    @property
    def bytes_sent(self) -> int:
        return self._sent_before + (0 if self.connection is None else self.connection.bytes_sent)

    def send(self, lane: Lane, frame: Buffers) -> bool:
        """Send or queue a frame; False when it was dropped. Never blocks."""
        if self.connection is None or not self.connection.send(lane, frame):
            self.dropped_frames += 1
            return False
        return True

    def attach(self, connection: Connection) -> None:
        if self.connection is not None:
            self.detach(self.connection)
        self.connection = connection

    def detach(self, connection: Connection) -> None:
        if self.connection is connection:
            self._sent_before += connection.bytes_sent
            self.connection = None
