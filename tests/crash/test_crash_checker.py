"""The checker, on histories that are right and on one that is wrong for each thing it looks for."""

from __future__ import annotations

import pytest

from tests.crash.checker import Kind, Log, Memory, PartitionLog, Verdict, check
from tests.crash.history import Commits, History, Outcome, Send, Traits, value_of, who_wrote

PRODUCERS = {"a": Traits(idempotent=True), "b": Traits(idempotent=True), "plain": Traits(idempotent=False)}


def ok(producer: str, number: int, offset: int, *, above: int = -1) -> Send:
    return Send(producer, number, 0, above, Outcome.OK, offset)


def log_of(*values: bytes | None, start: int = 0) -> Log:
    records = [(start + position, value) for position, value in enumerate(values)]
    return {0: PartitionLog(start, start + len(values), records)}


def a(number: int) -> bytes:
    return value_of("a", number)


def plain(number: int) -> bytes:
    return value_of("plain", number)


def kinds(verdict: Verdict) -> set[Kind]:
    return {kind for kind, texts in verdict.found.items() if texts}


def test_a_right_history_is_good() -> None:
    sends = [
        ok("a", 0, 0),
        ok("plain", 0, 1),
        Send("a", 1, 0),
        ok("a", 2, 2, above=1),
        Send("a", 3, 0),
        Send("plain", 1, 0, outcome=Outcome.FAILED),
    ]
    verdict = check(sends, log_of(a(0), plain(0), a(2), a(3)), PRODUCERS)
    assert verdict.is_good, verdict
    assert (verdict.records, verdict.acknowledged, verdict.unknown) == (4, 3, 2)
    assert str(verdict) == "good"


def test_duplicates_of_a_plain_producer_are_counted_only() -> None:
    verdict = check([ok("plain", 0, 1)], log_of(plain(0), plain(0), plain(0)), PRODUCERS)
    assert verdict.is_good, verdict
    assert verdict.allowed_duplicates == 2


WRONG: dict[Kind, tuple[list[Send], Log]] = {
    Kind.LOST: ([ok("a", 0, 0), ok("a", 1, 1)], log_of(a(0))),
    Kind.MOVED: ([ok("a", 0, 1), Send("a", 1, 0)], log_of(a(0), a(1))),
    Kind.DUPLICATED: ([ok("a", 0, 0)], log_of(a(0), a(0))),
    Kind.REORDERED: ([Send("a", 0, 0), Send("a", 1, 0)], log_of(a(1), a(0))),
    Kind.PHANTOM: ([ok("a", 0, 0)], log_of(a(0), a(7))),
    Kind.UNDEAD: ([Send("a", 0, 0, outcome=Outcome.FAILED)], log_of(a(0))),
    Kind.TIMELESS: ([ok("b", 0, 1), Send("a", 0, 0, 1)], log_of(a(0), value_of("b", 0))),
    Kind.GAP: ([ok("a", 0, 0), ok("a", 1, 2)], {0: PartitionLog(0, 3, [(0, a(0)), (2, a(1))])}),
}


@pytest.mark.parametrize("kind", WRONG, ids=lambda kind: kind.name)
def test_a_wrong_history_is_found(kind: Kind) -> None:
    sends, log = WRONG[kind]
    verdict = check(sends, log, PRODUCERS)
    assert kinds(verdict) == {kind}, verdict
    assert kind.value in str(verdict)


def test_one_offset_for_two_records_is_found() -> None:
    verdict = check([ok("a", 0, 0), ok("b", 0, 0)], log_of(a(0), value_of("b", 0)), PRODUCERS)
    assert kinds(verdict) == {Kind.SHARED, Kind.MOVED}


def test_a_log_that_ends_too_early_is_found() -> None:
    assert kinds(check([], {0: PartitionLog(0, 3, [])}, PRODUCERS)) == {Kind.GAP}


@pytest.mark.parametrize("value", [None, b"", b"a:0", a(0) + b"x", a(0).replace(b"0", b"1", 1), b"\xff:0:"])
def test_a_damaged_value_is_nobodys(value: bytes | None) -> None:
    assert who_wrote(value) is None
    assert kinds(check([Send("a", 0, 0)], log_of(value), PRODUCERS)) == {Kind.PHANTOM}


def test_a_value_in_another_partition_is_a_phantom() -> None:
    assert kinds(check([Send("a", 0, 1)], log_of(a(0)), PRODUCERS)) == {Kind.PHANTOM}


def test_values_name_their_writer() -> None:
    values = {value_of(producer, number) for producer in "ab" for number in range(500)}
    assert len(values) == 1000
    assert {who_wrote(value) for value in values} == {(p, n) for p in "ab" for n in range(500)}


def _second_look(first: Log, second: Log) -> Verdict:
    memory, verdict = Memory(), Verdict()
    memory.check_log(first, Verdict())
    memory.check_log(second, verdict)
    return verdict


def test_a_log_that_grows_is_good() -> None:
    assert _second_look(log_of(a(0)), log_of(a(0), a(1))).is_good


def test_a_log_that_changes_is_found() -> None:
    assert kinds(_second_look(log_of(a(0), a(1)), log_of(a(0), a(2)))) == {Kind.REWRITTEN}


def test_a_log_that_shrinks_is_found() -> None:
    assert kinds(_second_look(log_of(a(0), a(1)), log_of(a(0)))) == {Kind.SHRUNK}


@pytest.mark.parametrize(
    ("committed", "expected"),
    [({0: 5}, set()), ({0: 7}, set()), ({0: 4}, {Kind.COMMIT_FELL}), ({}, {Kind.COMMIT_FELL})],
)
def test_commits_that_fall_are_found(committed: dict[int, int], expected: set[Kind]) -> None:
    memory, verdict = Memory(), Verdict()
    memory.check_commits(committed, Commits({0: 5}, {0: 9}), verdict)
    assert kinds(verdict) == expected


def test_commits_that_fall_between_looks_are_found() -> None:
    memory, verdict = Memory(), Verdict()
    memory.check_commits({0: 8}, Commits({}, {0: 9}), verdict)
    assert verdict.is_good
    memory.check_commits({0: 7}, Commits({}, {0: 9}), verdict)
    assert kinds(verdict) == {Kind.COMMIT_FELL}


def test_commits_that_nobody_tried_are_found() -> None:
    verdict = Verdict()
    Memory().check_tried({0: 10}, Commits({}, {0: 9}), verdict)
    assert kinds(verdict) == {Kind.COMMIT_INVENTED}


def test_history_gives_what_the_checker_needs() -> None:
    history = History(PRODUCERS)
    first = history.send("a", 0, 0)
    history.acknowledge(first, 3)
    second = history.send("a", 1, 0)
    assert second.above == 3
    history.fail(second)
    history.try_commit({0: 4})
    history.confirm_commit({0: 4})
    history.try_commit({0: 2})
    sends, commits, notes = history.so_far()
    assert [send.outcome for send in sends] == [Outcome.OK, Outcome.FAILED]
    assert commits == Commits({0: 4}, {0: 4})
    assert len(notes) == 1 and "resumed at 2" in notes[0]
    history.acknowledge(second, 9)
    assert sends[1].outcome is Outcome.FAILED, "a copy does not change"
