"""What a task knows of one of its input partitions: what is buffered, how far it is, and what time it is
there.

The time of an input is the largest of its records, or, between two parts of an app, the least of what all
writers have sent along: a writer that lags must not have its records be late.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Collection, Iterable, Mapping
from typing import Any, Final, TypeAlias

from raftlog.records.record import Headers
from raftlog.streams.errors import StateError
from raftlog.streams.nodes import Source

WATERMARK: Final = "raftlog.watermark"
"""The header of a record that only says how far its writer is: `TASK TIME`, key and value null."""

Row: TypeAlias = tuple[int, int, bytes | None, bytes | None, Headers]
"""A record that was read: offset, timestamp, key, value, headers."""
NO_TIME: Final = -1
FOR_EVER: Final = 1 << 62
METADATA_FORMAT: Final = 1


class Input:
    """One partition that a task reads."""

    def __init__(self, source: Source, partition: int, writers: int, now_ms: int) -> None:
        self.source = source
        self.topic = source.topic
        self.partition = partition
        self.records: deque[Row] = deque()
        self.position = 0
        self.stream_time = NO_TIME
        self.load_to = 0
        """A table's records up to here come before those of streams: joins find the rows that there are."""
        self.quiet_since = now_ms
        self.is_caught_up = False
        self._head = (-1, 0)
        self._writers = writers
        self._heard: dict[int, int] = {}

    @property
    def is_loading(self) -> bool:
        """Whether it is a table that is not read as far as it was at the start."""
        return self.source.table is not None and self.position < self.load_to

    @property
    def is_read(self) -> bool:
        """Whether nothing of it waits, here or in its topic."""
        return self.is_caught_up and not self.records

    @property
    def time(self) -> int:
        """Up to where nothing is expected any more."""
        if not self.source.internal:
            return self.stream_time
        return min(self._heard.values()) if len(self._heard) >= self._writers else NO_TIME

    def head_time(self) -> int:
        """The time of the record that comes next; that of one which cannot be read is its timestamp."""
        offset, timestamp, _, value, _ = self.records[0]
        if self.source.timestamp is None or value is None:
            return timestamp
        if self._head[0] != offset:
            try:
                found = self.source.timestamp(self.source.value.decode(value))
            except Exception:  # it is met again when the record is processed, where the app's rule decides
                found = timestamp
            self._head = offset, found
        return self._head[1]

    def hear(self, told: bytes) -> None:
        """A writer's watermark."""
        writer, time = map(int, told.split())
        self._heard[writer] = max(time, self._heard.get(writer, NO_TIME))

    def progress(self) -> dict[str, Any]:
        """For the metadata of a commit."""
        found: dict[str, Any] = {"t": self.stream_time}
        if self._heard:
            found["h"] = list(self._heard.items())
        return found

    def resume(self, progress: Mapping[str, Any]) -> None:
        """What `progress` gave."""
        self.stream_time = max(self.stream_time, progress.get("t", NO_TIME))
        for writer, time in progress.get("h", ()):
            self._heard[writer] = max(time, self._heard.get(writer, NO_TIME))

    def skip_to(self, position: int) -> bool:
        """There is nothing before a position but what has been added: control batches, or what is compacted.
        Gives whether that is further than it was."""
        is_further = not self.records and position > self.position
        if is_further:
            self.position = position
        return is_further

    def forget(self) -> None:
        """It is at its begin again."""
        self.position, self.stream_time = 0, NO_TIME
        self._heard.clear()

    def __repr__(self) -> str:
        name = f"{self.topic}-{self.partition}"
        return f"<Input {name} at={self.position} time={self.time} buffered={len(self.records)}>"


def read_metadata(text: str) -> dict[str, Any]:
    """The metadata of a commit; none when somebody else has committed."""
    if not text.startswith('{"v":'):
        return {}
    told: dict[str, Any] = json.loads(text)
    if told["v"] > METADATA_FORMAT:
        raise StateError(f"the group was committed by a newer raftlog (format {told['v']}): start that one")
    return told


def next_of(inputs: Collection[Input], now_ms: int, wait_ms: int) -> Input | None:
    """The input with the least time; none while another one may soon have an earlier record."""
    loading = [each for each in inputs if each.is_loading]
    ready = [each for each in loading or inputs if each.records]
    if not ready:
        return None
    if not loading and len(ready) < len(inputs):
        for each in inputs:
            if not each.records and not each.is_caught_up and now_ms - each.quiet_since < wait_ms:
                return None
    return min(ready, key=Input.head_time)


def time_of(inputs: Iterable[Input], now_ms: int, idle_ms: int | None) -> int:
    """Up to where none of these expects a record. One that is read to its end, and silent for `idle_ms`, is
    not waited for; when all are, time goes on by the clock."""
    least = None
    for each in inputs:
        if (
            not each.source.internal
            and each.is_caught_up
            and not each.records
            and idle_ms is not None
            and now_ms - each.quiet_since >= idle_ms
        ):
            continue
        found = each.time
        if least is None or found < least:
            least = found
    if least is not None:
        return least
    return NO_TIME if idle_ms is None else now_ms - idle_ms
