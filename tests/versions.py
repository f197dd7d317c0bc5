"""`python -m tests.versions`: the fast tests with the lowest versions that pyproject.toml allows, and with
every Python of its classifiers that this machine has.

`make test-all` ends with it. A virtual environment each is made in the folder that is given, and made again
when pyproject.toml has changed.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any, Final

HERE: Final = Path(__file__).parent.parent
NEEDED: Final = (
    "pytest",
    "pytest-trio",
    "pytest-xdist",
    "hypothesis",
    "confluent-kafka",
    "kafka-python",
    "prometheus-client",
)
"""What the fast tests need beside the package and its registry; always the newest."""
TESTS: Final = ("-q", "-n", "auto", "-m", "not slow", "tests/unit", "tests/memory")


def lowest(requirements: list[str]) -> list[str]:
    """Each requirement with its lowest version only. Raises ValueError where none is named."""
    pinned = []
    for requirement in requirements:
        match = re.fullmatch(r"([\w.-]+)\s*(?:>=|~=|==)\s*([\w.]+)", requirement)
        if match is None:
            raise ValueError(f"{requirement!r} names no lowest version")
        pinned.append(f"{match[1]}=={match[2]}")
    return pinned


def pythons(classifiers: list[str]) -> dict[str, str]:
    """The interpreters on this machine for the minor versions that are named, by version."""
    found = {}
    for classifier in classifiers:
        match = re.fullmatch(r"Programming Language :: Python :: (3\.\d+)", classifier)
        path = match and interpreter(match[1])
        if match and path:
            found[match[1]] = path
    return found


def interpreter(version: str) -> str | None:
    """The path of a Python that starts and is of this version: from PATH, or from pyenv's folder."""
    folder = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    candidates = [sys.executable, shutil.which(f"python{version}")]
    candidates += map(str, sorted(folder.glob(f"{version}.*/bin/python"), reverse=True))
    question = "import sys, ensurepip; print('%d.%d' % sys.version_info[:2])"
    for path in filter(None, candidates):
        answer = subprocess.run([path, "-c", question], capture_output=True, text=True)
        if answer.returncode == 0 and answer.stdout.strip() == version:
            return path
    return None


def environment(folder: Path, python: str, requirements: list[str]) -> str:
    """The Python of a virtual environment with these packages and this tree."""
    wanted = hashlib.sha256("\n".join([python, *requirements]).encode()).hexdigest()
    inside, mark = str(folder / "bin" / "python"), folder / "made-of"
    if not mark.exists() or mark.read_text() != wanted:
        subprocess.run([python, "-m", "venv", "--clear", folder], check=True)
        pip = [inside, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        subprocess.run([*pip, *requirements], check=True)
        subprocess.run([*pip, "--no-deps", "--editable", HERE], check=True)
        mark.write_text(wanted)
    return inside


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.versions", description=__doc__)
    parser.add_argument("--folder", type=Path, default=HERE / ".venv" / "versions")
    options = parser.parse_args()
    project: dict[str, Any] = tomllib.loads((HERE / "pyproject.toml").read_text())["project"]
    found = pythons(project["classifiers"])
    dependencies: list[str] = [*project["dependencies"], *project["optional-dependencies"]["registry"]]
    runs = {f"{version}-newest": (path, dependencies) for version, path in found.items()}
    oldest = min(found, key=lambda version: int(version.partition(".")[2]))
    runs.pop(f"{oldest}-newest")  # what every other test runs with
    runs[f"{oldest}-lowest"] = (found[oldest], lowest(dependencies))
    failed = []
    for name, (python, requirements) in runs.items():
        inside = environment(options.folder / name, python, [*requirements, *NEEDED])
        print(f"-- the fast tests, Python and dependencies: {name}", flush=True)
        cache = ("-o", f"cache_dir={options.folder / name / 'cache'}")
        if subprocess.run([inside, "-m", "pytest", *TESTS, *cache], cwd=HERE).returncode:
            failed.append(name)
    print(f"failed: {', '.join(failed)}" if failed else f"passed: {', '.join(runs)}")
    return bool(failed)


if __name__ == "__main__":
    sys.exit(main())
