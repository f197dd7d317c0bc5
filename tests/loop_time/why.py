"""What a loop was doing in its longest stretches: its stack, sampled by the CPU time that it takes."""

from __future__ import annotations

import gc
import signal
import sys
import time
from collections import Counter
from types import FrameType
from typing import Final

WHY: Final = "LOOP_TIME_WHY"
"""In the environment of a broker: milliseconds of CPU above which a stretch is explained."""
SAMPLE_S: Final = 0.002
FRAMES_MAX: Final = 14
SHOWN_MAX: Final = 8


class Sampler:
    """Of the main thread. A signal comes between two steps of the interpreter: what went by since the one
    before counts for the line behind it, so that a long call into C is seen. The cyclic collector says so
    itself."""

    def __init__(self, above_s: float) -> None:
        self._above = above_s
        self._spent: Counter[tuple[str, ...]] = Counter()
        self._since = time.thread_time()
        signal.signal(signal.SIGPROF, self._take)
        signal.setitimer(signal.ITIMER_PROF, SAMPLE_S, SAMPLE_S)
        gc.callbacks.append(self._collected)

    def _take(self, number: int, frame: FrameType | None) -> None:
        stack: list[str] = []
        while frame is not None and len(stack) < FRAMES_MAX:
            code = frame.f_code
            if "/trio/" not in code.co_filename:
                name = code.co_filename.rpartition("raftlog/")[2]
                stack.append(f"{name}:{frame.f_lineno} {code.co_name}")
            frame = frame.f_back
        self._spend(tuple(stack))

    def _collected(self, phase: str, info: dict[str, int]) -> None:
        self._spend(
            (f"before a collection of generation {info['generation']}",)
            if phase == "start"
            else (f"a collection of generation {info['generation']}",)
        )

    def _spend(self, where: tuple[str, ...]) -> None:
        now = time.thread_time()
        self._spent[where] += int((now - self._since) * 1e6)
        self._since = now

    def stretch_ended(self, seconds: float) -> None:
        """Say on stderr what a long one did, the most of it first."""
        self._spend(("behind the last sample",))
        all_spent, self._spent = self._spent, Counter()
        if seconds > self._above:
            print(f"\na stretch of {seconds * 1000:.0f} ms of CPU:", file=sys.stderr)
            for stack, spent in all_spent.most_common(SHOWN_MAX):
                print(f"{spent / 1000:6.1f} {' < '.join(stack)}", file=sys.stderr, flush=True)
        self._since = time.thread_time()
