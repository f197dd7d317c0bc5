"""Brokers lose their disks under load, come back empty, and must be filled again; until then their votes
must not help anybody who lacks what was acknowledged.

Each scene yields a line of what it saw, and raises Violation when that may not be.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator
from typing import Final

from tests.cluster.trial import Trial

ALONE_S: Final = 6.0
"""Several election time-outs: long enough for a wrong leader to be elected."""
LAG_RECORDS: Final = 300


class Violation(Exception):
    """Something that may not happen has happened."""


def empty(trial: Trial, node_id: int) -> None:
    """SIGKILL, and everything in the data folder is gone."""
    broker = trial.broker(node_id)
    if broker.is_running:
        broker.kill()
    shutil.rmtree(broker.data_dir)


def one_after_another(trial: Trial) -> Iterator[str]:
    """Every broker in turn loses its disk while the others serve."""
    for node_id in trial.cluster.brokers:
        begin = time.monotonic()
        empty(trial, node_id)
        trial.await_progress(records=20)
        trial.broker(node_id).start()
        whole_s = trial.wait_whole()
        gap = trial.gaps(begin, time.monotonic()).cluster
        yield f"broker {node_id} emptied: whole again after {whole_s:.1f} s, longest gap {gap.length:.3f} s"


def stale_and_empty(trial: Trial, alone_s: float = ALONE_S) -> Iterator[str]:
    """Of three brokers one misses records, one that has them loses its disk, and the third, the last that
    has them, is down: the two that are left are a majority and must not elect a leader."""
    whole, stale, emptied = _roles(trial)
    trial.broker(stale).kill()
    trial.await_progress(records=LAG_RECORDS)
    trial.broker(whole).kill()
    empty(trial, emptied)
    time.sleep(0.5)  # what was on its way to a client has arrived
    acknowledged = trial.load.history.acknowledged
    for node_id in (stale, emptied):
        trial.broker(node_id).launch()
    trial.run(alone_s)
    more = trial.load.history.acknowledged - acknowledged
    if more:
        raise Violation(f"brokers {stale} (stale) and {emptied} (emptied) acknowledged {more} records")
    begin = time.monotonic()
    trial.broker(whole).start()
    for node_id in (stale, emptied):
        trial.broker(node_id).wait_ready()
    trial.await_progress()
    served_s = time.monotonic() - begin
    whole_s = trial.wait_whole()
    yield (
        f"broker {stale} stale, {emptied} emptied, {whole} down: nothing acknowledged for {alone_s} s;"
        f" served {served_s:.1f} s after {whole} came back, whole after {whole_s:.1f} s more"
    )


def leader_lost_while_filling(trial: Trial) -> Iterator[str]:
    """A broker that leads is killed as soon as an empty one is back, before that one can be whole; the third
    has everything, and with the empty one's help alone it may not lead before it is trusted."""
    whole, leader, emptied = _roles(trial)
    empty(trial, emptied)
    trial.await_progress(records=LAG_RECORDS)
    trial.broker(emptied).launch()
    time.sleep(0.3)
    trial.broker(leader).kill()
    acknowledged = trial.load.history.acknowledged
    trial.run(ALONE_S)
    more = trial.load.history.acknowledged - acknowledged
    trial.broker(leader).start()
    trial.broker(emptied).wait_ready()
    trial.await_progress()
    whole_s = trial.wait_whole()
    yield (
        f"broker {leader} killed while {emptied} was being filled from {whole}: {more} acknowledged by those"
        f" two, whole after {whole_s:.1f} s"
    )


def follower_lost_while_filling(trial: Trial) -> Iterator[str]:
    """As before, with the broker killed that does not lead anything."""
    leader, follower, emptied = _roles(trial)
    empty(trial, emptied)
    trial.await_progress(records=LAG_RECORDS)
    trial.broker(follower).kill()
    trial.broker(emptied).launch()
    trial.run(ALONE_S)
    trial.broker(follower).start()
    trial.broker(emptied).wait_ready()
    trial.await_progress()
    yield (
        f"broker {follower} killed before {emptied} was filled from {leader}: whole after"
        f" {trial.wait_whole():.1f} s"
    )


Scene = Callable[[Trial], Iterator[str]]
SCENES: Final[tuple[Scene, ...]] = (
    one_after_another,
    stale_and_empty,
    leader_lost_while_filling,
    follower_lost_while_filling,
)


def _roles(trial: Trial) -> tuple[int, int, int]:
    """Three brokers, the one that coordinates first."""
    first = trial.coordinator()
    return first, *(node_id for node_id in trial.cluster.brokers if node_id != first)  # type: ignore[return-value]
