"""A user's project passes the type checkers at their strictest, and its own tests."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import tests.conftest
from tests.client.test_client_typing import MYPY_CACHE
from tests.conftest import PLUGIN

ROOT = Path(__file__).parents[2]


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """The project where a user has it: in a folder of its own."""
    return Path(shutil.copytree(Path(__file__).parent / "sample_project", tmp_path / "project"))


def run(project: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    paths = {"PYTHONPATH": f"{ROOT}{os.pathsep}{project}", "MYPYPATH": str(ROOT)}
    command = [sys.executable, "-m", *arguments]
    return subprocess.run(command, cwd=project, env={**os.environ, **paths}, capture_output=True, text=True)


@pytest.mark.slow
@pytest.mark.xdist_group("mypy")
def test_mypy_has_nothing_to_say(project: Path) -> None:
    done = run(project, "mypy", "--strict", "--cache-dir", MYPY_CACHE, "orders", "tests")
    assert done.returncode == 0, done.stdout


@pytest.mark.slow
@pytest.mark.long
def test_pyright_has_nothing_to_say(project: Path) -> None:
    done = run(project, "pyright", "--pythonpath", sys.executable, "orders", "tests")
    if "errors" not in done.stdout:
        pytest.skip(f"pyright cannot run here: {done.stderr[-200:]}")
    assert done.returncode == 0, done.stdout


def test_its_tests_pass(project: Path) -> None:
    plugin = ["-p", PLUGIN] if PLUGIN in tests.conftest.pytest_plugins else []
    done = run(project, "pytest", "-q", *plugin, "tests")
    assert done.returncode == 0, done.stdout
    assert "4 passed" in done.stdout
