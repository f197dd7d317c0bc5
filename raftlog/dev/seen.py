"""Which of the calls that were seen were made for the record that is followed.

Functions of the way run for other records and for heartbeats too, some more than once for one record, and
the leader's own disk may be done before, between or after the followers' answers. So nothing is decided
while it is watched: all calls are noted, and the record's are picked afterwards, from both of its ends.
"""

from __future__ import annotations

import time
from typing import Any, Final, NamedTuple

from raftlog.dev.walk import PRODUCE, place


class Call(NamedTuple):
    step: int
    """Its place in PRODUCE."""
    at_ns: int


APPENDED: Final = place("Producing._append")
"""The one step that nothing but a produced batch takes."""
SYNCED: Final = place("Driver.synced")
RESOLVED: Final = place("_Pending.resolve")
ANSWERED: Final = place("Outbox.complete")
CALLS_MAX: Final = 20_000
"""Of a broker that does much else meanwhile; what comes later is not seen."""


class Followed:
    """Notes calls, and tells the steps of the one record."""

    def __init__(self) -> None:
        self._calls: list[Call] = []

    def note(self, step: int) -> None:
        if len(self._calls) < CALLS_MAX:
            self._calls.append(Call(step, time.perf_counter_ns()))

    def is_whole(self) -> bool:
        """Whether the answer is sent and the own disk is done: there is nothing more to wait for."""
        return {ANSWERED, SYNCED} <= {call.step for call in picked(self._calls)}

    def steps(self) -> list[dict[str, Any]]:
        """Each with its time since the first, in microseconds."""
        found = picked(self._calls)
        return [
            {
                "us": (call.at_ns - found[0].at_ns) // 1000,
                "step": PRODUCE[call.step][2],
                "file": f"raftlog/{PRODUCE[call.step][0]}: {PRODUCE[call.step][1]}",
            }
            for call in found
        ]


def picked(calls: list[Call]) -> list[Call]:
    """One of each step that was taken, in the order of time; nothing when no record was produced."""
    appended = next((n for n, call in enumerate(calls) if call.step == APPENDED), None)
    if appended is None:
        return []
    found = _before(calls, appended, range(APPENDED - 1, -1, -1))
    found |= _after(calls, appended, range(APPENDED, SYNCED + 1))
    resolved = _after(calls, appended, (RESOLVED, ANSWERED))
    if RESOLVED in resolved:
        end = calls.index(resolved[RESOLVED])
        found |= resolved | _before(calls, end, range(RESOLVED - 1, SYNCED, -1))
    return sorted(found.values(), key=lambda call: call.at_ns)


def _before(calls: list[Call], end: int, steps: range) -> dict[int, Call]:
    """The last call of each step before that of the step behind it."""
    found = {}
    for step in steps:
        at = next((n for n in range(end - 1, -1, -1) if calls[n].step == step), None)
        if at is not None:
            found[step], end = calls[at], at
    return found


def _after(calls: list[Call], begin: int, steps: range | tuple[int, ...]) -> dict[int, Call]:
    """The first call of each step after that of the step before it."""
    found = {}
    for step in steps:
        at = next((n for n in range(begin, len(calls)) if calls[n].step == step), None)
        if at is not None:
            found[step], begin = calls[at], at
    return found
