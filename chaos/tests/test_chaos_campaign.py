"""A campaign: what it draws, and that it goes on where it was."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import pytest

from chaos.__main__ import main, why_not
from chaos.campaign import SECONDS, Campaign, Drawn, draw
from chaos.history import Goal, Outcome
from chaos.report.sums import hours_of, keep, sum_up, verdict_of
from chaos.scenarios import SCENARIOS

ALL = list(SCENARIOS.values())


def test_each_turn_goes_through_all_scenarios_in_another_order() -> None:
    count = len(ALL)
    turns = [[draw(ALL, 7, count * turn + place) for place in range(count)] for turn in range(3)]
    names = [[one.scenario for one in turn] for turn in turns]
    assert all(set(each) == set(SCENARIOS) for each in names)
    assert names[0] != names[1] != names[2]
    assert len({one.seed for turn in turns for one in turn}) == 3 * count
    assert all(SCENARIOS[one.scenario].seconds <= one.seconds <= SECONDS[1] for turn in turns for one in turn)
    assert draw(ALL, 7, 5) == draw(ALL, 7, 5) != draw(ALL, 8, 5)


class Played(Campaign):
    """Whose runs are half an hour each, and take no time."""

    verdict = "good"

    def _run(self, drawn: Drawn) -> str:
        played(self._out / drawn.folder / drawn.scenario, drawn.scenario, self.verdict)
        return self.verdict


def played(folder: Path, scenario: str, judgement: str, goals: Sequence[Goal] = ()) -> None:
    """What a run of half an hour leaves."""
    folder.mkdir(parents=True)
    verdict = {
        "verdict": judgement,
        "scenario": scenario,
        "seed": 7,
        "at": str(folder),
        "rounds": 3,
        "goals": [
            {"what": goal.what, "outcome": goal.outcome.value, "measured": goal.measured} for goal in goals
        ],
        "commit": "abc",
        "seconds": 20.0,
        "length_s": 1800.0,
        "operations": 2_000,
        "acknowledged": 1_000,
        "read": 1_000,
        "faults": {"kill": 2},
        "properties": [{"name": "lost", "violations": int(judgement == "wrong")}],
    }
    (folder / "verdict.json").write_text(json.dumps(verdict))


def play(kind: type[Campaign], out: Path, hours: float) -> tuple[Campaign, list[str]]:
    said: list[str] = []
    campaign = kind(ALL, 7, out, hours=hours, say=said.append)
    campaign.play(1)
    return campaign, said


def test_it_ends_with_enough_and_goes_on_where_it_was(tmp_path: Path) -> None:
    _, said = play(Played, tmp_path, 1.0)
    assert [line[:4] for line in said] == ["0000", "0001"]
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("verdict.json")}
    _, said = play(Played, tmp_path, 2.0)
    assert [line[:4] for line in said] == ["0000", "0001", "0002", "0003"]
    assert all(path.stat().st_mtime_ns == at for path, at in before.items())
    assert hours_of([tmp_path]) == 2.0
    summed = sum_up([tmp_path])
    for name, value in {"runs": "4 good", "acknowledged": "4,000", "faults": "8 kill", "lost": "0"}.items():
        assert re.search(rf"^\| {name} \| {value} \|$", summed, re.MULTILINE), summed


def test_what_is_not_good_is_named_also_when_it_goes_on(tmp_path: Path) -> None:
    class Wrong(Played):
        verdict = "wrong"

    for _ in range(2):
        campaign, _ = play(Wrong, tmp_path, 0.5)
        assert campaign.bad == [draw(ALL, 7, 0)]
    assert verdict_of(tmp_path / "0000") == "wrong"
    assert "| lost | 1 |" in sum_up([tmp_path])


def test_what_is_played_elsewhere_counts(tmp_path: Path) -> None:
    earlier, file, out = tmp_path / "earlier", tmp_path / "kept.jsonl", tmp_path / "out"
    played(earlier / "0000" / "kill-leader", "kill-leader", "good")
    keep([earlier], file)
    said: list[str] = []
    Played(ALL, 7, out, hours=1, say=said.append, earlier=[file]).play(1)
    assert [line[:4] for line in said] == ["0000"]  # the other half of the hour
    assert hours_of([file, out]) == 1.0
    assert hours_of([earlier, file]) == 0.5  # a run counts once, wherever it is found
    assert "| runs | 2 good |" in sum_up([file, out])
    assert "| of them secured | 0 |" in sum_up([file, out])


def test_sums_are_told_by_scenario_and_by_goal(tmp_path: Path) -> None:
    def goal(measured: float, outcome: Outcome) -> Goal:
        return Goal(client="chaos", what="fast", measured=measured, outcome=outcome)

    told = [goal(0.5, Outcome.OK), goal(9.0, Outcome.UNKNOWN)]
    played(tmp_path / "a", "kill-leader", "unknown", told)
    played(tmp_path / "b", "kill-leader", "good", [goal(1.5, Outcome.OK)])
    summed = sum_up([tmp_path])
    assert "| kill-leader | 1 good, 1 unknown | 6 | 2,000 |" in summed
    assert "| fast | 2 | 0 | 1 | 1.5 |" in summed


def test_no_run_begins_after_its_time(tmp_path: Path) -> None:
    said: list[str] = []
    for until in (0.0, time.monotonic() - 1):
        Played(ALL, 7, tmp_path, hours=1, until=until, say=said.append).play(2)
    assert said == []


@pytest.mark.parametrize("secured", [[], ["--secured"]])
def test_the_command_says_what_is_played(
    secured: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commands: list[list[str]] = []

    class Run:
        """A run that ends at once, and is good."""

        def __init__(self, command: Sequence[str], **_: object) -> None:
            commands.append(list(command))
            options = dict(pairwise(command))
            played(Path(options["--out"]) / "run", options["--scenario"], "good")

        def wait(self, timeout: float | None = None) -> int:
            return 0

    monkeypatch.setattr("subprocess.Popen", Run)
    arguments = ["--hours", "0.5", "--seed", "7", "--rate", "120", "--out", str(tmp_path), *secured]
    monkeypatch.setattr("sys.argv", ["chaos", "campaign", *arguments])
    monkeypatch.setattr("signal.signal", lambda *_: None)
    assert main() == 0
    (command,) = commands
    options = dict(pairwise(command))
    drawn = draw([one for one in ALL if not why_not(one)], 7, 0)
    assert (options["--scenario"], options["--seed"]) == (drawn.scenario, str(drawn.seed))
    assert (options["--time"], options["--rate"]) == (f"{drawn.seconds:g}", "120")
    assert ("--secured" in command) == bool(secured)
