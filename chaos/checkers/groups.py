"""Consumer groups: what was committed counts, and nothing between is left out."""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict

from chaos.checkers.finding import Finding, Log, View, show
from chaos.history import Commit, Committed, Operation, Outcome

Place = tuple[str, str, int]
"""A group, a log, a partition."""


def commits_stay(view: View) -> Finding:
    """Held against every commit that had been confirmed before: later commits, where members begin, and what
    outsiders are told."""
    found = Finding(
        "commits-stay",
        "a committed group offset never falls",
        "a member that resumed, or a commit, before what was committed",
    )
    events: dict[Place, list[tuple[float, int, int, Operation]]] = defaultdict(list)
    for commit in view.history.of(Commit):
        if commit.outcome is Outcome.OK:
            place = commit.group, commit.log, commit.partition
            events[place].append((commit.ended, 1, commit.offset, commit))
            events[place].append((commit.began, 0, commit.offset, commit))
    for told in view.history.of(Committed):
        if told.outcome is Outcome.OK:
            events[told.group, told.log, told.partition].append((told.began, 0, told.offset, told))
    for read in view.reads:
        if read.group and read.is_fresh and read.records:
            place = read.group, read.log, read.partition
            events[place].append((read.began, 0, read.records[0][0], read))
    for place, happened in events.items():
        happened.sort(key=lambda each: each[:2])
        highest: tuple[int, Operation | None] = -1, None
        for _, is_confirmation, offset, operation in happened:
            if is_confirmation:
                highest = max(highest, (offset, operation), key=lambda each: each[0])
                continue
            found.checked += 1
            if offset < highest[0] and highest[1] is not None:
                text = f"{place[0]}, {show(place[1:])}: {operation.client} at {offset}"
                found.violated(f"{text}, {highest[0]} was committed", highest[1], operation)
    return found


def commits_tried(view: View) -> Finding:
    found = Finding(
        "commits-tried", "nothing is committed that nobody committed", "a committed offset above all tried"
    )
    highest: dict[Place, int] = {}
    for commit in view.history.of(Commit):
        place = commit.group, commit.log, commit.partition
        highest[place] = max(commit.offset, highest.get(place, -1))
    for told in view.history.of(Committed):
        if told.outcome is Outcome.OK:
            found.checked += 1
            most = highest.get((told.group, told.log, told.partition), -1)
            if told.offset > most:
                place_text = f"{told.group}, {show((told.log, told.partition))}"
                found.violated(f"{place_text}: {told.offset}, at most {most} was tried", told)
    return found


def nothing_skipped(view: View) -> Finding:
    """Every record below a committed offset was handed to a member."""
    found = Finding(
        "group-skips", "a group passes over no record", "a record below a committed offset that no member got"
    )
    got: dict[Place, set[int]] = defaultdict(set)
    for read in view.reads:
        if read.group:
            got[read.group, read.log, read.partition].update(offset for offset, _ in read.records)
    committed: dict[Place, Commit] = {}
    for commit in view.history.of(Commit):
        place = commit.group, commit.log, commit.partition
        if commit.outcome is Outcome.OK and commit.offset > _offset(committed.get(place)):
            committed[place] = commit
    for place, commit in committed.items():
        final = view.finals.get(place[1:])
        if final is None:
            continue
        for offset, value in final.records:
            if offset >= commit.offset:
                break
            found.checked += 1
            if offset not in got[place]:
                found.violated(
                    f"{place[0]} committed {commit.offset}, and nobody got {value} at {offset}", commit
                )
    return found


def _offset(commit: Commit | None) -> int:
    return -1 if commit is None else commit.offset


def one_owner(view: View) -> Finding:
    """Once somebody who was given a partition later has committed, who had it before is refused."""
    found = Finding(
        "one-owner",
        "a partition has one owner",
        "a commit of a member whose partition another commits already",
    )
    given: dict[tuple[str, Log], list[float]] = defaultdict(list)
    for read in view.reads:
        if read.group and read.is_fresh:
            given[read.client, (read.log, read.partition)].append(read.ended)
    events: dict[Place, list[tuple[float, int, float, Commit]]] = defaultdict(list)
    for commit in view.history.of(Commit):
        moments = sorted(given[commit.client, (commit.log, commit.partition)])
        since = moments[bisect_left(moments, commit.began) - 1] if moments else 0.0
        if commit.outcome is Outcome.OK:
            place = commit.group, commit.log, commit.partition
            events[place] += [(commit.began, 0, since, commit), (commit.ended, 1, since, commit)]
    for place, happened in events.items():
        latest, owner = 0.0, ""
        for _, is_over, since, commit in sorted(happened, key=lambda each: each[:2]):
            found.checked += not is_over
            if is_over and since > latest:
                latest, owner = since, commit.client
            elif since < latest and commit.client != owner and not is_over:
                found.violated(
                    f"{show(place[1:])}: {commit.client} committed after {owner} had begun", commit
                )
    return found


CHECKERS = (commits_stay, commits_tried, nothing_skipped, one_owner)
