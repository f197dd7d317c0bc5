"""Scenarios of disks: full, read-only, slow, failing, rotten, lost."""

from __future__ import annotations

import functools
from typing import Final

from chaos.faults.disk import CutFiles, FlippedBytes, FullDisk, ReadOnlyDisk, SlowDisk, SyncFails
from chaos.faults.processes import Empty, Kill
from chaos.play import Play
from chaos.scenarios.scenario import scenario
from chaos.stage import Wants

TRACED: Final = Wants(strace=True)
SCRUBBED: Final = {"raftlog.scrub.interval.ms": 1_000, "log.segment.bytes": 262_144}
SMALL_DISK_BYTES: Final = 96 << 20
SMALL_FILES: Final = {"raftlog.wal.file.bytes": 4 << 20, "log.segment.bytes": 1 << 20}


@scenario("disk-errors", 8, wants=TRACED)
def disk_errors(play: Play) -> None:
    """An fsync fails once, or all writes do, at a leader or a follower: the broker stops for good, with its
    exit code, and acknowledges nothing after it."""
    for number in play.rounds():
        victim = play.rng.choice(play.leader_first(number % 3)[:2])
        fault = play.rng.choice([SyncFails, ReadOnlyDisk])(play.stage.brokers, victim, play.stage.root)
        play.suffer(fault, play.rng.uniform(0, 1))
        play.await_progress()


@scenario("disk-full", 8, wants=Wants(disk_bytes=SMALL_DISK_BYTES, options=SMALL_FILES))
def disk_full(play: Play) -> None:
    """A broker's file system is full until the broker has stopped, and has room again."""
    for number in play.rounds():
        victim = play.rng.choice(play.leader_first(number % 3)[:2])
        play.suffer(FullDisk(play.stage.brokers, victim), play.rng.uniform(0.2, 1))
        play.await_progress()
        play.calm(1)


@scenario("slow-disk", 17, wants=TRACED)
def slow_disk(play: Play) -> None:
    """Each sync takes up to half a second longer, at a follower, then at a leader."""
    for number in play.rounds():
        leader, follower, _ = play.leader_first(number % 3)
        victim = leader if number % 2 else follower
        slow = SlowDisk(play.stage.brokers, victim, play.stage.root, play.rng.choice([0.05, 0.2, 0.5]))
        play.suffer(slow, play.rng.uniform(2, 4))
        play.await_progress()


@scenario("bit-rot", 9, wants=Wants(options=SCRUBBED))
def bit_rot(play: Play) -> None:
    """Bytes of one broker's segments turn over while it runs, or its files are cut while it is down, one
    broker at a time: never served, and repaired from the others."""
    for _ in play.rounds():
        play.await_progress(100)
        victim = play.rng.choice(play.ids)
        kind = play.rng.choice([FlippedBytes, CutFiles])
        play.suffer(kind(play.stage.brokers, victim, play.topic, play.rng), 0.5)
        play.await_progress()
        play.wait_until(functools.partial(_is_sound, play, victim), f"broker {victim} is repaired")


def _is_sound(play: Play, broker: int) -> bool:
    """Whether nothing is damaged on a running broker's disk; what it writes just now may look cut off."""
    return not play.stage.findings(play.stage.brokers[broker].data_dir)


@scenario("lost-disks", 16)
def lost_disks(play: Play) -> None:
    """A broker loses its disk, comes back empty, and is filled again; or one that has missed records stays
    with one that has lost them, and the last that has all is down: nobody may lead."""
    for number in play.rounds():
        whole, stale, emptied = play.rng.sample(play.ids, 3)
        brokers = play.stage.brokers
        if number % 2 == 0:
            with play.suffers(Empty(brokers, [emptied])):
                play.await_progress()
            play.await_progress()
        else:
            bring_back = play.begins(Kill(brokers, [stale]))
            play.await_progress(60)
            give_back = play.begins(Kill(brokers, [whole]))
            fill = play.begins(Empty(brokers, [emptied]))
            play.calm(0.5)
            acknowledged = play.acknowledged()
            for one in (stale, emptied):
                brokers[one].launch()
            play.calm(3)
            more = play.acknowledged() - acknowledged
            play.goal(
                "nobody leads who lacks records", more == 0, f"{more} acknowledged by {stale}, {emptied}"
            )
            brokers[whole].launch()  # none of them is ready without it
            for one in (whole, stale, emptied):
                brokers[one].wait_ready()
            for end in (give_back, bring_back, fill):
                end()
        play.await_whole()
