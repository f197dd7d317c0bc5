"""`raftlog streams run` as a process: what Ctrl-C does."""

from __future__ import annotations

import os
import pty
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from raftlog.testing.processes import BrokerProcess
from tests.cli.conftest import Run
from tests.waiting import until

Start = Callable[..., "subprocess.Popen[bytes]"]

SLOW = """
import pathlib, trio
from raftlog import streams as rs

async def for_ever(value):
    pathlib.Path({asked!r}).touch()
    await trio.sleep(60)

app = rs.App({name!r})
app.stream({name!r}).async_map(for_ever, timeout_s=100).count("answers")
"""
COUNT = """
from raftlog import streams as rs

app = rs.App({name!r})
app.stream({name!r}).count("counts")
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_second_signal_ends_a_worker_at_once(
    raftlog: Run, start: Start, name: str, tmp_path: Path, number: signal.Signals
) -> None:
    raftlog("topic", "create", name)
    raftlog("produce", name, "-k", input=b"k:v\n")
    file, asked = tmp_path / "slow.py", tmp_path / "asked"
    file.write_text(SLOW.format(asked=str(asked), name=name))
    worker = start("streams", "run", f"{file}:app", "--state", str(tmp_path / "state"))
    until("the question", asked.exists)
    worker.send_signal(number)  # it would wait for the answer before its last commit
    with pytest.raises(subprocess.TimeoutExpired):
        worker.wait(1)
    worker.send_signal(number)
    _, said = worker.communicate(timeout=60)
    assert worker.returncode == 128 + number
    assert said.splitlines()[-1] == b"ended at once, without a goodbye" and b"Traceback" not in said


def test_ctrl_c_at_a_terminal_reaches_each_of_several_workers_once(
    broker: BrokerProcess, raftlog: Run, name: str, tmp_path: Path
) -> None:
    """They commit and say goodbye: a second signal would end them before."""
    raftlog("topic", "create", name, "-p", "2")
    raftlog("produce", name, "-k", input=b"a:1\nb:2\n")
    file = tmp_path / "count.py"
    file.write_text(COUNT.format(name=name))
    run = ["streams", "run", f"{file}:app", "--workers", "2", "--state", str(tmp_path / "state")]
    terminal, other_side = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "raftlog", *run],
        env=os.environ | {"RAFTLOG_BOOTSTRAP": broker.bootstrap},
        preexec_fn=lambda: os.login_tty(other_side),
    )
    os.close(other_side)
    said = b""
    try:
        deadline = time.monotonic() + 60
        stopped = False
        while True:
            assert time.monotonic() < deadline, said
            if not select.select([terminal], [], [], 0.5)[0]:
                continue
            try:
                said += os.read(terminal, 65536)
            except OSError:  # nobody has the other side any more
                break
            if not stopped and said.count(b"running app=") == 2:
                os.write(terminal, b"\x03")
                stopped = True
        assert process.wait(60) == 0, said
        assert b"at once" not in said and b"Traceback" not in said
    finally:
        process.kill()
        process.wait()
        os.close(terminal)


def test_records_without_a_key_are_warned_of_once(
    raftlog: Run, start: Start, name: str, tmp_path: Path
) -> None:
    raftlog("topic", "create", name, "-p", "2")
    raftlog("produce", name, input=b"a\nb\nc\n")
    file = tmp_path / "count.py"
    file.write_text(COUNT.format(name=name))
    worker = start("streams", "run", f"{file}:app", "--state", str(tmp_path / "state"))
    assert worker.stderr is not None
    said = b""
    while b"no key" not in said:
        said = worker.stderr.readline()
        assert said, "the worker ended"
    assert f"app {name}, step 1 (aggregate counts): an aggregate's record has no key".encode() in said
    assert b".key_by(" in said
    raftlog("produce", name, input=b"d\ne\n")

    def committed() -> int:
        """Over both partitions: records without a key go to either."""
        rows = [line.split() for line in raftlog("group", "describe", name).output.splitlines()]
        return sum(int(row[2]) for row in rows if row[:1] == [name] and row[2].isdigit())

    until("a commit", lambda: committed() == 5)
    worker.send_signal(signal.SIGINT)
    _, rest = worker.communicate(timeout=60)
    assert b"no key" not in rest
