"""Eight scenarios of twenty seconds, drawn anew each time: the short form of `python -m chaos run`.

They run when all other tests are done, one after the other: each wants the machine for itself.
"""

from __future__ import annotations

import math
import os
import random
from pathlib import Path
from typing import Final

import pytest

from chaos.__main__ import REQUIRE, why_not, write
from chaos.checkers import CHECKERS, Judgement, View
from chaos.gaps import stood_still
from chaos.history import History
from chaos.planted import SHOWN_IN
from chaos.report.text import as_text
from chaos.runner import Options, Result, run
from chaos.scenarios import SCENARIOS, Scenario

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("default"),  # the clients' own
]

DRAWN: Final = 8
SECONDS: Final = 20.0
SECURED_S: Final = 8.0
RATE_MIN: Final = 200.0
"""Acknowledged records a second, at least, while faults are played and the machine does not stand still: a
run that is down shows little."""
COPIED: Final = 0.5
"""How many of the records of a load with transactions: the others are copies, whose clients are told of the
transaction and not of each."""
DOWN: Final = (
    "kill-majority",
    "kill-starting",
    "pause-majority",
    "power-loss",
    "pause-kill",
    "part-kill",
    "ring",
)
"""In these a majority is away for much of the time, or every sync takes 50 ms."""


@pytest.mark.parametrize("name", SCENARIOS)
def test_this_machine_can_play(name: str) -> None:
    one = SCENARIOS[name]
    if why := why_not(one):
        if os.environ.get(REQUIRE) == "all":
            pytest.fail(f"{name} {why}")
        pytest.skip(f"{name} {why}")


def drawn(uid: str) -> list[Scenario]:
    """The scenarios of one run of the tests, the same in every worker."""
    possible = [one for one in SCENARIOS.values() if not why_not(one)]
    return random.Random(uid).sample(possible, min(DRAWN, len(possible)))


def play(options: Options, folder: Path) -> Result:
    """A run that is good; skips when nothing stands against that but a machine that stood still."""
    result = run(options, folder / "data")
    write(result, folder)
    report = as_text(result.history, result.verdict)
    print(report, *result.logs.values(), sep="\n\n")  # pytest shows it when this fails
    not_good = [one for one in result.verdict.findings if one.judgement is not Judgement.GOOD]
    if [finding.name for finding in not_good] == ["goals"] and not not_good[0].count:
        pytest.skip(f"the machine stood still, all else is good: {not_good[0].unfinished}")
    assert result.verdict.judgement is Judgement.GOOD, f"{report}\n\nkept: {folder}"
    return result


@pytest.mark.alone
@pytest.mark.parametrize("place", range(DRAWN))
def test_a_drawn_scenario_is_good(place: int, testrun_uid: str, tmp_path: Path) -> None:
    one = drawn(testrun_uid)[place]
    seed = random.Random(f"{testrun_uid} {place}").randrange(1_000_000)
    seconds = max(SECONDS, one.seconds)
    result = play(Options(scenario=one, seed=seed, seconds=seconds), tmp_path)
    if one.name not in DOWN:
        share = COPIED if one.workload == "transactions" else 1.0
        still = stood_still(result.history, -math.inf, math.inf)
        assert result.history.acknowledged.total() >= share * RATE_MIN * (seconds - still)


@pytest.mark.alone
def test_a_secured_run_is_good(tmp_path: Path) -> None:
    one = SCENARIOS["kill-leader"]
    if why := why_not(one, secured=True):
        pytest.skip(f"{one.name} {why}")
    play(Options(scenario=one, seed=1, seconds=SECURED_S, secured=True), tmp_path)


def test_all_scenarios_of_the_list_are_there() -> None:
    assert {one.number for one in SCENARIOS.values()} == set(range(1, 21))
    assert all(one.what for one in SCENARIOS.values())


def test_the_page_lists_what_there_is() -> None:
    page = (Path(__file__).parents[2] / "docs" / "chaos.md").read_text()
    missing = [name for name in SCENARIOS if f"`{name}`" not in page]
    missing += [name for name in SHOWN_IN if f"| {name} |" not in page]
    missing += [
        holds for holds in (checker(View(History())).holds for checker in CHECKERS) if holds not in page
    ]
    assert not missing
