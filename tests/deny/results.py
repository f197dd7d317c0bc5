"""What came of a piece, and of many: an hour may be played in pieces, by one command or by several."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

SHOWN_MAX = 10
"""Violations of a result that are told: one bug has hundreds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """Of one register, or of several together."""

    register: str
    seed: int
    seconds: float
    calls: int
    """Of the one who is denied."""
    checks: int
    """Those of them that were begun while a deny was surely in force: none may succeed."""
    succeeded: int
    changes: int
    """That have returned."""
    unknown: int
    slowest: float
    faults: dict[str, int]
    violations: list[str]

    def told(self) -> str:
        faults = ", ".join(f"{count} {kind}" for kind, count in sorted(self.faults.items()))
        lines = [
            f"{self.register}, seed {self.seed}, {self.seconds:.0f} s: {self.changes} changes returned, the"
            f" slowest after {self.slowest:.2f} s, {self.unknown} outcomes unknown; {self.calls} calls,"
            f" {self.succeeded} of them succeeded, {self.checks} were begun under a deny;"
            f" {sum(self.faults.values())} faults ({faults}); {len(self.violations)} violations",
            *self.violations[:SHOWN_MAX],
        ]
        return "\n  ".join(lines)


def add_to(file: Path, result: Result) -> None:
    with file.open("a") as opened:
        opened.write(json.dumps(asdict(result)) + "\n")


def total_of(results: Iterable[Result], file: Path | None) -> Result:
    """Of these, or of all that the file has, which has these too."""
    found = list(results)
    if file is not None:
        rows = [json.loads(line) for line in file.read_text().splitlines()]
        found = [Result(**row) for row in rows]
    faults: Counter[str] = Counter()
    for each in found:
        faults.update(each.faults)
    return Result(
        register=f"all {len(found)} pieces",
        seed=found[0].seed,
        seconds=sum(each.seconds for each in found),
        calls=sum(each.calls for each in found),
        checks=sum(each.checks for each in found),
        succeeded=sum(each.succeeded for each in found),
        changes=sum(each.changes for each in found),
        unknown=sum(each.unknown for each in found),
        slowest=max(each.slowest for each in found),
        faults=dict(faults),
        violations=[line for each in found for line in each.violations],
    )
