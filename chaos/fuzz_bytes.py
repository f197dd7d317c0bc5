"""python -m chaos.fuzz_bytes -runs=100000: as chaos.fuzz, with bytes that atheris chooses by what they reach.

atheris (`pip install 'raftlog[fuzz]'`) is libFuzzer for Python: it keeps what reached new code, and changes
that. Its options are libFuzzer's: `-runs`, `-seed`, `-max_total_time`, and a folder to keep what it found. It
begins with frames of chaos.frames.
"""

from __future__ import annotations

import random
import sys
import tempfile
from pathlib import Path
from typing import Final

import atheris

with atheris.instrument_imports(include=["raftlog.broker", "raftlog.protocol", "raftlog.records"]):
    import raftlog.broker.dispatch
    import raftlog.protocol.codec
    import raftlog.records.batch  # noqa: F401

from chaos.frames import frame
from chaos.fuzz import LOOK_EVERY, MEMORY_GROWTH_MAX, WARM_UP, Wrong, fuzzed_broker, memory_bytes

SEEDS: Final = 500
"""Frames to begin with."""
FRAME_MAX: Final = 4_096


def main() -> None:
    with fuzzed_broker() as fuzzed, tempfile.TemporaryDirectory(prefix="raftlog-fuzz-") as corpus:
        rng, before = random.Random(1), 0
        for number in range(SEEDS):
            (Path(corpus) / str(number)).write_bytes(frame(rng, fuzzed.served)[4:])
        sent = 0

        def one(data: bytes) -> None:
            nonlocal sent, before
            sent += 1
            fuzzed.send(len(data).to_bytes(4, "big") + data)
            fuzzed.hang_up()  # and hears the answer: what was reached is counted with this frame
            if sent % LOOK_EVERY:
                return
            fuzzed.look()
            memory = memory_bytes()
            print(f"{sent:>9} frames, {fuzzed.answers} answered, memory {memory >> 20} MiB", flush=True)
            if sent == WARM_UP:
                before = memory
            if before and memory - before > MEMORY_GROWTH_MAX:
                raise Wrong(f"{memory - before >> 20} MiB more after {sent} frames than after {WARM_UP}")

        atheris.Setup([*sys.argv, f"-max_len={FRAME_MAX}", corpus], one)
        atheris.Fuzz()


if __name__ == "__main__":
    main()
