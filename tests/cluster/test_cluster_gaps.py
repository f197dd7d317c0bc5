"""The stop-watch of the campaigns."""

from __future__ import annotations

import pytest

from tests.cluster.gaps import Ack, gaps, longest_gap


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
    acks = [Ack(at / 10, "a", 0) for at in range(101)] + [
        Ack(0.5, "a", 1),
        Ack(4.5, "a", 1),
        Ack(9.0, "a", 1),
    ]
    assert gaps(acks, 0.0, 10.0, ["a"], 2).cluster == (4.5, 4.5)


def test_a_client_that_waits_is_not_hidden_by_another() -> None:
    acks = [Ack(float(at), "a", 0) for at in range(11)] + [Ack(7.0, "b", 0)]
    found = gaps(acks, 0.0, 10.0, ["a", "b"], 1)
    assert found.clients == {"a": (1.0, 9.0), "b": (7.0, 0.0)}
    assert found.cluster == (1.0, 9.0)
