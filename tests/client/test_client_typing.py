"""A user's program passes strict type checks."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

SAMPLE = Path(__file__).parent / "sample" / "app.py"


@pytest.mark.slow
def test_mypy_has_nothing_to_say(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "mypy", "--strict", "--cache-dir", str(tmp_path), str(SAMPLE)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


@pytest.mark.slow
def test_pyright_has_nothing_to_say() -> None:
    command = [sys.executable, "-m", "pyright", "--pythonpath", sys.executable, str(SAMPLE)]
    done = subprocess.run(command, capture_output=True, text=True)
    if "errors" not in done.stdout:
        pytest.skip(f"pyright cannot run here: {done.stderr[-200:]}")
    assert done.returncode == 0, done.stdout
