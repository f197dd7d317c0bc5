"""A page of the docs as a story that runs: its commands, in order, in one folder, against one broker.

What a page may hold:

* A console block: lines after `$ ` are commands, what follows is their output, stderr included. `…` stands
  for anything. `raftlog serve` and `raftlog dev` are left running once they have printed what the page shows.
* A python block: a script, which is run at once, or saved for a command under `<!-- file: NAME -->`. One that
  holds tests is run by pytest.
* `<!-- stop -->`: Ctrl-C for what was left running.

The page says localhost:9092; the story uses a free port, and starts a broker there when the page does not.
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

from raftlog.testing.processes import free_port

ROOT: Final = Path(__file__).parents[2]
PATIENCE_S: Final = 60.0
KEPT_RUNNING: Final = ("raftlog serve", "raftlog dev")

_STEP = re.compile(
    r"<!-- (?P<directive>file: (?P<name>\S+)|stop) -->"
    r"|^```(?P<language>\w+)\n(?P<text>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)


class StoryFailed(AssertionError):
    """An example does not do what the page says."""


@dataclass(frozen=True, slots=True)
class Step:
    """A directive (`stop`), or a block of the page; `name` is the file that the block is saved as."""

    line: int
    kind: str
    text: str = ""
    name: str | None = None


def steps(page: str) -> Iterator[Step]:
    """What a page does, in order."""
    name = None
    for match in _STEP.finditer(page):
        line = page.count("\n", 0, match.start()) + 1
        if match["name"]:
            name = match["name"]
        elif match["directive"]:
            yield Step(line, match["directive"])
        else:
            yield Step(line, match["language"], match["text"], name)
            name = None


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
        self.port = free_port()
        self._running: list[subprocess.Popen[str]] = []
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
            "RAFTLOG_RAFTLOG_HTTP_LISTEN": "127.0.0.1:0",  # pages are run at the same time
            "RAFTLOG_BOOTSTRAP": f"127.0.0.1:{self.port}",
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
        return count

    def _run_step(self, step: Step) -> bool:
        match step.kind:
            case "stop":
                self.stop()
            case "console":
                for command, expected in commands(self._local(step.text)):
                    self._run_command(command, expected)
            case "python" | "toml" | "properties" if step.name:
                (self.folder / step.name).write_text(self._local(step.text), encoding="utf-8")
            case "python" if re.search(r"^(async )?def test_", step.text, re.MULTILINE):
                (self.folder / "test_page.py").write_text(self._local(step.text), encoding="utf-8")
                output = self._output([sys.executable, "-m", "pytest", "-q", "test_page.py"])
                self._check("pytest", "…\n1 passed in …", output)
            case "python":
                self._check("python -c …", "", self._output([sys.executable, "-c", self._local(step.text)]))
            case "text":
                return False
            case language:
                raise StoryFailed(f"a block in {language!r} is not tested: use console, python or text")
        return True

    def _local(self, text: str) -> str:
        """What the page says, with the port that this story has."""
        return re.sub(r"\b(localhost|127\.0\.0\.1):9092\b", rf"\1:{self.port}", text)

    def _run_command(self, command: str, expected: str) -> None:
        if command.startswith(("pip install", "make ")):
            check_mentioned(command)
        elif command.startswith(KEPT_RUNNING) and expected.startswith("ready"):
            self._start(command, expected)
        else:
            self._check(command, expected, self._output(["bash", "-c", command]))

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
        port = " --port " if command.startswith("raftlog dev") else " --listen 127.0.0.1:"
        process = subprocess.Popen(
            ["bash", "-c", f"exec {command}{port}{self.port}"],
            cwd=self.folder,
            env=self._environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
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


def _read_lines(process: subprocess.Popen[str], count: int) -> str:
    """The first lines that a process prints."""
    assert process.stdout is not None
    output, deadline = "", time.monotonic() + PATIENCE_S
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ)
        while output.count("\n") < count and selector.select(deadline - time.monotonic()):
            chunk = os.read(process.stdout.fileno(), 4096).decode()
            if not chunk:
                break
            output += chunk
    return output.rstrip("\n")


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
