"""Records: what was acknowledged is there, once, where it was said to be, and in order.

After Jepsen's Kafka workload (lost-write, inconsistent-offsets, duplicate, G1a, nonmonotonic-send) and
Redpanda's reads_writes (an offset lies above every one that had been acknowledged when its record was sent).
"""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterator
from itertools import accumulate

from chaos.checkers.finding import Finding, Log, View, is_ours, show
from chaos.history import Bounds, FinalRead, Operation, Outcome, Read, Send
from chaos.values import number_of


def lost(view: View) -> Finding:
    found = Finding("lost", "nothing acknowledged is lost", "an acknowledged send that no read shows")
    found.unfinished = view.unread
    for send in view.sends:
        may_go = send.log in view.history.head.compacted  # see `compaction`
        if send.outcome is Outcome.OK and (send.log, send.partition) in view.finals and not may_go:
            found.checked += 1
            if not view.places.get(send.value):
                found.violated(
                    f"{send.value} was acknowledged at {show((send.log, send.partition), send.offset)}"
                    " and is not in the log",
                    send,
                )
    return found


def moved(view: View) -> Finding:
    found = Finding("moved", "a record lies where its producer was told", "a record at another offset")
    owners: dict[tuple[Log, int], Send] = {}
    for send in view.sends:
        if send.outcome is not Outcome.OK or send.offset < 0:
            continue
        found.checked += 1
        log = send.log, send.partition
        places = view.places.get(send.value, [])
        if places and (log, send.offset) not in places:
            there = ", ".join(show(*place) for place in places)
            found.violated(
                f"{send.value} was acknowledged at {show(log, send.offset)}, it is at {there}", send
            )
        other = owners.setdefault((log, send.offset), send)
        if other is not send:
            found.violated(f"{show(log, send.offset)} was acknowledged for two records", other, send)
    return found


def two_values(view: View) -> Finding:
    found = Finding("two-values", "no offset has two values", "two reads that show different records there")
    found.checked = sum(len(final.records) for final in view.finals.values())
    seen: dict[tuple[str, int, int], tuple[str, Operation]] = {}
    for read in _everything_read(view):
        for offset, value in read.records:
            before, other = seen.setdefault((read.log, read.partition, offset), (value, read))
            if before != value:
                place = show((read.log, read.partition), offset)
                found.violated(f"{place} was {before} for one reader and {value} for another", other, read)
    return found


def _everything_read(view: View) -> Iterator[FinalRead | Read]:
    yield from view.finals.values()
    yield from view.reads


def read_stays(view: View) -> Finding:
    found = Finding("read-stays", "what was read once stays", "a record that was read and is gone in the end")
    for read in view.reads:
        final = view.finals.get((read.log, read.partition))
        if final is None:
            continue
        found.checked += len(read.records)
        for offset, value in read.records:
            if offset >= final.high:
                place = show((read.log, read.partition), offset)
                found.violated(f"{value} was read at {place}, the log ends at {final.high}", read)
    return found


def duplicated(view: View) -> Finding:
    found = Finding(
        "duplicated", "an idempotent producer's record is there once", "a value at two offsets, sent once"
    )
    for value, places in view.places.items():
        send = view.sent.get(value)
        if send is not None and view.is_idempotent(send):
            found.checked += 1
            if len(places) > 1:
                found.violated(f"{value} is at {' and '.join(show(*place) for place in places)}", send)
    return found


def reordered(view: View) -> Finding:
    """Of idempotent producers, by first occurrence. One that is not keeps no order while leaders change:
    librdkafka sends to the next leader what it has while the last one still owes it an answer."""
    found = Finding(
        "reordered", "a producer's records are in its order", "a record before one that was sent before it"
    )
    numbers: dict[tuple[Log, str], tuple[int, int]] = {}
    for log, final in view.finals.items():
        seen: set[str] = set()
        for offset, value in final.records:
            send = view.sent.get(value)
            if send is None or value in seen or not view.is_idempotent(send):
                continue
            seen.add(value)
            found.checked += 1
            number = number_of(value)
            before, at = numbers.get((log, send.client), (-1, -1))
            if number < before:
                text = f"{value} at {show(log, offset)} comes behind number {before} at {at}"
                found.violated(text, send)
            numbers[log, send.client] = number, offset
    return found


def invented(view: View) -> Finding:
    found = Finding(
        "invented", "nothing is there that nobody sent there", "a damaged value, or one of another log"
    )
    for read in _everything_read(view):
        for offset, value in read.records:
            found.checked += 1
            send = view.sent.get(value)
            if send is not None and (send.log, send.partition) == (read.log, read.partition):
                continue
            what = "nobody sent" if is_ours(value) else "is damaged"
            if send is not None:
                what = f"was sent to {show((send.log, send.partition))}"
            found.violated(f"{show((read.log, read.partition), offset)} holds {value}, which {what}", read)
    return found


def unexpected(view: View) -> Finding:
    """Of records that were to be appended at one offset or not at all."""
    found = Finding(
        "unexpected",
        "a record that expects an offset gets that one or none",
        "a record elsewhere than its producer expected, whatever that was told",
    )
    for send in view.sends:
        if send.expected < 0:
            continue
        found.checked += 1
        wanted = (send.log, send.partition), send.expected
        for place in view.places.get(send.value, []):
            if place != wanted:
                found.violated(f"{send.value} expected {show(*wanted)}, it is at {show(*place)}", send)
    return found


