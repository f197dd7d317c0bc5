"""A user's program passes strict type checks, and mistakes in one are found."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

SAMPLE = Path(__file__).parent / "sample"
MYPY_CACHE = str(Path(__file__).parents[2] / ".mypy_cache" / "users")
"""Shared with tests/testing/test_testing_typing.py: what is imported is checked once."""
APP, WRONG = SAMPLE / "app.py", SAMPLE / "wrong.py"


def _wrong_lines() -> set[int]:
    lines = WRONG.read_text(encoding="utf-8").splitlines()
    return {number for number, line in enumerate(lines, 1) if line.endswith("# wrong")}


def _found(output: str) -> set[tuple[str, int]]:
    """File and line of each error that a type checker prints."""
    errors = re.findall(r"(\w+\.py):(\d+):(?:\d+ -)? error", output)
    return {(name, int(line)) for name, line in errors}


EXPECTED = {("wrong.py", line) for line in _wrong_lines()}


@pytest.mark.slow
@pytest.mark.xdist_group("mypy")
def test_mypy_finds_the_mistakes_alone() -> None:
    command = [sys.executable, "-m", "mypy", "--strict", "--cache-dir", MYPY_CACHE, str(APP), str(WRONG)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert _found(done.stdout) == EXPECTED, done.stdout + done.stderr


@pytest.mark.slow
@pytest.mark.long
def test_pyright_finds_the_mistakes_alone() -> None:
    command = [sys.executable, "-m", "pyright", "--pythonpath", sys.executable, str(APP), str(WRONG)]
    done = subprocess.run(command, capture_output=True, text=True)
    if "errors" not in done.stdout:
        pytest.skip(f"pyright cannot run here: {done.stderr[-200:]}")
    assert _found(done.stdout) == EXPECTED, done.stdout
