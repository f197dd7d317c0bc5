"""Docker for tests: is it there, build the image, bring a compose file up, look at containers."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest

from raftlog.testing.processes import free_port

ROOT = Path(__file__).parents[2]
IMAGE = "raftlog"
BASE = "python:3.11-slim-bookworm"
PATIENCE_S = 120.0
BUILD_S = 900.0


def run(*command: str, timeout_s: float = PATIENCE_S, env: Mapping[str, str] | None = None) -> str:
    """What it prints; a failure shows all that it said."""
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
        env={**os.environ, **(env or {})},
    )
    assert done.returncode == 0, f"{' '.join(command)}: {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def compose_command() -> list[str]:
    """`docker-compose`, or `docker compose` where that is a plugin."""
    return ["docker-compose"] if shutil.which("docker-compose") else ["docker", "compose"]


def need_docker() -> None:
    """Skip, by name, where there is no engine; fail where everything is required."""
    missing = ""
    if shutil.which("docker") is None:
        missing = "docker is not installed"
    elif subprocess.run(["docker", "info"], capture_output=True, check=False).returncode != 0:
        missing = "no docker engine runs"
    elif subprocess.run([*compose_command(), "version"], capture_output=True, check=False).returncode != 0:
        missing = "docker-compose is not installed"
    if missing:
        _lack(missing)


def need_image(name: str) -> None:
    """The same for an image of others, which a registry has, or .ci/docker makes."""
    for command in (("image", "inspect"), ("pull", "--quiet")):
        if subprocess.run(["docker", *command, name], capture_output=True, check=False).returncode == 0:
            return
    _lack(f"no image {name}, and no registry that has it")


def _lack(missing: str) -> None:
    if os.environ.get("RAFTLOG_TEST_REQUIRE") == "all":
        pytest.fail(missing)
    pytest.skip(missing)


def build() -> None:
    """The image, from the checkout. The build goes over this machine's network, with its mirror, if any."""
    arguments = ["--network", "host"]
    for name in ("PIP_INDEX_URL", "PIP_CERT"):
        if os.environ.get(name):
            arguments += ["--build-arg", f"{name}={os.environ[name]}"]
    run("docker", "build", "--quiet", *arguments, "--tag", IMAGE, str(ROOT), timeout_s=BUILD_S)


def compose_file(folder: Path) -> Path:
    """The project's own, with ports of this machine that nothing else of the test run takes."""
    text = (ROOT / "docker-compose.yml").read_text()
    for port in re.findall(r'"(?:127\.0\.0\.1:)?(\d+):\d+"', text):
        free = free_port()
        text = re.sub(
            rf'(localhost:|"|127\.0\.0\.1:){port}(?=:|$|,)', rf"\g<1>{free}", text, flags=re.MULTILINE
        )
    text = re.sub(r"\./(monitoring|docker)\b", rf"{ROOT}/\1", text)
    file = folder / "docker-compose.yml"
    file.write_text(text.replace("build: .", f"build: {ROOT}"))
    return file


class Project:
    """A compose file that is up."""

    def __init__(self, name: str, file: Path, env: Mapping[str, str]) -> None:
        self.name = name
        self._base = [*compose_command(), "--project-name", name, "--file", str(file)]
        self._env = env

    def compose(self, *arguments: str) -> str:
        return run(*self._base, *arguments, env=self._env)

    def container(self, service: str) -> str:
        return self.compose("ps", "--quiet", service).strip()

    def published(self, service: str, port: int) -> str:
        """HOST:PORT of this machine that leads to a container's port."""
        return run("docker", "port", self.container(service), str(port)).splitlines()[0]

    def health(self, service: str) -> str:
        state = json.loads(run("docker", "inspect", "--format", "{{json .State}}", self.container(service)))
        return str(state.get("Health", {}).get("Status", state["Status"]))

    def wait_healthy(self, *services: str) -> float:
        """Seconds from now until all are."""
        began = time.monotonic()
        while any(self.health(service) != "healthy" for service in services):
            assert time.monotonic() - began < PATIENCE_S, self.compose("logs", "--tail", "30")
            time.sleep(0.5)
        return time.monotonic() - began

    def inside(self, *command: str, stdin: str = "") -> str:
        """A command of raftlog in a container of its own, in the project's network."""
        done = subprocess.run(
            ["docker", "run", "--rm", "--interactive", "--network", f"{self.name}_default", IMAGE, *command],
            input=stdin,
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
            check=False,
        )
        assert done.returncode == 0, (command, done.stdout, done.stderr)
        return done.stdout


@contextmanager
def project(name: str, file: Path, env: Mapping[str, str] | None = None) -> Iterator[Project]:
    """Up, and in the end down with its volumes. What a run before left behind is taken away first."""
    found = Project(name, file, env or {})
    found.compose("down", "--volumes", "--timeout", "1")
    try:
        found.compose("up", "--detach", "--no-build")
        yield found
    finally:
        found.compose("down", "--volumes", "--timeout", "1")
