"""What producers and committers did, and what became of it.

An operation ended ok, failed, or is unknown, and a time-out is unknown (RELIABILITY: Jepsen's model).
Values are unique: producer and number, and padding that follows from both, so that a value that was
damaged or never sent is known by looking at it.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Final

PADDING_MAX: Final = 400


class Outcome(Enum):
    OK = "ok"
    FAILED = "failed"
    """It surely did not happen."""
    UNKNOWN = "unknown"


@dataclass(slots=True)
class Send:
    """One record on its way. `above`: the highest offset of its partition that anyone had been told when
    it was sent; what is sent later must come behind it."""

    producer: str
    number: int
    partition: int
    above: int = -1
    outcome: Outcome = Outcome.UNKNOWN
    offset: int = -1

    @property
    def value(self) -> bytes:
        return value_of(self.producer, self.number)


def value_of(producer: str, number: int) -> bytes:
    """The value of a producer's record, with padding of a length of its own."""
    name = f"{producer}:{number}:".encode()
    digest = hashlib.blake2b(name, digest_size=32).hexdigest().encode()
    return name + (digest * 7)[: int(digest[:4], 16) % PADDING_MAX]


def who_wrote(value: bytes | None) -> tuple[str, int] | None:
    """Producer and number; None for what no producer can have written."""
    try:
        producer, number, _ = (value or b"").decode("ascii").split(":")
        found = producer, int(number)
    except ValueError:
        return None
    return found if value_of(*found) == value else None


@dataclass(frozen=True, slots=True)
class Traits:
    """What may be expected of a producer: whether it may duplicate, whether it keeps its order."""

    idempotent: bool
    ordered: bool = True


@dataclass(frozen=True, slots=True)
class Commits:
    """Committed offsets of one group, by partition: the highest that was confirmed, and that was tried."""

    confirmed: Mapping[int, int]
    tried: Mapping[int, int]


@dataclass
class History:
    """Records sends and commits from many threads.

    `notes` are things that must not happen at all, said where they were seen.
    """

    producers: Mapping[str, Traits]
    _sends: list[Send] = field(default_factory=list)
    _confirmed: dict[int, int] = field(default_factory=dict)
    _tried: dict[int, int] = field(default_factory=dict)
    _top: dict[int, int] = field(default_factory=dict)
    _notes: list[str] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    acknowledged: int = 0

    def send(self, producer: str, number: int, partition: int) -> Send:
        """Enter a record that is about to be sent."""
        with self._lock:
            sent = Send(producer, number, partition, self._top.get(partition, -1))
            self._sends.append(sent)
        return sent

    def acknowledge(self, sent: Send, offset: int) -> None:
        with self._lock:
            sent.outcome = Outcome.OK
            sent.offset = offset
            self._top[sent.partition] = max(offset, self._top.get(sent.partition, -1))
            self.acknowledged += 1

    def fail(self, sent: Send) -> None:
        """It surely did not happen; whatever is not told stays unknown."""
        with self._lock:
            sent.outcome = Outcome.FAILED

    def note(self, text: str) -> None:
        with self._lock:
            self._notes.append(text)

    def try_commit(self, offsets: Mapping[int, int]) -> None:
        with self._lock:
            for partition, offset in offsets.items():
                self._tried[partition] = max(offset, self._tried.get(partition, -1))
                confirmed = self._confirmed.get(partition, -1)
                if offset < confirmed:
                    self._notes.append(
                        f"a member resumed at {offset} of partition {partition}, {confirmed} was committed"
                    )

    def confirm_commit(self, offsets: Mapping[int, int]) -> None:
        with self._lock:
            for partition, offset in offsets.items():
                self._confirmed[partition] = max(offset, self._confirmed.get(partition, -1))

    def so_far(self) -> tuple[list[Send], Commits, list[str]]:
        """Copies: what is acknowledged in them must be found by whoever looks from now on."""
        with self._lock:
            sends = [
                Send(s.producer, s.number, s.partition, s.above, s.outcome, s.offset) for s in self._sends
            ]
            return sends, Commits(dict(self._confirmed), dict(self._tried)), list(self._notes)
