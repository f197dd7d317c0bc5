"""Clocks that jump: libfaketime moves the wall clock of a broker process while it runs.

The monotonic clock is left alone, as the kernel does when somebody sets the time.
"""

from __future__ import annotations

import glob
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from chaos.faults.fault import CannotRun, Fault, NoEffect
from chaos.faults.processes import Brokers

LIBRARIES: Final = ("/usr/lib/*/faketime/libfaketime.so.1", "/usr/local/lib/faketime/libfaketime.so.1")


def library() -> str:
    """Where libfaketime is. Raises CannotRun."""
    for pattern in LIBRARIES:
        if found := sorted(glob.glob(pattern)):
            return found[0]
    raise CannotRun("clocks are moved by libfaketime (on Debian: apt-get install faketime)")


class Clocks:
    """The wall clocks of brokers, each in a file that its process reads."""

    def __init__(self, folder: Path, brokers: Sequence[int]) -> None:
        folder.mkdir(parents=True)
        self._files = {broker: folder / f"clock-{broker}" for broker in brokers}
        self._library = library()
        for broker in brokers:
            self.set(broker, 0)

    @property
    def within(self) -> dict[int, tuple[str, ...]]:
        """What runs a command with a broker's clock."""
        return {
            broker: (
                "env",
                f"LD_PRELOAD={self._library}",
                f"FAKETIME_TIMESTAMP_FILE={file}",
                "FAKETIME_NO_CACHE=1",
                "FAKETIME_DONT_FAKE_MONOTONIC=1",
                "FAKETIME_DONT_RESET=1",
            )
            for broker, file in self._files.items()
        }

    def seen(self, broker: int) -> float:
        """How far away a process with this clock says that it is, in seconds."""
        command = [*self.within[broker], sys.executable, "-c", "import time; print(time.time())"]
        return float(subprocess.check_output(command, timeout=30)) - time.time()

    def set(self, broker: int, seconds: float) -> None:
        """Move the broker's wall clock to so many seconds beside the real one. At once, and whole: the
        process reads the file at every look at the clock."""
        file = self._files[broker]
        new = file.with_suffix(".new")
        new.write_text(f"{seconds:+.3f}\n")
        new.rename(file)


class ClockJump(Fault):
    """A broker's wall clock is an hour or so ahead or behind, for a while."""

    kind = "clock"

    def __init__(self, clocks: Clocks, brokers: Brokers, victim: int, seconds: float) -> None:
        super().__init__(f"clock {victim} {seconds:+.0f} s", [victim])
        self._clocks = clocks
        self._victim, self._seconds = victim, seconds
        self._pid = brokers[victim].pid

    def begin(self) -> None:
        if "libfaketime" not in Path(f"/proc/{self._pid}/maps").read_text():
            raise NoEffect(f"broker {self._victim} was not started with a clock of its own")
        self._clocks.set(self._victim, self._seconds)

    def end(self) -> str:
        apart = self._clocks.seen(self._victim)
        self._clocks.set(self._victim, 0)
        if abs(apart - self._seconds) > 1:
            raise NoEffect(f"the clock of broker {self._victim} was {apart:+.1f} s away")
        return f"was {apart:+.1f} s away"
