"""The examples of docs/testing.md, run as they stand there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import tests.conftest
from tests.conftest import PLUGIN

ROOT = Path(__file__).parents[2]
EXAMPLES = re.findall(r"```python\n(.*?)```", (ROOT / "docs/testing.md").read_text(), re.DOTALL)


def test_the_examples_pass(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    pytester.makeini("[pytest]\ntrio_mode = true\n")
    tests_there = [example for example in EXAMPLES if "def test_" in example]
    (conftest,) = (example for example in EXAMPLES if "def test_" not in example)
    pytester.makeconftest(conftest)
    pytester.makepyfile(**{f"test_{number}": example for number, example in enumerate(tests_there)})
    plugin = ["-p", PLUGIN] if PLUGIN in tests.conftest.pytest_plugins else []
    result = pytester.runpytest_subprocess(*plugin)
    result.assert_outcomes(passed=len(tests_there))
