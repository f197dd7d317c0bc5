"""A stream processing app that counts: each record has its effect once, whoever was killed meanwhile."""

from __future__ import annotations

from collections import Counter

from chaos.checkers.finding import Finding, View
from chaos.history import Counted, Outcome
from chaos.values import key_of

NONE = Counted(client="look", log="", key="")


def counted(view: View) -> Finding:
    """The app sends each count on as it counts: a record that is counted twice, or not, shows in the numbers
    behind it; an effect that is there without its record's, in one that comes twice."""
    found = Finding(
        "counted",
        "a stream processing app counts each record once",
        "a key's counts that are not 1, 2, … up to how many records it has",
    )
    told: dict[tuple[str, str], Counted] = {}
    for one in view.history.of(Counted):
        if one.outcome is Outcome.OK:
            told[one.log, one.key] = one
        else:
            found.unfinished = one.why or "what was counted was not read"
    logs = {log for log, _ in told}
    if logs:
        found.unfinished = found.unfinished or view.unread
    records = Counter(
        (log, key_of(value))
        for (log, _), final in view.finals.items()
        if log in logs
        for _, value in final.records
    )
    for place in sorted(records.keys() | told.keys()):
        counts, wanted = told.get(place, NONE).counts, records[place]
        found.checked += len(counts)
        if counts == list(range(1, wanted + 1)):
            continue
        at = next((at for at, count in enumerate(counts, 1) if count != at or count > wanted), None)
        where = f"ends at {len(counts)}" if at is None else f"has {counts[at - 1]} at place {at}"
        found.violated(
            f"{place[1]} came {wanted} times, was counted {len(counts)} times, and {where}",
            *([told[place]] if place in told else ()),
        )
    return found


CHECKERS = (counted,)
