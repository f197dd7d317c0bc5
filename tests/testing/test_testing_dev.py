"""`raftlog dev`: it serves, tells of a broker that dies, and stops."""

from __future__ import annotations

import os
import selectors
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import trio

import raftlog

PATIENCE_S = 60.0


@contextmanager
def dev(*arguments: str) -> Iterator[subprocess.Popen[bytes]]:
    """As a script starts it in the background: with SIGINT ignored."""
    process = subprocess.Popen(
        [sys.executable, "-m", "raftlog", "dev", "--port", "0", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_IGN),
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.terminate()  # killed, it would leave its brokers behind
        process.communicate(timeout=PATIENCE_S)


def line_of(stream: object, file_number: int) -> str:
    with selectors.DefaultSelector() as selector:
        selector.register(file_number, selectors.EVENT_READ)
        assert selector.select(PATIENCE_S), f"nothing from {stream} in {PATIENCE_S} s"
    line = b""
    while not line.endswith(b"\n"):
        chunk = os.read(file_number, 1)
        assert chunk, f"ended after {line!r}"
        line += chunk
    return line.decode()


def children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


async def replicas_of_a_new_topic(bootstrap: str) -> list[int]:
    async with raftlog.open_client(bootstrap) as client:
        await client.admin.create_topic("orders")
        view = await client.admin.describe_topic("orders")
        return [len(partition.replicas) for partition in view.partitions]


def test_it_serves_reports_a_death_and_stops_on_ctrl_c(tmp_path: Path) -> None:
    with dev("--nodes", "2", "--data-dir", str(tmp_path), "-o", "num.partitions=3") as process:
        assert process.stdout is not None and process.stderr is not None
        ready = line_of("stdout", process.stdout.fileno())
        assert ready.startswith("ready bootstrap=127.0.0.1:")
        bootstrap = ready.split()[1].removeprefix("bootstrap=")
        assert trio.run(replicas_of_a_new_topic, bootstrap) == [2, 2, 2]
        pids = children(process.pid)
        assert len(pids) == 2
        told = [line_of("stdout", process.stdout.fileno()) for _ in range(4)]
        assert [int(line.split("process ")[1].split(",")[0]) for line in told[:2]] == pids
        assert told[2].endswith(f"export RAFTLOG_BOOTSTRAP={bootstrap}\n")
        assert "kill -9" in told[3] and f"raftlog dev --revive --data-dir {tmp_path}" in told[3]
        os.kill(pids[0], signal.SIGKILL)
        assert "ended with -9; the end of" in line_of("stderr", process.stderr.fileno())
        revive = [sys.executable, "-m", "raftlog", "dev", "--revive", "--data-dir", str(tmp_path)]
        done = subprocess.run(revive, capture_output=True, text=True, timeout=PATIENCE_S)
        assert done.returncode == 0, done.stderr
        assert done.stdout.startswith("broker 1: process ") and "back after" in done.stdout
        host, port = bootstrap.split(",")[0].split(":")
        socket.create_connection((host, int(port))).close()  # it serves by now
        back = line_of("stdout", process.stdout.fileno())
        assert back.startswith("broker 1: process ") and "back after" in back
        assert len(set(pids) | set(children(process.pid))) == 3
        assert subprocess.check_output(revive, text=True, timeout=PATIENCE_S) == "every broker runs\n"
        pids = children(process.pid)
        started = time.monotonic()
        process.send_signal(signal.SIGINT)
        assert process.wait(PATIENCE_S) == 0
        assert time.monotonic() - started < 10
        assert not any(Path(f"/proc/{pid}").exists() for pid in pids)
    assert sorted(path.name for path in tmp_path.glob("*.log")) == ["broker-1.log", "broker-2.log"]


def test_a_port_that_is_taken_is_said_with_its_own_option() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with dev("--nodes", "1", "--port", str(port)) as process:
            _, stderr = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 1
    assert f"cannot listen on 127.0.0.1:{port}: Address already in use; --port {port}".encode() in stderr
    assert b"--listen" not in stderr


def test_to_revive_what_does_not_run(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "raftlog", "dev", "--revive", "--data-dir", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 1 and "no `raftlog dev` of" in done.stderr
    (tmp_path / "dev.pid").write_text(f"{os.getpid()}\n")  # somebody else's by now
    assert subprocess.run(command, capture_output=True).returncode == 1


def test_a_bad_setting_ends_it_with_the_reason() -> None:
    with dev("--nodes", "1", "-o", "num.partition=3") as process:
        _, stderr = process.communicate(timeout=PATIENCE_S)
        assert process.returncode == 1
        assert b"did you mean num.partitions?" in stderr
