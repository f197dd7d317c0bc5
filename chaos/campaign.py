"""Hours of chaos: scenarios that a seed draws, one or two at a time, until their histories add up.

Each run is a process of its own, so that nothing of one is left for the next. A run's number says its
scenario and its seed. A run whose verdict is in the folder is not played again: a campaign that was
interrupted goes on.
"""

from __future__ import annotations

import random
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from chaos.report.sums import hours_of, verdict_of
from chaos.runner import RATE
from chaos.scenarios import Scenario

SECONDS: Final = (20.0, 60.0)
"""How long the faults of a run are played, at least and at most."""
RUN_TIMEOUT_S: Final = 900.0


@dataclass(frozen=True, slots=True)
class Drawn:
    """A run of a campaign."""

    number: int
    scenario: str
    seed: int
    seconds: float

    @property
    def folder(self) -> str:
        return f"{self.number:04}"


def draw(scenarios: Sequence[Scenario], seed: int, number: int) -> Drawn:
    """The runs of a campaign go through all scenarios, in an order that is another one each time."""
    turn, place = divmod(number, len(scenarios))
    names = sorted(one.name for one in scenarios)
    random.Random(f"{seed} turn {turn}").shuffle(names)
    rng = random.Random(f"{seed} run {number}")
    shortest = next(one.seconds for one in scenarios if one.name == names[place])
    seconds = float(round(max(shortest, rng.uniform(*SECONDS))))
    return Drawn(number, names[place], rng.randrange(1_000_000), seconds)


class Campaign:
    """Plays until `hours` of histories lie in `out` and in the `earlier` places, or until `until`, a moment
    of `time.monotonic`."""

    def __init__(
        self,
        scenarios: Sequence[Scenario],
        seed: int,
        out: Path,
        *,
        hours: float,
        until: float = float("inf"),
        rate: float = RATE,
        secured: bool = False,
        say: Callable[[str], None] = print,
        earlier: Sequence[Path] = (),
    ) -> None:
        self._scenarios, self._seed, self._out = scenarios, seed, out
        self._hours, self._until, self._rate, self._say = hours, until, rate, say
        self._more = ("--secured",) if secured else ()
        self.places = (*earlier, out)
        """Where all that counts lies."""
        self._lock = threading.Lock()
        self._next = 0
        self._running: set[subprocess.Popen[bytes]] = set()
        self._is_over = False
        self.bad: list[Drawn] = []
        """What is wrong, or could not be judged."""

    def play(self, jobs: int) -> None:
        """Returns when it is over. An interrupt ends the runs under way, whose verdicts are missing then."""
        self._out.mkdir(parents=True, exist_ok=True)
        workers = [threading.Thread(target=self._work, daemon=True) for _ in range(jobs)]
        try:
            for worker in workers:
                worker.start()
            for worker in workers:
                worker.join()
        finally:
            with self._lock:
                self._is_over = True
                for process in self._running:
                    process.terminate()
            for worker in workers:
                worker.join()

    def _work(self) -> None:
        while (drawn := self._take()) is not None:
            verdict = verdict_of(self._out / drawn.folder) or self._run(drawn)
            if not verdict and self._is_over:
                return  # it was interrupted
            if verdict != "good":
                self.bad.append(drawn)
            self._say(
                f"{drawn.folder} {verdict or 'did not end':<8} {drawn.scenario}, seed {drawn.seed},"
                f" {drawn.seconds:g} s; {hours_of(self.places):.2f} hours in all"
            )

    def _take(self) -> Drawn | None:
        with self._lock:
            is_enough = hours_of(self.places) >= self._hours and not self._is_played(self._next)
            if self._is_over or is_enough or time.monotonic() > self._until:
                return None
            self._next += 1
            return draw(self._scenarios, self._seed, self._next - 1)

    def _is_played(self, number: int) -> bool:
        drawn = draw(self._scenarios, self._seed, number)
        return bool(verdict_of(self._out / drawn.folder))

    def _run(self, drawn: Drawn) -> str:
        """The verdict; empty when the run left none."""
        folder = self._out / drawn.folder
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        options = ("--scenario", drawn.scenario, "--seed", str(drawn.seed), "--time", f"{drawn.seconds:g}")
        rate = ("--rate", f"{self._rate:g}")
        command = (sys.executable, "-m", "chaos", "run", *options, *rate, *self._more, "--out", str(folder))
        with (folder / "output.txt").open("wb") as output:
            with self._lock:
                if self._is_over:
                    return ""
                process = subprocess.Popen(command, stdout=output, stderr=output)
                self._running.add(process)
            try:
                process.wait(RUN_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                process.terminate()  # the run takes its brokers down
                process.wait()
            finally:
                with self._lock:
                    self._running.discard(process)
        return verdict_of(folder)
