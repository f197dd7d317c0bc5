"""What a task gives to whoever runs it: records to be sent, what a commit holds, changelogs to be read."""

from __future__ import annotations

import traceback
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from raftlog.client.record import Record as Read
from raftlog.streams.stores import Change

_DLQ: Final = "__streams.errors."
"""How the headers of a record in the DLQ begin: as Kafka Streams has them (KIP-1034)."""
MESSAGE_CHARS_MAX: Final = 1_000
STACKTRACE_CHARS_MAX: Final = 8_000
"""Of the end, where the failing function is."""
LETTER_BYTES_MAX: Final = (1 << 20) - 256
"""A producer sends no larger record, and a topic takes no larger one by default."""
HEADER_OVERHEAD: Final = 8
"""Bytes of a header beside its name and value, at most."""
LEFT_OUT: Final[tuple[tuple[str, ...], ...]] = (
    (),
    ("stacktrace",),
    ("stacktrace", "headers"),
    ("stacktrace", "value"),
    ("stacktrace", "headers", "value"),
    ("stacktrace", "headers", "value", "key"),
)
"""What is left out of a record for the DLQ until it is small enough."""


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
    uncommitted: tuple[str, ...] = ()
    """The topics that the task reads, when the group has committed none of them: then records of the
    changelog were counted by somebody whose offsets are gone."""
    exactly_once: bool = False
    seen_ms: int = 0
    """When the rows on disk were all that the changelog had then; 0 when that is not known."""


class Unprocessable(Exception):
    """The record in hand cannot be processed, says a node."""

    def __init__(self, reason: str, to_dlq: bool) -> None:
        super().__init__(reason)
        self.to_dlq = to_dlq


def dead_letter(topic: str, read: Read, error: Exception) -> Output:
    """A record for the DLQ: as it came, with headers that say why. Of one that would be too large then, what
    is least needed is left out, and a header says what."""
    told = {
        "exception": type(error).__qualname__,
        "message": str(error)[:MESSAGE_CHARS_MAX],
        "stacktrace": "".join(traceback.format_exception(error))[-STACKTRACE_CHARS_MAX:],
        "topic": read.topic,
        "partition": str(read.partition),
        "offset": str(read.offset),
    }
    return next(
        letter
        for left_out in LEFT_OUT
        if _size(letter := _letter(topic, read, told, left_out)) <= LETTER_BYTES_MAX
        or left_out == LEFT_OUT[-1]
    )


def _letter(topic: str, read: Read, told: Mapping[str, str], left_out: Sequence[str]) -> Output:
    why = {name: text for name, text in told.items() if name not in left_out}
    if left_out:
        why["left_out"] = ", ".join(left_out)
    headers = [(_DLQ + name, text.encode(errors="backslashreplace")) for name, text in why.items()]
    return Output(
        topic,
        None if "key" in left_out else read.key,
        None if "value" in left_out else read.value,
        read.timestamp,
        None,
        (*(() if "headers" in left_out else read.headers), *headers),
    )


def _size(output: Output) -> int:
    return sum(len(field or b"") for field in (output.key, output.value)) + sum(
        len(name.encode()) + len(value or b"") + HEADER_OVERHEAD for name, value in output.headers
    )
