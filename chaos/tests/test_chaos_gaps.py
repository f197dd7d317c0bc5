"""The stop-watch of a run."""

from __future__ import annotations

import pytest

from chaos.gaps import longest_gap, worst_gap
from chaos.history import History, Outcome, Send


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
