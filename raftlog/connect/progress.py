"""How far a sink has its partitions: for those whose target does not keep that itself."""

from __future__ import annotations

from collections.abc import Iterable

from raftlog.client.metadata import TopicPartition
from raftlog.client.record import Record
from raftlog.connect.contract import Offsets


class Progress:
    """The offset behind the last record of each partition."""

    def __init__(self) -> None:
        self._next: Offsets = {}

    def took(self, records: Iterable[Record]) -> None:
        """These are the sink's now."""
        for record in records:
            self._next[TopicPartition(record.topic, record.partition)] = record.offset + 1

    @property
    def offsets(self) -> Offsets:
        """By partition; those of which nothing came are missing."""
        return dict(self._next)

    def forget(self, partitions: Iterable[TopicPartition]) -> None:
        """Others have these now."""
        for key in partitions:
            self._next.pop(key, None)

    def __repr__(self) -> str:
        return f"<Progress {self._next}>"
