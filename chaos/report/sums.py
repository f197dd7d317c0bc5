"""What many runs came to, as tables for docs/chaos.md.

A place is a folder, of which every verdict.json below counts, or a file that `keep` made of such folders:
runs whose folders are gone are counted with those that are there.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from chaos.history import Outcome

Run = dict[str, Any]
"""What `report.text.as_data` made."""


def verdicts(places: Iterable[Path]) -> list[Run]:
    """Every run that lies in these places, once: a run is known by its scenario, its seed, when it
    was and whether it was secured."""
    found: dict[tuple[object, ...], Run] = {}
    for place in places:
        if place.is_file():
            runs = [json.loads(line) for line in place.read_text().splitlines()]
        else:
            runs = [json.loads(path.read_text()) for path in sorted(place.rglob("verdict.json"))]
        for run in runs:
            found[run["scenario"], run.get("seed"), run.get("at"), run.get("secured")] = run
    return list(found.values())


def verdict_of(folder: Path) -> str:
    """What the run in this folder came to; empty when it has not ended."""
    return next((str(run["verdict"]) for run in verdicts([folder])), "")


def hours_of(places: Iterable[Path]) -> float:
    """How long the histories in these places are."""
    return sum(float(run.get("length_s", 0.0)) for run in verdicts(places)) / 3600


def keep(places: Iterable[Path], file: Path) -> None:
    """Write the runs of these places into one file, a line each."""
    lines = [json.dumps(run) for run in verdicts(places)]
    file.write_text("\n".join(lines) + "\n")


def sum_up(places: Iterable[Path]) -> str:
    """All runs, then scenario by scenario, then goal by goal with the worst figure."""
    runs = verdicts(places)
    return "\n\n".join([_in_all(runs), _by_scenario(runs), _by_goal(runs)])


def _in_all(runs: Sequence[Run]) -> str:
    faults, violations, judgements = Counter[str](), Counter[str](), Counter[str]()
    for run in runs:
        judgements[run["verdict"]] += 1
        faults.update(run["faults"])
        violations.update({one["name"]: one["violations"] for one in run["properties"]})
    numbers = {name: sum(run[name] for run in runs) for name in ("operations", "acknowledged", "read")}
    rows = [
        ("runs", _listed(judgements)),
        ("of them secured", sum(run.get("secured", False) for run in runs)),
        ("commits", ", ".join(sorted({run["commit"] for run in runs}))),
        ("hours of histories", f"{sum(run.get('length_s', 0.0) for run in runs) / 3600:.2f}"),
        (
            "hours in which the machine stood still",
            f"{sum(run.get('still_s', 0.0) for run in runs) / 3600:.2f}",
        ),
        ("hours of faults", f"{sum(run['seconds'] for run in runs) / 3600:.2f}"),
        *((name, f"{count:,}") for name, count in numbers.items()),
        ("faults", _listed(faults)),
        *((name, f"{count:,}") for name, count in violations.items()),
    ]
    return _table(("what", "how many"), rows)


def _by_scenario(runs: Sequence[Run]) -> str:
    ours: dict[str, list[Run]] = defaultdict(list)
    for run in runs:
        ours[run["scenario"]].append(run)
    rows = [
        (
            name,
            _listed(Counter(run["verdict"] for run in each)),
            sum(run.get("rounds", 0) for run in each),
            f"{sum(run['acknowledged'] for run in each):,}",
        )
        for name, each in sorted(ours.items())
    ]
    return _table(("scenario", "runs", "rounds", "acknowledged"), rows)


def _by_goal(runs: Sequence[Run]) -> str:
    """Goals of a kind are told by what they ask for; those without a figure have none."""
    goals: dict[str, list[Mapping[str, Any]]] = defaultdict(list)
    for run in runs:
        for goal in run.get("goals", ()):
            goals[goal["what"]].append(goal)
    rows = []
    for what, each in sorted(goals.items()):
        outcomes = Counter(goal["outcome"] for goal in each)
        worst = max((goal["measured"] for goal in each if goal["outcome"] != "unknown"), default=-1.0)
        counts = [outcomes[one.value] for one in (Outcome.OK, Outcome.FAILED, Outcome.UNKNOWN)]
        rows.append((what, *counts, "" if worst < 0 else f"{worst:g}"))
    return _table(("goal", "met", "missed", "unknown", "worst figure that is known"), rows)


def _listed(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {name}" for name, count in sorted(counts.items()))


def _table(heads: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    lines = [f"| {' | '.join(map(str, cells))} |" for cells in (heads, *rows)]
    return "\n".join([lines[0], "|---" * len(heads) + "|", *lines[1:]])
