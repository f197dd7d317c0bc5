"""Compacted topics: what the last value of each key is, by a dictionary of what was acknowledged."""

from __future__ import annotations

from chaos.checkers.finding import Finding, View, show
from chaos.history import Outcome


def dictionary(view: View) -> Finding:
    """A record may be taken away once the log holds a later one with its key."""
    found = Finding(
        "dictionary",
        "the last value of each key stays",
        "an acknowledged record that is gone, and none of its key behind it",
    )
    last: dict[tuple[str, int, str], int] = {}
    for log, final in view.finals.items():
        if log[0] in view.history.head.compacted:
            for offset, value in final.records:
                send = view.sent.get(value)
                if send is not None:
                    last[(*log, send.key)] = offset
    taken = 0
    for send in view.sends:
        if send.log not in view.history.head.compacted or send.outcome is not Outcome.OK or send.offset < 0:
            continue
        found.checked += 1
        there = last.get((send.log, send.partition, send.key), -1)
        taken += not view.places.get(send.value)
        if there < send.offset:
            place = show((send.log, send.partition), send.offset)
            found.violated(f"{send.key} had {send.value} at {place}, its last is at {there}", send)
    if found.checked and not taken:
        found.unfinished = "nothing was taken away"
    return found


CHECKERS = (dictionary,)
