"""Which windows a time lies in.

A window has its start in it, and not its end. Starts are multiples of the step since the epoch, so that every
worker cuts the same windows. All times here are milliseconds.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from raftlog.streams.errors import TopologyError

WINDOWS_A_RECORD_MAX: Final = 1000
"""A record costs one step of each window that it is in; more than this is a mistake in the sizes."""


@dataclass(frozen=True, slots=True)
class Windows:
    """Windows of one size, one every `every_ms`; `grace_ms` after its end a window takes no record any
    more."""

    size_ms: int
    every_ms: int
    grace_ms: int

    def starts(self, time_ms: int) -> range:
        """The starts of the windows that a time is in, the first one first."""
        last = time_ms - time_ms % self.every_ms
        first = max(last - (self.size_ms - 1 - time_ms % self.every_ms) // self.every_ms * self.every_ms, 0)
        return range(first, last + 1, self.every_ms)

    def __str__(self) -> str:
        what = f"tumbling {self.size_ms} ms"
        if self.every_ms != self.size_ms:
            what = f"hopping {self.size_ms} ms every {self.every_ms} ms"
        return f"{what} grace {self.grace_ms} ms"


@dataclass(frozen=True, slots=True)
class Sessions:
    """Windows that grow: records of a key that are at most `gap_ms` apart are in one. Its end is the time of
    its last record, which is in it."""

    gap_ms: int
    grace_ms: int

    def __str__(self) -> str:
        return f"session gap {self.gap_ms} ms grace {self.grace_ms} ms"


@dataclass(frozen=True, slots=True)
class Sliding:
    """A window a record, with what came in the `size_ms` before it: its end is the record's time, which is in
    it, and its start is not."""

    size_ms: int
    grace_ms: int

    def __str__(self) -> str:
        return f"sliding {self.size_ms} ms grace {self.grace_ms} ms"


def tumbling(*, size_s: float, grace_s: float = 0) -> Windows:
    """Windows that follow each other: each record is in one."""
    return hopping(size_s=size_s, every_s=size_s, grace_s=grace_s)


def hopping(*, size_s: float, every_s: float, grace_s: float = 0) -> Windows:
    """Windows that overlap: one begins every `every_s` seconds and is `size_s` long."""
    size, every, grace = _ms("size_s", size_s), _ms("every_s", every_s), _ms("grace_s", grace_s, least=0)
    if every > size:
        raise TopologyError(
            f"every_s={every_s:g} is more than size_s={size_s:g}: records between would be in no window"
        )
    if size > every * WINDOWS_A_RECORD_MAX:
        raise TopologyError(
            f"each record would be in {size // every} windows; at most {WINDOWS_A_RECORD_MAX} are allowed"
        )
    return Windows(size, every, grace)


def session(*, gap_s: float, grace_s: float = 0) -> Sessions:
    """A window a burst: it ends when a key has had no record for `gap_s` seconds."""
    return Sessions(_ms("gap_s", gap_s), _ms("grace_s", grace_s, least=0))


def sliding(*, size_s: float, grace_s: float = 0) -> Sliding:
    """A window that ends at each record of a key, and has those of the `size_s` seconds before it: what was
    in the last minute, whenever somebody asks. A record costs a step of each other one in its window; where
    keys have thousands, `hopping` costs less."""
    return Sliding(_ms("size_s", size_s), _ms("grace_s", grace_s, least=0))


def _ms(name: str, seconds: float, least: int = 1) -> int:
    ms = round(seconds * 1000)
    if ms < least:
        raise TopologyError(f"{name}={seconds:g}: it is a number of seconds, at least {least / 1000:g}")
    return ms
