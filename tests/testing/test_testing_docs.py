"""The examples of docs/testing.md, run as they stand there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import tests.conftest
from tests.conftest import PLUGIN

ROOT = Path(__file__).parents[2]
EXAMPLES = re.findall(r"```python\n(.*?)```", (ROOT / "docs/testing.md").read_text(), re.DOTALL)
ASYNCIO = "@pytest.mark.asyncio"


def _plugin() -> list[str]:
    return ["-p", PLUGIN] if PLUGIN in tests.conftest.pytest_plugins else []


def test_the_examples_pass(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    pytester.makeini("[pytest]\ntrio_mode = true\n")
    tests_there = [example for example in EXAMPLES if "def test_" in example and ASYNCIO not in example]
    (conftest,) = (example for example in EXAMPLES if "def test_" not in example)
    pytester.makeconftest(conftest)
    pytester.makepyfile(**{f"test_{number}": example for number, example in enumerate(tests_there)})
    result = pytester.runpytest_subprocess(*_plugin())
    result.assert_outcomes(passed=sum(example.count("def test_") for example in tests_there))


def test_the_example_for_asyncio_passes(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    (example,) = (example for example in EXAMPLES if ASYNCIO in example)
    pytester.makepyfile(example)
    pytester.runpytest_subprocess("-p", "no:trio", *_plugin()).assert_outcomes(passed=1)