def undead(view: View) -> Finding:
    found = Finding("undead", "what failed did not happen", "a record that was refused for good, and is read")
    for send in view.sends:
        if send.outcome is Outcome.FAILED:
            found.checked += 1
            if places := view.places.get(send.value):
                found.violated(f"{send.value} failed ({send.why}) and is at {show(*places[0])}", send)
    values = {send.value: send for send in view.sends if send.outcome is Outcome.FAILED}
    for read in view.reads if values else ():
        for offset, value in read.records:
            if value in values and value not in view.places:
                place = show((read.log, read.partition), offset)
                found.violated(f"{value} failed and was read at {place}", values[value], read)
    return found


def out_of_time(view: View) -> Finding:
    """The cycles of ww and wr edges with real time that single sends and reads can have (Elle)."""
    found = Finding(
        "real-time",
        "what is sent later lies behind what was told before",
        "a record before one that had been acknowledged, or read, when it was sent",
    )
    known: dict[Log, list[tuple[float, int]]] = defaultdict(list)
    for ended, log, offset in _told(view):
        known[log].append((ended, offset))
    tops: dict[Log, tuple[list[float], list[int]]] = {}
    for log, told in known.items():
        told.sort()
        tops[log] = [at for at, _ in told], list(accumulate((offset for _, offset in told), max))
    for send in view.sends:
        log = send.log, send.partition
        places = [offset for where, offset in view.places.get(send.value, ()) if where == log]
        if not places or log not in tops:
            continue
        found.checked += 1
        moments, highest = tops[log]
        before = bisect_left(moments, send.began)
        if before and min(places) <= highest[before - 1]:
            text = f"{send.value} is at {min(places)}, {highest[before - 1]} was known before it was sent"
            found.violated(f"{show(log)}: {text}", send)
    return found


def _told(view: View) -> Iterator[tuple[float, Log, int]]:
    for send in view.sends:
        if send.outcome is Outcome.OK and send.offset >= 0:
            yield send.ended, (send.log, send.partition), send.offset
    for read in view.reads:
        if read.records:
            yield read.ended, (read.log, read.partition), max(offset for offset, _ in read.records)


def dense(view: View) -> Finding:
    found = Finding("dense", "offsets are dense", "a hole in a log without transactions or compaction")
    found.unfinished = view.unread
    for log, final in view.finals.items():
        expected, may_skip = final.low, log[0] in view.history.head.sparse
        for offset, _ in final.records:
            found.checked += 1
            if offset < expected or (offset > expected and not may_skip):
                found.violated(f"{show(log, offset)} where {expected} should be", final)
            expected = offset + 1
        if expected != final.high and not may_skip:
            found.violated(f"{show(log)} was read to {expected}, it ends at {final.high}", final)
    return found


def reads_in_order(view: View) -> Finding:
    """Of clients that read by themselves, also from one poll to the next (poll-skip, nonmonotonic-poll)."""
    found = Finding(
        "reads-in-order",
        "a reader skips nothing and goes not back",
        "a poll that begins elsewhere than expected",
    )
    last: dict[tuple[str, str, int], tuple[int, Read]] = {}
    for read in view.reads:
        key = read.client, read.log, read.partition
        before = None if read.is_fresh or read.group else last.get(key)
        expected, may_skip = before[0] + 1 if before else None, read.log in view.history.head.sparse
        for offset, _ in read.records:
            found.checked += 1
            if expected is not None and (offset < expected or (offset > expected and not may_skip)):
                text = f"{read.client} got {show((read.log, read.partition), offset)}, not {expected}"
                found.violated(text, *([before[1]] if before else []), read)
            expected = offset + 1
        if read.records:
            last[key] = read.records[-1][0], read
    return found


def recent(view: View) -> Finding:
    """A leader that was replaced serves nothing: where a log ends, it ends behind all that had been told."""
    found = Finding(
        "recent", "nobody is told of an end that was passed", "an end below an offset acknowledged before"
    )
    told: dict[Log, list[tuple[float, int, Operation]]] = defaultdict(list)
    bounds = [one for one in view.history.of(Bounds) if one.outcome is Outcome.OK]
    for send in view.sends:
        if send.outcome is Outcome.OK and send.offset >= 0:
            told[send.log, send.partition].append((send.ended, send.offset + 1, send))
    for one in bounds:
        told[one.log, one.partition].append((one.ended, one.high, one))
    tops: dict[Log, tuple[list[float], list[tuple[int, Operation]]]] = {}
    for log, all_told in told.items():
        all_told.sort(key=lambda each: each[0])
        pairs = [(end, operation) for _, end, operation in all_told]
        tops[log] = [at for at, _, _ in all_told], list(accumulate(pairs, _later))
    for one in bounds:
        found.checked += 1
        moments, ends = tops[one.log, one.partition]
        before = bisect_left(moments, one.began)
        if before and one.high < ends[before - 1][0]:
            end, why = ends[before - 1]
            text = f"{show((one.log, one.partition))} ended at {end}, and {one.client} was told {one.high}"
            found.violated(text, why, one)
    return found


def _later(one: tuple[int, Operation], other: tuple[int, Operation]) -> tuple[int, Operation]:
    return one if one[0] >= other[0] else other


CHECKERS = (
    lost,
    moved,
    two_values,
    read_stays,
    duplicated,
    reordered,
    invented,
    unexpected,
    undead,
    out_of_time,
    dense,
    reads_in_order,
    recent,
)
