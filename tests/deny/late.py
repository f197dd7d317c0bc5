"""A network on which what comes to a broker comes late, in order; on which one way is lost and the other is
not; and on which a cut may break connections.

What was under way when a broker is cut off is lost with it. What was under way when it became deaf still
comes.
"""

from __future__ import annotations

import threading
from collections import defaultdict, deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final

import trio

from raftlog.net.stream import Buffer, Stream
from raftlog.testing.network import Network, Way
from raftlog.types import BrokerId

READ_AT_ONCE: Final = 1 << 16
QUESTION: Final = b"committed"
"""What a broker asks the metadata leader by, to renew its lease."""

AWAITED_S: Final = 0.97
"""A broker waits a second for that answer."""


@dataclass(slots=True, eq=False)
class Weather:
    """What becomes of what one broker and its peers say."""

    delay: float = 0.0
    """What comes to this broker from others takes so much longer, seconds."""
    deaf: bool = False
    """What is sent to it from now on is lost."""
    mute: bool = False
    """What it says is lost."""
    breaks: bool = False
    """Both ends see a cut at once, as when a cable is pulled at a switch that says so."""
    watched: bool = False
    answered: threading.Event = field(default_factory=threading.Event)
    """It asked for its lease while it was watched, and the answer is under way and will come in time."""
    _answer: bytes = b""
    """What that answer has in it."""
    _asked_at: float = 0.0

    def sees_question(self, data: bytes) -> None:
        """It sends this, `[number, QUESTION, …]` if it asks (`Calls`)."""
        before, found, _ = data.partition(QUESTION)
        if found:
            self._answer = (int.from_bytes(before[-9:-1]) - 1).to_bytes(8)
            self._asked_at = trio.current_time()

    def sees_answer(self, data: bytes) -> None:
        """This has come to it, `[-number, …]` if it is an answer."""
        if self._answer and self._answer in data:
            self._answer = b""
            if trio.current_time() - self._asked_at + self.delay < AWAITED_S:
                self.watched = False
                self.answered.set()


_weather: defaultdict[Network, Weather] = defaultdict(Weather)


def weather_at(network: Network) -> Weather:
    return _weather[network]


class LateWay(Way):
    """A stream that keeps what it has received until it is due."""

    def __init__(self, network: Network, peer: BrokerId, stream: Stream) -> None:
        super().__init__(network, peer, stream)
        self._weather = _weather[network]
        self._kept: deque[tuple[float, bytes]] = deque()
        self._at_end = False

    async def readable(self) -> None:
        while True:
            self._take()
            if self._at_end or (self._kept and self._kept[0][0] <= trio.current_time()):
                await trio.lowlevel.checkpoint()
                return
            with trio.move_on_at(self._kept[0][0] if self._kept else float("inf")):
                await self._stream.readable()

    def receive_into(self, buffer: memoryview) -> int:
        self._take()
        if not self._kept:
            if self._at_end:
                return 0
            raise BlockingIOError
        due, data = self._kept[0]
        if due > trio.current_time():
            raise BlockingIOError
        self._kept.popleft()
        if self._network.is_cut(self._peer):
            raise BlockingIOError
        count = min(len(data), len(buffer))
        buffer[:count] = data[:count]
        if count < len(data):
            self._kept.appendleft((due, data[count:]))
        return count

    def send(self, buffers: Sequence[Buffer]) -> int:
        if self._weather.mute:
            return sum(map(len, buffers))
        sent = super().send(buffers)
        if self._weather.watched:
            self._weather.sees_question(b"".join(buffers))
        return sent

    def _take(self) -> None:
        piece = memoryview(bytearray(READ_AT_ONCE))
        while not self._at_end:
            try:
                count = super().receive_into(piece)
            except BlockingIOError:
                return
            if count == 0:
                self._at_end = True
            elif not self._weather.deaf:
                if self._weather.watched:
                    self._weather.sees_answer(piece[:count].tobytes())
                due = trio.current_time() + self._weather.delay
                if self._kept:
                    due = max(due, self._kept[-1][0])
                self._kept.append((due, bytes(piece[:count])))


@contextmanager
def late_networks() -> Iterator[None]:
    """Brokers that are started meanwhile have one."""

    def through(self: Network, peer: BrokerId, stream: Stream) -> Stream:
        if peer in self._cut:
            raise OSError("cut off")
        way = self._ways[peer] = LateWay(self, peer, stream)
        return way

    def cut(self: Network, peers: frozenset[BrokerId]) -> None:
        new = peers - self._cut
        cut_before(self, peers)
        for peer in new & self._ways.keys() if _weather[self].breaks else ():
            self._ways.pop(peer).shut_down()

    through_before, cut_before = Network.through, Network.cut
    Network.through = through  # type: ignore[method-assign]
    Network.cut = cut  # type: ignore[method-assign]
    try:
        yield
    finally:
        Network.through = through_before  # type: ignore[method-assign]
        Network.cut = cut_before  # type: ignore[method-assign]
        _weather.clear()
