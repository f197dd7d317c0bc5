"""Each scenario of transactions and of compaction has a test, which carries its number.

A test says its number in its name (`test_scenario_7_…`, `test_scenarios_4_and_8_…`) or in a docstring that
begins with it ("Scenario 7.", "Scenarios 49, 53 and 60."). Other lists of scenarios are numbered, too: only
the files of this list are looked at.
"""

from __future__ import annotations

import re
from collections import defaultdict
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[1]
FILES: Final = re.compile(
    r"transaction|exactly_once|compact|copies|verification|handlers|cleaned|cleaner|metadata|groups"
)
SCENARIOS: Final = (*range(1, 64), 78, 79, 80)

MISSING: Final = {
    44: "is of groups with the protocol of KIP-848, which are not there",
    78: "is a campaign, which is run by hand: ten minutes, and a million offsets",
}
"""Those that may lack a test, and why. One that gets its test leaves this list."""

_NAMED: Final = re.compile(r"def test_\w*?scenarios?_((?:\d+_(?:and_|to_)?)+)")
_SAID: Final = re.compile(r'"""Scenarios? ((?:\d+(?:, | and | to )?)+)')


def numbers_in_tests() -> dict[int, set[str]]:
    found: dict[int, set[str]] = defaultdict(set)
    for path in sorted(ROOT.glob("**/*.py")):
        if not FILES.search(path.name):
            continue
        source = path.read_text()
        for match in (*_NAMED.finditer(source), *_SAID.finditer(source)):
            for number in map(int, re.findall(r"\d+", match[1])):
                found[number].add(path.name)
    return found


def test_every_scenario_has_a_test() -> None:
    found = numbers_in_tests()
    assert [number for number in SCENARIOS if number not in found and number not in MISSING] == []
