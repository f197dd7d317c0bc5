"""Transactions: all of one is read, or nothing; what was to be aborted is never read; a copy is made once.

After Jepsen's Kafka workload with transactions (G1a, and a transaction that is torn), and franz-go's test of
consume, transform, produce. All reads here are those of clients that read what is committed.
"""

from __future__ import annotations

from collections import defaultdict

from chaos.checkers.finding import Finding, View, show
from chaos.history import Outcome, Transaction


def torn(view: View) -> Finding:
    found = Finding(
        "torn",
        "a transaction is read whole or not at all",
        "some records of a transaction, without the others",
    )
    found.unfinished = view.unread
    for one in view.history.of(Transaction):
        found.checked += 1
        there = [value for value in one.values if view.places.get(value)]
        missing = [value for value in one.values if not view.places.get(value)]
        if there and missing:
            found.violated(f"{one.client}: {there[0]} is read, {missing[0]} is not", one)
        if missing and one.is_commit and one.outcome is Outcome.OK:
            found.violated(f"{one.client} was told of a commit, and {missing[0]} is not read", one)
    return found


def aborted_read(view: View) -> Finding:
    """Whatever became of the abort: nobody ever asked to commit."""
    found = Finding("aborted-read", "what is aborted is read by nobody", "a record of an aborted transaction")
    aborted: dict[str, Transaction] = {}
    for one in view.history.of(Transaction):
        found.checked += 1
        if not one.is_commit:
            aborted |= dict.fromkeys(one.values, one)
    for value, one in aborted.items():
        if places := view.places.get(value):
            found.violated(f"{value} was aborted and is at {show(*places[0])}", one)
    for read in view.reads if aborted else ():
        for offset, value in read.records:
            if value in aborted and value not in view.places:
                place = show((read.log, read.partition), offset)
                found.violated(f"{value} was aborted and was read at {place}", aborted[value], read)
    return found


def copied(view: View) -> Finding:
    found = Finding(
        "copied", "each input is copied once", "an input that readers see no copy of in the end, or two"
    )
    found.unfinished = view.unread
    copies: dict[tuple[str, int, int], list[Transaction]] = defaultdict(list)
    sources: set[str] = set()
    for one in view.history.of(Transaction):
        for value, (partition, offset) in zip(one.values, one.inputs, strict=False):
            sources.add(one.source)
            if view.places.get(value):
                copies[one.source, partition, offset].append(one)
    for log, final in view.finals.items():
        if log[0] not in sources:
            continue
        for offset, value in final.records:
            found.checked += 1
            made = copies.get((*log, offset), [])
            if len(made) != 1:
                found.violated(f"{value} at {show(log, offset)} was copied {len(made)} times", *made)
    return found


CHECKERS = (torn, aborted_read, copied)
