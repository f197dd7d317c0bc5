"""Which calls were made for the record that is followed."""

from __future__ import annotations

import pytest

from raftlog.dev.seen import Call, picked
from raftlog.dev.walk import PRODUCE, place

WAY = list(range(len(PRODUCE)))
COMMIT, COMMIT_TO = place("Leading.commit"), place("GroupLog.commit_to")
SYNCED, FINISH = place("Driver.synced"), place("Driver.finish")


def without(step: int) -> list[int]:
    return [one for one in WAY if one != step]


@pytest.mark.parametrize(
    ("seen", "taken"),
    [
        pytest.param(WAY, WAY, id="in order"),
        pytest.param([0, 1, 2, *WAY], WAY, id="another request comes before it"),
        pytest.param(
            [*WAY[: COMMIT + 1], FINISH, COMMIT, *WAY[COMMIT_TO:]],
            [*without(COMMIT)[: SYNCED + 1], COMMIT, *WAY[COMMIT_TO:]],
            id="the own disk is done before there is a majority",
        ),
        pytest.param([*without(SYNCED), SYNCED], [*without(SYNCED), SYNCED], id="the own disk is done last"),
        pytest.param([*WAY[:9], *WAY[:3], *WAY[9:], *WAY[:9]], WAY, id="others come after it"),
        pytest.param(WAY[:8], WAY[:8], id="no answer"),
        pytest.param([*WAY[:3], *WAY[7:14], *WAY], WAY, id="the metadata takes an entry before it"),
        pytest.param([*WAY[:3], *WAY[7:]], [], id="nothing was produced"),
    ],
)
def test_each_step_once_and_by_its_time(seen: list[int], taken: list[int]) -> None:
    calls = [Call(step, at) for at, step in enumerate(seen)]
    found = picked(calls)
    assert [call.step for call in found] == taken
    assert [call.at_ns for call in found] == sorted(call.at_ns for call in found)


def test_the_commit_that_counts_is_the_one_before_the_answer() -> None:
    seen = [*WAY[: COMMIT + 1], FINISH, COMMIT, *WAY[COMMIT_TO:]]
    found = {call.step: call.at_ns for call in picked([Call(step, at) for at, step in enumerate(seen)])}
    assert found[COMMIT] == COMMIT + 2
