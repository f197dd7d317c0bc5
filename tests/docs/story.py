"""A page of the docs as a story that runs: its commands, in order, in one folder, against one broker.

What a page may hold:

* A console block: lines after `$ ` are commands, what follows is their output, stderr included. `…` stands
  for anything. `raftlog serve`, `dev`, `registry`, `streams run` and `connect run` are left running once they
  have printed what the page shows; their stderr is a log, and not shown. `env $(cat FILE)` may stand before
  them.
* A python block: a script, which is run at once, or saved for a command under `<!-- file: NAME -->`. Those
  that hold tests are run by pytest in the end.
* `<!-- from: PATH -->` before a block: it stands in that file of the repository, and is not run here.
* `<!-- stop -->`: Ctrl-C for what was left running.

`python -m examples.NAME` finds the examples of this checkout.

The page says localhost:9092, 8081 for a registry and 8088 for an app's stores; the story uses free ports,
and starts a broker when the page does not.
`pip install` and `make` are not run: what they name must exist.
"""

from __future__ import annotations

import os
import re
import selectors
import shlex
import signal
import subprocess
import sys
import time
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest

from raftlog.testing.processes import free_port
from tests.command_line import run_raftlog

ROOT: Final = Path(__file__).parents[2]
PATIENCE_S: Final = 60.0
LOG_LINE: Final = re.compile(r"\d{4}-\d\d-\d\d \S+ [A-Z]+ raftlog")
KEPT_RUNNING: Final = {
    "raftlog serve": "--listen 127.0.0.1:",
    "raftlog dev": "--port ",
    "raftlog streams run": "--bootstrap 127.0.0.1:",
    "raftlog registry": "--listen 127.0.0.1:",
    "raftlog connect run": "--bootstrap 127.0.0.1:",
}
"""What is left running, and the option that brings it to the story's port."""
BROKER, REGISTRY, STORES = "9092", "8081", "8088"
"""The ports that pages have; a story has others."""

_RUN_HERE: Final = re.compile(r"raftlog (?!serve|dev|streams|connect|registry|console)[^|&;<>()$`*?~#\\]+")
"""A command that needs no shell, and does not import what a page has saved."""

