"""`python -m tests.versions`: the fast tests with the lowest versions that pyproject.toml allows, and with
every Python of its classifiers that this machine has; and those of the record codec, when it is compiled.

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
import sysconfig
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
CODEC_TESTS: Final = (
    "-q",
    *("-n", "auto"),
    *("tests/property/test_records_roundtrip.py", "tests/unit/test_records_record.py"),
    *("tests/unit/test_client_assignment.py", "tests/unit/test_client_accumulator.py"),
    *("tests/memory/test_client_deserializers.py", "tests/memory/test_client_transactions.py"),
)
"""The codec's own, and those of its users in the client."""


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
    """The Python of a virtual environment with these packages and this tree, as it is whenever it runs."""
    wanted = hashlib.sha256("\n".join([python, *requirements]).encode()).hexdigest()
    folder = folder.absolute()  # what runs there may run in another folder
    inside, mark = str(folder / "bin" / "python"), folder / "made-of"
    if not mark.exists() or mark.read_text() != wanted:
        subprocess.run([python, "-m", "venv", "--clear", folder], check=True)
        pip = [inside, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        subprocess.run([*pip, *requirements], check=True)
        subprocess.run([*pip, "--no-deps", "--editable", HERE], check=True)
        mark.write_text(wanted)
    return inside


def codec_compiled(folder: Path, python: str) -> bool:
    """Whether the codec passes its tests when it is compiled. This environment gets the tree as it is now,
    and the tests are copied: beside the tree they would import that."""
    tests = folder / "tree"
    shutil.rmtree(tests, ignore_errors=True)
    shutil.copytree(HERE / "tests", tests / "tests")
    shutil.copy(HERE / "pyproject.toml", tests)
    pip = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    command = [*pip, "--no-deps", "--force-reinstall", HERE]
    subprocess.run(command, env=os.environ | {"RAFTLOG_COMPILE": "1"}, check=True)
    print("-- tests of the codec, compiled", flush=True)
    environ = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    told = subprocess.run(
        [python, "-m", "raftlog", "--version"], cwd=tests, env=environ, capture_output=True, text=True
    )
    print(told.stdout.strip(), flush=True)
    passed = subprocess.run([python, "-m", "pytest", *CODEC_TESTS], cwd=tests, env=environ)
    return "compiled codec" in told.stdout and not passed.returncode


def compiler() -> str | None:
    """The C compiler that Python's extensions are made with here, if there is one."""
    return shutil.which((sysconfig.get_config_var("CC") or "cc").split()[0])


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
    names, failed = list(runs), []
    for name, (python, requirements) in runs.items():
        inside = environment(options.folder / name, python, [*requirements, *NEEDED])
        print(f"-- the fast tests, Python and dependencies: {name}", flush=True)
        cache = ("-o", f"cache_dir={options.folder / name / 'cache'}")
        if subprocess.run([inside, "-m", "pytest", *TESTS, *cache], cwd=HERE).returncode:
            failed.append(name)
    if compiler() is None:
        print("-- the compiled codec: skipped, there is no C compiler", flush=True)
        if os.environ.get("RAFTLOG_TEST_REQUIRE") == "all":
            failed.append("compiled")
    else:
        folder = options.folder / "compiled"
        passed = codec_compiled(folder, environment(folder, sys.executable, [*dependencies, *NEEDED]))
        (names if passed else failed).append("compiled")
    print(f"failed: {', '.join(failed)}" if failed else f"passed: {', '.join(names)}")
    return bool(failed)


if __name__ == "__main__":
    sys.exit(main())
