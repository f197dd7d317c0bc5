"""The stop-watch of a run, and what the machine's own standstill does to its figures."""

from __future__ import annotations

import pytest

from chaos.gaps import (
    in_time,
    longest_gap,
    stood_still,
    terms_since,
    usual_latency,
    worst_commit_gap,
    worst_gap,
)
from chaos.goals import Goals
from chaos.history import Commit, Goal, History, Led, Outcome, Send, Stall


@pytest.mark.parametrize(
    ("moments", "expected"),
    [
        ([], (10.0, 0.0)),
        ([1.0, 2.0, 9.5], (7.5, 2.0)),
        ([9.5, 1.0, 2.0], (7.5, 2.0)),
        ([-1.0, 11.0], (10.0, 0.0)),
        ([6.0], (6.0, 0.0)),
        ([4.0], (6.0, 4.0)),
    ],
)
def test_the_longest_gap_counts_both_ends(moments: list[float], expected: tuple[float, float]) -> None:
    assert longest_gap(moments, 0.0, 10.0) == expected


def test_a_partition_that_waits_is_not_hidden_by_one_that_goes_on() -> None:
    history = History()
    for partition, moments in ((0, [at / 10 for at in range(101)]), (1, [0.5, 4.5, 9.0])):
        for at in moments:
            send = Send(client="a", log="log", partition=partition, value=f"a:{at}", began=at, ended=at)
            send.outcome = Outcome.OK
            history.operations.append(send)
    assert worst_gap(history, 0.0, 10.0) == (4.5, 4.5)


def test_what_was_not_acknowledged_ends_no_gap() -> None:
    history = History()
    for at, outcome in ((1.0, Outcome.OK), (5.0, Outcome.UNKNOWN), (9.0, Outcome.OK)):
        history.operations.append(
            Send(client="a", log="log", partition=0, value=f"a:{at}", began=at, ended=at, outcome=outcome)
        )
    assert worst_gap(history, 0.0, 10.0) == (8.0, 1.0)


def test_a_partition_of_a_group_that_nobody_commits_is_seen() -> None:
    history = History()
    for partition, moments in ((0, [1.0, 2.0, 3.0]), (1, [1.0])):
        for at in moments:
            commit = Commit(client="m", group="g", log="log", partition=partition, offset=1, ended=at)
            commit.outcome = Outcome.OK
            history.operations.append(commit)
    assert worst_commit_gap(history, 0.0, 4.0) == (3.0, 1.0)


def test_what_records_took_is_told_by_partition() -> None:
    history = History()
    for partition, took in ((0, 0.1), (0, 0.2), (0, 0.9), (1, 5.0)):
        send = Send(client="a", log="log", partition=partition, value="a:1", began=1.0, ended=1.0 + took)
        send.outcome = Outcome.OK
        history.operations.append(send)
    assert usual_latency(history, 0.0, 10.0, [("log", 0)]) == pytest.approx(0.2)
    assert usual_latency(history, 2.0, 10.0, [("log", 0)]) is None


@pytest.mark.parametrize(
    ("told", "terms", "elections"),
    [
        ([(1, 1, 0.0)], 0, 0),
        ([(1, 1, 0.0), (2, 2, 6.0)], 1, 1),
        ([(1, 1, 0.0), (2, 2, 4.0), (1, 3, 6.0)], 1, 0),  # it goes back to its home
        ([(1, 1, 0.0), (-1, 1, 6.0), (1, 2, 7.0)], 1, 1),  # nobody led, so that it was elected
        ([(1, 1, 0.0), (2, 4, 6.0), (1, 6, 8.0)], 5, 4),
    ],
)
def test_elections_are_counted_and_a_return_is_none(
    told: list[tuple[int, int, float]], terms: int, elections: int
) -> None:
    history = History()
    for broker, epoch, at in told:
        led = Led(client="w", log="log", partition=0, broker=broker, epoch=epoch, began=at, ended=at)
        history.operations.append(led)
    assert terms_since(history, 5.0) == terms
    assert terms_since(history, 5.0, {("log", 0): 1}) == elections


def still(*spans: tuple[float, float]) -> History:
    history = History()
    for began, ended in spans:
        history.operations.append(Stall(client="machine", what="clock", began=began, ended=ended))
    return history


@pytest.mark.parametrize(
    ("spans", "expected"),
    [
        ([], 0.0),
        ([(1.0, 2.0), (3.0, 3.5)], 1.5),
        ([(1.0, 2.0), (1.5, 2.5)], 1.5),  # what stands still twice at once does so once
        ([(-5.0, 1.0), (9.0, 20.0), (30.0, 40.0)], 2.0),
    ],
)
def test_the_machine_stands_still_within_a_span(spans: list[tuple[float, float]], expected: float) -> None:
    assert stood_still(still(*spans), 0.0, 10.0) == expected


def test_a_limit_is_missed_for_good_where_the_machine_explains_less() -> None:
    assert in_time(5.0, 5.0, 0.0) is Outcome.OK
    assert in_time(5.1, 5.0, 0.0) is Outcome.FAILED
    assert in_time(6.0, 5.0, 0.9) is Outcome.FAILED
    assert in_time(6.0, 5.0, 1.0) is Outcome.UNKNOWN


def outcome_of(history: History) -> Outcome:
    (goal,) = history.of(Goal)
    return goal.outcome


def test_a_goal_of_time_counts_the_standstill_of_its_own_span_only() -> None:
    for spans, outcome in (
        ([], Outcome.FAILED),
        ([(0.0, 100.0)], Outcome.FAILED),
        ([(101.0, 102.5)], Outcome.UNKNOWN),
    ):
        history = still(*spans)
        Goals(history).within("it is fast", 5.0, 6.0, 100.0)
        assert outcome_of(history) is outcome


@pytest.mark.parametrize(
    ("spans", "outcome"),
    [
        ([], Outcome.FAILED),
        (
            [(at + 0.1, at + 0.3) for at in range(-9, 0)],
            Outcome.FAILED,
        ),  # a busy machine makes nobody look dead
        ([(-5.0, -4.2)], Outcome.UNKNOWN),
    ],
)
def test_an_election_is_the_machines_where_it_stood_still_for_long(
    spans: list[tuple[float, float]], outcome: Outcome
) -> None:
    history = still(*spans)
    Goals(history).at_most("one election", 1, 2, -9.0)
    assert outcome_of(history) is outcome


def test_a_comparison_needs_a_machine_that_goes_on() -> None:
    for spans, outcome in (([], Outcome.FAILED), ([(-5.0, -4.0)], Outcome.UNKNOWN)):
        history = still(*spans)
        Goals(history).ratio("no slower", 2.0, 3.0, "", -10.0)
        assert outcome_of(history) is outcome
