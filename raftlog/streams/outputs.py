"""What a task gives to whoever runs it: records to be sent, what a commit holds, changelogs to be read."""

from __future__ import annotations

import traceback
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, NamedTuple

from raftlog.client.record import Record as Read
from raftlog.streams.stores import Change

_DLQ: Final = "__streams.errors."
"""How the headers of a record in the DLQ begin: as Kafka Streams has them (KIP-1034)."""


class Output(NamedTuple):
    """A record to be sent. Without a `partition` the key chooses it."""

    topic: str
    key: bytes | None
    value: bytes | None
    timestamp: int
    partition: int | None = None
    headers: tuple[tuple[str, bytes | None], ...] = ()


@dataclass(frozen=True, slots=True)
class Prepared:
    """What belongs to a commit: changes by changelog topic, and offsets with their metadata by topic."""

    changes: Mapping[str, list[Change]]
    offsets: Mapping[str, tuple[int, str]]


@dataclass(frozen=True, slots=True)
class Restore:
    """A changelog to be read before the task may run: from `position`, up to its end or up to `end`."""

    store: str
    topic: str
    position: int
    end: int | None
    topic_id: str


class Unprocessable(Exception):
    """The record in hand cannot be processed, says a node."""

    def __init__(self, reason: str, to_dlq: bool) -> None:
        super().__init__(reason)
        self.to_dlq = to_dlq


def dead_letter(topic: str, read: Read, error: Exception) -> Output:
    told = {
        "exception": type(error).__qualname__,
        "message": str(error),
        "stacktrace": "".join(traceback.format_exception(error)),
        "topic": read.topic,
        "partition": str(read.partition),
        "offset": str(read.offset),
    }
    headers = tuple((_DLQ + name, text.encode()) for name, text in told.items())
    return Output(topic, read.key, read.value, read.timestamp, None, (*read.headers, *headers))
