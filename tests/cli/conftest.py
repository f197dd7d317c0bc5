"""A broker process for the run, and the `raftlog` command in this process or in one of its own."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from raftlog.cli import main
from raftlog.testing.processes import BrokerProcess, broker_process


@dataclass(frozen=True, slots=True)
class Result:
    """What a command printed."""

    stdout: bytes
    stderr: bytes


Run = Callable[..., Result]


@pytest.fixture(scope="session")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BrokerProcess]:
    """The broker that the commands of this run talk to."""
    with broker_process(tmp_path_factory.mktemp("cli") / "data") as broker:
        yield broker


@pytest.fixture
def raftlog(broker: BrokerProcess, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """`raftlog(*arguments, input=b"", code=0)`: run the command to its end, which must be with that code.

    In this process, which has imported everything already, with files as its standard streams.
    """
    monkeypatch.setenv("RAFTLOG_BOOTSTRAP", broker.bootstrap)
    paths = [tmp_path / name for name in ("stdin", "stdout", "stderr")]

    def run(*arguments: str, input: bytes = b"", code: int = 0) -> Result:
        paths[0].write_bytes(input)
        with paths[0].open() as stdin, paths[1].open("w") as stdout, paths[2].open("w") as stderr:
            monkeypatch.setattr("sys.stdin", stdin)
            with contextlib.redirect_stdout(stdout), contextlib.redirect_stderr(stderr):
                try:
                    main(list(arguments))
                except SystemExit as exit:
                    ended = exit.code
            monkeypatch.undo()
            monkeypatch.setenv("RAFTLOG_BOOTSTRAP", broker.bootstrap)
        result = Result(paths[1].read_bytes(), paths[2].read_bytes())
        assert ended == code, (arguments, ended, result)
        return result

    return run


@pytest.fixture
def start(broker: BrokerProcess) -> Iterator[Callable[..., subprocess.Popen[bytes]]]:
    """`start(*arguments)`: the command as a running process, with pipes; killed at the end of the test."""
    started: list[subprocess.Popen[bytes]] = []

    def popen(*arguments: str) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(
            [sys.executable, "-m", "raftlog", *arguments],
            env=os.environ | {"RAFTLOG_BOOTSTRAP": broker.bootstrap},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        started.append(process)
        return process

    yield popen
    for process in started:
        process.kill()
        process.wait()
        for stream in (process.stdin, process.stdout, process.stderr):
            assert stream is not None
            with contextlib.suppress(BrokenPipeError):
                stream.close()


@pytest.fixture
def name() -> str:
    """A name that nobody else uses."""
    return f"orders-{uuid.uuid4().hex[:8]}"
