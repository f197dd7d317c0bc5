"""Faults of processes: SIGKILL, SIGSTOP, SIGTERM, and the disk that is taken away with the process."""

from __future__ import annotations

import os
import shutil
import signal
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final, Protocol

from chaos.faults.fault import Fault, NoEffect, ids
from raftlog.testing.processes import BrokerProcess

Brokers = Mapping[int, BrokerProcess]

STATE_TIMEOUT_S: Final = 5.0


def start_all(brokers: Sequence[BrokerProcess]) -> None:
    """Start them at once, since each may wait for the others."""
    for broker in brokers:
        broker.launch()
    for broker in brokers:
        broker.wait_ready()


class Kill(Fault):
    """SIGKILL for some brokers at once, and a restart of all of them."""

    kind = "kill"

    def __init__(self, brokers: Brokers, victims: Sequence[int]) -> None:
        super().__init__(f"kill {ids(victims)}", victims)
        self._victims = [brokers[one] for one in self.brokers]

    def begin(self) -> None:
        for broker in self._victims:
            os.kill(broker.pid, signal.SIGKILL)
        for broker in self._victims:
            broker.kill()
            if broker.exit_code != -signal.SIGKILL:
                raise NoEffect(f"{broker} ended with {broker.exit_code} before it was killed")

    def end(self) -> str:
        start_all([broker for broker in self._victims if not broker.is_running])
        took = max(broker.ready_after_s for broker in self._victims)
        return f"ended by SIGKILL, ready {took:.1f} s after the start"


class Empty(Kill):
    """SIGKILL, and everything in the data folder is gone when the broker comes back."""

    kind = "empty"

    def __init__(self, brokers: Brokers, victims: Sequence[int]) -> None:
        super().__init__(brokers, victims)
        self.what = f"empty {ids(victims)}"

    def begin(self) -> None:
        super().begin()
        for broker in self._victims:
            shutil.rmtree(broker.data_dir)


class Pause(Fault):
    """SIGSTOP: the kernel goes on taking connections and bytes, and nobody answers."""

    kind = "pause"

    def __init__(self, brokers: Brokers, victims: Sequence[int]) -> None:
        super().__init__(f"pause {ids(victims)}", victims)
        self._victims = [brokers[one] for one in self.brokers]

    def begin(self) -> None:
        for broker in self._victims:
            broker.pause()
        for broker in self._victims:
            wait_state(broker, is_stopped=True)

    def end(self) -> str:
        for broker in self._victims:
            wait_state(broker, is_stopped=True)  # until now
            broker.resume()
        for broker in self._victims:
            wait_state(broker, is_stopped=False)
        return "stopped all the while"


class Restart(Fault):
    """SIGTERM, which hands leaderships over, and a start."""

    kind = "restart"

    def __init__(self, brokers: Brokers, victim: int) -> None:
        super().__init__(f"restart {victim}", [victim])
        self._victim = brokers[victim]

    def begin(self) -> None:
        code = self._victim.stop()
        if code != 0:
            raise NoEffect(f"{self._victim} ended with {code} instead of 0: {self._victim.log_tail(3)}")

    def end(self) -> str:
        self._victim.start()
        return f"ended with 0, ready after {self._victim.ready_after_s:.1f} s"


class HasPid(Protocol):
    """A process that is told about by its `str`."""

    @property
    def pid(self) -> int: ...


def wait_state(process: HasPid, *, is_stopped: bool) -> None:
    """Until SIGSTOP, or SIGCONT, has had its effect. Raises NoEffect when the process is gone, or that takes
    too long."""
    deadline = time.monotonic() + STATE_TIMEOUT_S
    while (state := _state(process.pid)) and (state == "T") != is_stopped:
        if time.monotonic() > deadline:
            break
        time.sleep(0.001)
    if (state == "T") != is_stopped:
        raise NoEffect(f"{process} is in state {state or 'gone'}")


def _state(pid: int) -> str:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return ""
    return stat.rpartition(")")[2].split()[0]
