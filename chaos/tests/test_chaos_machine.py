"""A machine that stands still is seen: a process that is stopped, one that waits for a processor."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from chaos.gaps import stood_still
from chaos.history import History, Stall
from chaos.machine import MachineWatch, run_delay_s

WATCHES = """
import sys
from pathlib import Path
from chaos.history import History, Stall
from chaos.machine import MachineWatch
history = History()
with MachineWatch(history, Path(sys.argv[1]), dict):
    print("begun", flush=True)
    sys.stdin.readline()
    print(max((stall.ended - stall.began for stall in history.of(Stall)), default=0))
"""


def test_a_process_that_is_stopped_was_late(tmp_path: Path) -> None:
    command = [sys.executable, "-c", WATCHES, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None and process.stdin is not None
        assert process.stdout.readline() == "begun\n"
        os.kill(process.pid, signal.SIGSTOP)
        time.sleep(1)
        os.kill(process.pid, signal.SIGCONT)
        time.sleep(0.3)
        process.stdin.write("\n")
        process.stdin.flush()
        assert float(process.stdout.readline()) > 0.8


@pytest.mark.skipif(not Path("/proc/self/schedstat").exists(), reason="this system does not count it")
def test_who_waits_for_a_processor_is_seen(tmp_path: Path) -> None:
    """Three processes that want one core: each waits for two thirds of the time."""
    core = min(os.sched_getaffinity(0))
    spin = f"import os; os.sched_setaffinity(0, [{core}])\nwhile True: pass"
    spinners = [subprocess.Popen([sys.executable, "-c", spin]) for _ in range(3)]
    history = History()
    try:
        with MachineWatch(history, tmp_path, lambda: {1: spinners[0].pid}):
            deadline = time.monotonic() + 30
            while not any(stall.what == "processors" for stall in history.of(Stall)):
                assert time.monotonic() < deadline
                time.sleep(0.05)
        assert stood_still(history, 0, history.now()) > 0
    finally:
        for one in spinners:
            one.kill()
            one.wait()


def test_a_process_that_is_gone_waits_for_nothing() -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        process.wait()
    assert run_delay_s(process.pid) == 0
