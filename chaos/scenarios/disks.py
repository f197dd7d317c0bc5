"""Scenarios of disks: full, read-only, slow, failing, rotten, lost."""

from __future__ import annotations

import functools
from collections.abc import Collection
from typing import Final

from confluent_kafka import KafkaException

from chaos.faults.disk import CutFiles, FlippedBytes, FullDisk, ReadOnlyDisk, SlowDisk, SyncFails
from chaos.faults.processes import Empty, Kill
from chaos.gaps import Place, usual_latency
from chaos.play import Play
from chaos.scenarios.goals import GAP_MAX_S, memory_bounded, served_since
from chaos.scenarios.scenario import scenario
from chaos.stage import Wants

TRACED: Final = Wants(strace=True)
SCRUBBED: Final = {"raftlog.scrub.interval.ms": 1_000, "log.segment.bytes": 262_144}
SMALL_DISK_BYTES: Final = 96 << 20
USUAL_S: Final = 2.0
"""How long it is measured what records take without a fault."""
SLOWER_MAX: Final = 2.0
STALLED_S: Final = 1.5
"""A sync that takes so long makes a leader hand over; one of half a second does not (docs/raft.md)."""
SMALL_FILES: Final = {"raftlog.wal.file.bytes": 4 << 20, "log.segment.bytes": 1 << 20}


@scenario("disk-errors", 8, wants=TRACED)
def disk_errors(play: Play) -> None:
    """An fsync fails once, or all writes do, at a leader or a follower: the broker stops for good, with its
    exit code, and acknowledges nothing after it."""
    for number in play.rounds():
        began = play.history.now()
        victim = play.rng.choice(play.leader_first(number % 3)[:2])
        fault = play.rng.choice([SyncFails, ReadOnlyDisk])(play.stage.brokers, victim, play.stage.root)
        play.suffer(fault, play.rng.uniform(0, 1))
        play.await_progress()
        served_since(play, began)


@scenario("disk-full", 8, wants=Wants(disk_bytes=SMALL_DISK_BYTES, options=SMALL_FILES))
def disk_full(play: Play) -> None:
    """A broker's file system is full until the broker has stopped, and has room again."""
    for number in play.rounds():
        began = play.history.now()
        victim = play.rng.choice(play.leader_first(number % 3)[:2])
        play.suffer(FullDisk(play.stage.brokers, victim), play.rng.uniform(0.2, 1))
        play.await_progress()
        served_since(play, began)
        play.calm(1)


@scenario("slow-disk", 17, wants=TRACED)
def slow_disk(play: Play) -> None:
    """Each sync of a follower takes up to half a second longer, and nobody waits for it; then each of a
    leader, which hands over when one takes longer than a second."""
    for number in play.rounds():
        leader, follower, _ = play.leader_first(number % 3)
        began, before = play.history.now(), play.stage.memory()
        play.calm(USUAL_S)
        if number % 2 == 0:
            _slow_follower(play, follower, began)
        else:
            _slow_leader(play, leader, (play.topic, number % 3))
        memory_bounded(play, before)
        play.await_progress()


def _slow_follower(play: Play, follower: int, began: float) -> None:
    """Held against what records took before, in the partitions that it does not lead."""
    slow = SlowDisk(play.stage.brokers, follower, play.stage.root, play.rng.choice([0.05, 0.2, 0.5]))
    places = {place for place, leader in play.leaders().items() if leader not in (-1, follower)}
    usual = usual_latency(play.history, began, play.history.now(), places)
    with play.suffers(slow):
        since = play.history.now()
        play.calm(play.rng.uniform(2, 4))
        _no_slower(play, places, usual, since)


def _no_slower(play: Play, places: Collection[Place], usual: float | None, since: float) -> None:
    """A goal: records take at most SLOWER_MAX times as long as they did."""
    now = play.history.now()
    took = usual_latency(play.history, since, now, places)
    what = f"a slow follower makes records take no more than {SLOWER_MAX:g} times as long"
    if usual is None or took is None:
        play.goals.met(what, False, "no records to measure")
        return
    play.goals.ratio(
        what, SLOWER_MAX, took / usual, f"{1000 * usual:.1f} ms before, {1000 * took:.1f} ms", since
    )


def _slow_leader(play: Play, leader: int, place: Place) -> None:
    seconds = play.rng.choice([0.2, 0.5, STALLED_S, STALLED_S])
    with play.suffers(SlowDisk(play.stage.brokers, leader, play.stage.root, seconds)):
        if seconds >= STALLED_S:
            is_led = functools.partial(_is_led_by_another, play, leader, place)
            took = play.wait_until(is_led, f"{leader} leads {place[0]}-{place[1]} no more")
            what = f"a leader whose disk stalls hands over within {GAP_MAX_S:g} s"
            play.goals.within(what, GAP_MAX_S, took, play.history.now() - took)
        play.calm(play.rng.uniform(2, 4))


def _is_led_by_another(play: Play, than: int, place: Place) -> bool:
    try:
        return play.leaders()[place] not in (-1, than)
    except KafkaException:
        return False


@scenario("bit-rot", 9, wants=Wants(options=SCRUBBED))
def bit_rot(play: Play) -> None:
    """Bytes of one broker's segments turn over while it runs, or its files are cut while it is down, one
    broker at a time: never served, and repaired from the others."""
    for _ in play.rounds():
        play.await_progress(100)
        began = play.history.now()
        victim = play.rng.choice(play.ids)
        kind = play.rng.choice([FlippedBytes, CutFiles])
        play.suffer(kind(play.stage.brokers, victim, play.topic, play.rng), 0.5)
        play.await_progress()
        play.wait_until(functools.partial(_is_sound, play, victim), f"broker {victim} is repaired")
        served_since(play, began)


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
        began = play.history.now()
        if number % 2 == 0:
            with play.suffers(Empty(brokers, [emptied])):
                play.await_progress()
            play.await_progress()
            served_since(play, began)
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
            play.goals.met(
                "nobody leads who lacks records", more == 0, f"{more} acknowledged by {stale}, {emptied}"
            )
            brokers[whole].launch()  # none of them is ready without it
            for one in (whole, stale, emptied):
                brokers[one].wait_ready()
            for end in (give_back, bring_back, fill):
                end()
        play.await_whole()
