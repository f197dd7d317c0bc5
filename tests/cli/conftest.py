"""A broker process for the run, and the `raftlog` command in this process or in one of its own."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator

import pytest

from raftlog.testing.processes import BrokerProcess, broker_process
from tests.command_line import Result, run_raftlog

Run = Callable[..., Result]


@pytest.fixture(scope="package")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BrokerProcess]:
    """The broker that the commands talk to."""
    with broker_process(tmp_path_factory.mktemp("cli") / "data") as broker:
        yield broker


@pytest.fixture
def raftlog(broker: BrokerProcess, monkeypatch: pytest.MonkeyPatch) -> Run:
    """`raftlog(*arguments, input=b"", code=0)`: run the command to its end, which must be with that code.

    In this process, with files as its standard streams.
    """
    monkeypatch.setenv("RAFTLOG_BOOTSTRAP", broker.bootstrap)

    def run(*arguments: str, input: bytes = b"", code: int = 0) -> Result:
        result = run_raftlog(*arguments, input=input)
        assert result.code == code, (arguments, result)
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
