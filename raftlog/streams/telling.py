"""What a task tells: its time, to the parts that come after; and what its worker is to know."""

from __future__ import annotations

from typing import Final

from raftlog.streams.inputs import FOR_EVER, NO_TIME, WATERMARK
from raftlog.streams.nodes import Node, Sink
from raftlog.streams.outputs import Output
from raftlog.streams.plan import SubTopology
from raftlog.streams.room import Hooks
from raftlog.streams.ways import delays_of

ALL_PARTITIONS: Final = -1


class Telling:
    """Of one task."""

    def __init__(self, part: SubTopology, partition: int, hooks: Hooks) -> None:
        self.keyless: dict[Node, str] = {}
        """Steps that have left out records without a key, each with the reason."""
        self.moved = False
        """Whether time has done something that is to be committed, though no key has changed, and nothing is
        to be sent."""
        self.is_quiet = False
        """Whether nobody waits for its time: then `take` gives none."""
        self._partition = partition
        self._sinks = [sink for sink in part.sinks if sink.repartition]
        self._delays = delays_of(part)
        self._hooks = hooks
        self._told: dict[str, int] = {}

    def take(self, watermark: int) -> list[Output]:
        """For each topic between parts: how far this writer is, if it is further than last time.

        To be sent when all outputs before are acknowledged, or in one transaction with them: a reader that
        hears of a time takes nothing older any more, and would drop a record that is sent again.
        """
        found: list[Output] = []
        for sink in () if self.is_quiet else self._sinks:
            time = watermark - self._delays[sink.number]
            if time > self.told(sink):
                self._told[sink.topic] = time
                header = WATERMARK, f"{self._partition} {time}".encode()
                found.append(Output(sink.topic, None, None, max(time, 0), ALL_PARTITIONS, (header,)))
        return found

    def told(self, sink: Sink) -> int:
        """How far this writer has said that it is, in a topic between parts."""
        return self._told.get(sink.topic, NO_TIME)

    @property
    def awaits(self) -> int:
        """The time at which the task closes its last open window; NO_TIME without one. A task with a timer
        waits for ever."""
        times = [
            max(store.times) + (store.spec.lasts_ms or 0) + delay
            for _, delay, store, _ in self._hooks.closings
            if store.times
        ]
        return FOR_EVER if self._hooks.timers.event else max(times, default=NO_TIME)

    def __repr__(self) -> str:
        return f"<Telling {self._partition} {self._told}>"
