"""A user's project passes the type checkers at their strictest, and its own tests."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import tests.conftest
from tests.conftest import PLUGIN

ROOT = Path(__file__).parents[2]
PROJECT = Path(__file__).parent / "sample_project"
ENVIRONMENT = {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{PROJECT}", "MYPYPATH": str(ROOT)}


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", *arguments]
    return subprocess.run(command, cwd=PROJECT, env=ENVIRONMENT, capture_output=True, text=True)


@pytest.mark.slow
def test_mypy_has_nothing_to_say(tmp_path: Path) -> None:
    done = run("mypy", "--strict", "--cache-dir", str(tmp_path), "orders", "tests")
    assert done.returncode == 0, done.stdout


@pytest.mark.slow
def test_pyright_has_nothing_to_say() -> None:
    done = run("pyright", "--pythonpath", sys.executable, "orders", "tests")
    if "errors" not in done.stdout:
        pytest.skip(f"pyright cannot run here: {done.stderr[-200:]}")
    assert done.returncode == 0, done.stdout


def test_its_tests_pass() -> None:
    plugin = ["-p", PLUGIN] if PLUGIN in tests.conftest.pytest_plugins else []
    done = run("pytest", "-q", "-p", "no:cacheprovider", *plugin, "tests")
    assert done.returncode == 0, done.stdout
    assert "4 passed" in done.stdout