_STEP = re.compile(
    r"<!-- (?P<directive>file: (?P<name>\S+)|from: (?P<source>\S+)|stop) -->"
    r"|^```(?P<language>\w+)\n(?P<text>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)


class StoryFailed(AssertionError):
    """An example does not do what the page says."""


@dataclass(frozen=True, slots=True)
class Step:
    """A directive (`stop`), or a block of the page; `name` is the file that the block is saved as, or,
    of an `excerpt`, the one that it is in."""

    line: int
    kind: str
    text: str = ""
    name: str | None = None


def steps(page: str) -> Iterator[Step]:
    """What a page does, in order."""
    name = source = None
    for match in _STEP.finditer(page):
        line = page.count("\n", 0, match.start()) + 1
        if match["name"]:
            name = match["name"]
        elif match["source"]:
            source = match["source"]
        elif match["directive"]:
            yield Step(line, match["directive"])
        else:
            yield Step(line, "excerpt" if source else match["language"], match["text"], source or name)
            name = source = None


def commands(block: str) -> Iterator[tuple[str, str]]:
    """The commands of a console block, and what each is to print."""
    command, output = "", []
    for line in block.splitlines():
        if line.startswith("$ "):
            if command:
                yield command, "\n".join(output)
            command, output = line[2:], []
        else:
            output.append(line)
    assert command, f"a console block without a command: {block!r}"
    yield command, "\n".join(output)


def matches(expected: str, output: str) -> bool:
    """Whether the output is what the page says; `…` stands for anything within a line."""
    pattern = "\n".join(
        ".*?".join(re.escape(part) for part in line.split("…")) for line in expected.splitlines()
    )
    return re.fullmatch(pattern, "\n".join(line.rstrip() for line in output.splitlines())) is not None


class Story:
    """Runs the steps of one page in a folder. A context manager that ends what is still running."""

    def __init__(self, page: Path, folder: Path) -> None:
        self.page = page
        self.folder = folder / "story"
        self.folder.mkdir()
        self.ports = {port: free_port() for port in (BROKER, REGISTRY, STORES)}
        self._running: list[subprocess.Popen[str]] = []
        self._tests: list[str] = []
        self._environment = self._make_environment(folder / "bin")

    def __enter__(self) -> Story:
        return self

    def __exit__(self, *error: object) -> None:
        for process in self._running:
            process.kill()
        self._wait()

    def _make_environment(self, bin: Path) -> dict[str, str]:
        """`raftlog`, `python` and `pytest` are those of this test run."""
        bin.mkdir()
        for name, arguments in {"python": "", "raftlog": " -m raftlog", "pytest": " -m pytest"}.items():
            script = bin / name
            script.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)}{arguments} "$@"\n')
            script.chmod(0o755)
        return os.environ | {
            "PATH": f"{bin}:{os.environ['PATH']}",
            "PYTHONPATH": str(ROOT),
            "RAFTLOG_RAFTLOG_HTTP_LISTEN": "127.0.0.1:0",  # pages are run at the same time
            "RAFTLOG_BOOTSTRAP": f"127.0.0.1:{self.ports[BROKER]}",
            "PYTHONWARNINGS": "ignore::DeprecationWarning",  # of the clients' own
            "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
            "PYTEST_ADDOPTS": "-p no:cacheprovider -p raftlog.testing.pytest_plugin -p pytest_trio.plugin"
            " -o trio_mode=true",
        }

    def run(self) -> int:
        """Run every step; how many did something. Raises StoryFailed."""
        count = 0
        page = self.page.read_text(encoding="utf-8")
        if "localhost:9092" in page and not re.search(r"^ready ", page, re.MULTILINE):
            self._start("raftlog serve", "ready …")
        for step in steps(page):
            try:
                count += self._run_step(step)
            except StoryFailed as failure:
                raise StoryFailed(f"{self.page.name} line {step.line}: {failure}") from None
        if self._tests:
            self._run_tests()
        return count

    def _run_tests(self) -> None:
        """All of the page, each block a file, in one process."""
        output = self._output([sys.executable, "-m", "pytest", "-q", *self._tests])
        if not re.fullmatch(r"\d+ passed in .*", output.rstrip().rpartition("\n")[2]):
            raise StoryFailed(f"{self.page.name}: pytest\n{output}")

    def _run_step(self, step: Step) -> bool:
        match step.kind:
            case "stop":
                self.stop()
            case "excerpt":
                if step.text not in (ROOT / str(step.name)).read_text(encoding="utf-8"):
                    raise StoryFailed(f"{step.name} does not have\n{step.text}")
            case "console":
                for command, expected in commands(self._local(step.text)):
                    self._run_command(command, expected)
            case "python" | "toml" | "properties" if step.name:
                (self.folder / step.name).write_text(self._local(step.text), encoding="utf-8")
            case "python" if re.search(r"^((async )?def test_|class Test)", step.text, re.MULTILINE):
                self._tests.append(f"test_line_{step.line}.py")
                (self.folder / self._tests[-1]).write_text(self._local(step.text), encoding="utf-8")
            case "python":
                self._check("python -c …", "", self._output([sys.executable, "-c", self._local(step.text)]))
            case "text":
                return False
            case language:
                raise StoryFailed(f"a block in {language!r} is not tested: use console, python or text")
        return True

    def _local(self, text: str) -> str:
        """What the page says, with the port that this story has."""
        ports = "|".join(self.ports)
        pattern = rf"\b(localhost|127\.0\.0\.1):({ports})\b"
        return re.sub(pattern, lambda found: f"{found[1]}:{self.ports[found[2]]}", text)

    def _run_command(self, command: str, expected: str) -> None:
        if command.startswith(("pip install", "make ")):
            check_mentioned(command)
        elif _option_of(command) is not None and expected.startswith(("ready", "running")):
            self._start(command, expected)
        elif _RUN_HERE.fullmatch(command):
            self._check(command, expected, self._output_here(shlex.split(command)[1:]))
        else:
            self._check(command, expected, self._output(["bash", "-c", command]))

    def _output_here(self, arguments: list[str]) -> str:
        """What `raftlog` prints, without a process of its own."""
        with pytest.MonkeyPatch.context() as patch:
            patch.chdir(self.folder)
            patch.setenv("RAFTLOG_BOOTSTRAP", self._environment["RAFTLOG_BOOTSTRAP"])
            return run_raftlog(*arguments, together=True).output

    def _output(self, command: list[str]) -> str:
        result = subprocess.run(
            command,
            cwd=self.folder,
            env=self._environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=PATIENCE_S,
        )
        return result.stdout

    def _check(self, command: str, expected: str, output: str) -> None:
        if not matches(expected, output):
            raise StoryFailed(f"$ {command}\n--- the page says:\n{expected}\n--- it printed:\n{output}")

    def _start(self, command: str, expected: str) -> None:
        option = _option_of(command)
        port = self.ports[REGISTRY if command.startswith("raftlog registry") else BROKER]
        with (self.folder / "stderr.log").open("ab") as log:
            process = subprocess.Popen(
                ["bash", "-c", f"exec {command} {option}{port}"],
                cwd=self.folder,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )
        self._running.append(process)
        self._check(command, expected, _read_lines(process, expected.count("\n") + 1))

    def stop(self) -> None:
        """Ctrl-C for what is running; it must end well."""
        for process in self._running:
            process.send_signal(signal.SIGINT)
        if any(codes := self._wait()):
            raise StoryFailed(f"what was stopped ended with {codes}")

    def _wait(self) -> list[int]:
        codes = []
        for process in self._running:
            codes.append(process.wait(PATIENCE_S))
            assert process.stdout is not None
            process.stdout.close()
        self._running.clear()
        return codes


def _option_of(command: str) -> str | None:
    """What a command that is left running takes a port by; None for other commands."""
    inner = re.sub(r"^env \$\(cat \S+\) ", "", command)
    return next((option for start, option in KEPT_RUNNING.items() if inner.startswith(start)), None)


def _read_lines(process: subprocess.Popen[str], count: int) -> str:
    """The first lines that a process prints, without those of its log."""
    assert process.stdout is not None
    output, deadline = "", time.monotonic() + PATIENCE_S

    def said() -> str:
        return "".join(line for line in output.splitlines(keepends=True) if not LOG_LINE.match(line))

    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ)
        while said().count("\n") < count and selector.select(deadline - time.monotonic()):
            chunk = os.read(process.stdout.fileno(), 4096).decode()
            if not chunk:
                break
            output += chunk
    return said().rstrip("\n")


def check_mentioned(command: str) -> None:
    """What `pip install` and `make` name must exist. Raises StoryFailed."""
    words = shlex.split(command, comments=True)
    if words[0] == "make":
        makefile = (ROOT / "Makefile").read_text()
        for target in [word for word in words[1:] if "=" not in word]:
            if not re.search(rf"^{re.escape(target)}:", makefile, re.MULTILINE):
                raise StoryFailed(f"the Makefile has no target {target!r}")
        return
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    for extra in re.findall(r"\[(\w+)\]", command):
        if extra not in project["optional-dependencies"]:
            raise StoryFailed(f"there is no extra {extra!r}")
