"""`python -m raftlog.testing.serve [--journal DIR] [--sync-delay S] [--clock FILE] [--repeats FILE]
[--plant NAME] serve …`

`raftlog serve` with a disk that can lose its power (`power`), a wall clock that can be moved (`clock`), links
that deliver twice (`repeats`), or a bug that was planted to see whether a test finds it (`plants`). For tests
of raftlog alone.
"""

from __future__ import annotations

import argparse
import functools
import runpy
import sys
from contextlib import ExitStack
from pathlib import Path

from raftlog.testing.clock import follow
from raftlog.testing.power import PowerDisk


def run(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m raftlog.testing.serve", description=__doc__)
    parser.add_argument("--journal", type=Path, help="the folder of the disk's journal")
    parser.add_argument("--sync-delay", type=float, default=0.0, help="seconds that each sync takes longer")
    parser.add_argument("--clock", type=Path, help="the file that moves the wall clock")
    parser.add_argument("--repeats", type=Path, help="the file that says what comes again between brokers")
    parser.add_argument("--plant", help="the bug, by its name")
    own, rest = parser.parse_known_args(arguments)
    if own.clock is not None:
        follow(own.clock)
    with ExitStack() as stack:
        if own.journal is not None:
            from raftlog.broker.server import Broker

            disk = PowerDisk(own.journal, sync_delay=own.sync_delay)
            Broker.open = functools.partial(Broker.open, disk=disk)  # type: ignore[method-assign]
        if own.repeats is not None:
            from raftlog.testing.repeats import follow as follow_repeats

            follow_repeats(own.repeats)
        if own.plant is not None:
            from raftlog.testing.plants import plant

            stack.enter_context(plant(own.plant))
        sys.argv[1:] = rest
        runpy.run_module("raftlog", run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    run(sys.argv[1:])
