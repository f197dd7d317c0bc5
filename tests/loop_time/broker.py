"""`python -m tests.loop_time.broker KEY=VALUE…`: `raftlog serve`, and a line of JSON for each line of stdin.

`state`: how many groups there are, what they have committed together, how often a replica here has become a
candidate because its leader was not heard (elections), and how often because its leader asked it to.
`times`: what the loop (by the clock, and of the CPU), its turns of Raft and its syncs took since the last
time that this was asked.
"""

from __future__ import annotations

import gc
import json
import logging
import os
import sys
import time
from typing import Any, Final

import trio

from raftlog.broker.server import Broker
from raftlog.cli.serve import settle_collector
from raftlog.config import BrokerConfig
from raftlog.raft.durations import Durations
from raftlog.raft.events import Cause, Kind
from raftlog.storage.descriptors import raise_limit
from tests.loop_time.why import WHY, Sampler

EDGES_MS: Final = (1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 250.0, 1000.0)


class LoopCpu(trio.abc.Instrument):
    """The CPU time of each stretch of the loop: on a busy machine a stretch takes longer than its work."""

    def __init__(self, sampler: Sampler | None) -> None:
        self.stretches = Durations()
        self._sampler = sampler
        self._since = time.thread_time()

    def before_io_wait(self, timeout: float) -> None:
        now = time.thread_time()
        self.stretches.add(now - self._since)
        if self._sampler is not None:
            self._sampler.stretch_ended(now - self._since)
            now = time.thread_time()
        self._since = now


def answer(broker: Broker, cpu: Durations, question: str) -> dict[str, Any]:
    inside = broker.inside
    if question == "state":
        groups = inside.driver.groups.values()
        return {
            "process": os.getpid(),
            "groups": len(groups),
            "committed": sum(group.commit_index for group in groups),
            "elections": inside.driver.events.counts[Kind.CANDIDATE, Cause.SILENT],
            "hand-overs": inside.driver.events.counts[Kind.CANDIDATE, Cause.HANDED_OVER],
        }
    times = inside.turn_times
    measured = {"loop": inside.loop_time.stretches, "cpu": cpu, "turns": times.turns, "syncs": times.syncs}
    return {name: _told(durations) for name, durations in measured.items()}


def _told(durations: Durations) -> dict[str, Any]:
    bands = [band.count for band in durations.bands(EDGES_MS)]
    told = {**durations.statistics(), "bands": bands}
    durations.clear()
    return told


async def main(broker: Broker) -> None:
    above_ms = os.environ.get(WHY)
    cpu = LoopCpu(Sampler(float(above_ms) / 1000) if above_ms else None)
    trio.lowlevel.add_instrument(cpu)
    async with trio.open_nursery() as nursery:
        await nursery.start(broker.run)
        gc.freeze()
        print("ready", flush=True)
        while question := await trio.to_thread.run_sync(sys.stdin.readline):
            print(json.dumps(answer(broker, cpu.stretches, question.strip())), flush=True)
        nursery.cancel_scope.cancel()


if __name__ == "__main__":
    logging.basicConfig(stream=sys.stderr, level=logging.WARNING)
    raise_limit()
    broker = Broker.open(BrokerConfig.of(dict(option.split("=", 1) for option in sys.argv[1:])))
    settle_collector()
    try:
        trio.run(main, broker)
    finally:
        broker.close()
