"""How a broker shares out the file descriptors that its process may have (`ulimit -n`).

    half              connections of clients; whoever comes beyond is refused
    a reserve         the write-ahead log, peers, listeners, the event loop, what is open for a moment
    the rest          segments: those in use, those that a checkpoint is syncing, and those that answers are
                      sent from although they are not in use any more

Each part holds its own bound, so that together they never ask for more than there are.
"""

from __future__ import annotations

import resource
from dataclasses import dataclass
from typing import Final

WANTED: Final = 1 << 16
"""What is asked for where the hard limit allows more; nobody has use for so many."""
RESERVE: Final = 64
SEGMENTS_MAX: Final = 8192
"""Open segments beyond that only take memory."""
SEGMENTS_MIN: Final = 8


@dataclass(frozen=True, slots=True)
class Descriptors:
    """The shares. `segments` may be open for use, and as many again wait for a checkpoint under way."""

    connections: int
    segments: int


def share_out(limit: int) -> Descriptors:
    """The shares of a process that may have `limit` descriptors."""
    connections = limit // 2
    rest = limit - connections - min(RESERVE, limit // 8)
    lent = rest // 8
    segments = (rest - lent) // 2
    return Descriptors(connections, max(SEGMENTS_MIN, min(segments, SEGMENTS_MAX)))


def files_max(segments: int) -> int:
    """Files of the log that may be open in all, where `segments` may be open for use: from there on an answer
    is read into memory, instead of keeping a file open until its client has taken it."""
    return 2 * segments + segments // 4


def allowed() -> int:
    """The descriptors that this process may have."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return WANTED if soft == resource.RLIM_INFINITY else soft


def raise_limit() -> int:
    """Ask for as many descriptors as the hard limit allows, and return how many there are. For a process
    that is a broker, not for one that has a broker in it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = WANTED if hard == resource.RLIM_INFINITY else min(hard, WANTED)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        except (OSError, ValueError):
            pass  # a sandbox may forbid it: the broker lives with what it has
    return allowed()
