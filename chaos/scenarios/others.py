"""Scenarios of other kinds: clocks, strangers that send rubbish, brokers that come and go, all at once."""

from __future__ import annotations

import random
import socket
import struct
import time
from typing import Final

from chaos.faults.clock import ClockJump
from chaos.faults.disk import SlowDisk
from chaos.faults.fault import Fault, NoEffect
from chaos.faults.network import apart, one_way
from chaos.faults.processes import Kill, Pause, Restart
from chaos.play import Play
from chaos.scenarios.scenario import GAP_MAX_S, missing, scenario
from chaos.stage import Links, Stage, Wants

HOUR_S: Final = 3600
ALL: Final = Wants(links=Links.NAMESPACES, clocks=True, strace=True, loses_power=True)
JOINED: Final = 4


@scenario("clock-jumps", 19, wants=Wants(clocks=True))
def clock_jumps(play: Play) -> None:
    """Wall clocks jump by up to an hour either way, of one broker or of all: no election, nothing deleted."""
    for _ in play.rounds():
        began = play.history.now()
        victims = play.rng.sample(play.ids, play.rng.choice([1, 3]))
        seconds = play.rng.choice([-HOUR_S, HOUR_S, -5, 5]) * play.rng.uniform(0.5, 1)
        ends = [play.begins(ClockJump(play.stage.clocks[victim], victim, seconds)) for victim in victims]
        play.calm(play.rng.uniform(1, 3))
        for end in ends:
            end()
        play.await_progress()
        gap = play.gap(began)
        play.goal("others are served", gap.length <= GAP_MAX_S, f"{gap.length:.2f} s without")


class Rubbish(Fault):
    """Strangers that send what no client sends, on connections of their own."""

    kind = "rubbish"

    def __init__(self, stage: Stage, victim: int, rng: random.Random) -> None:
        super().__init__(f"rubbish to {victim}", [victim])
        host, _, port = stage.address(victim).rpartition(":")
        self._address, self._rng = (host, int(port)), rng
        self._broker = stage.brokers[victim]
        self._open: list[socket.socket] = []
        self._memory = 0

    def begin(self) -> None:
        self._memory = self._broker.memory_bytes()
        for frame in self._frames():
            sock = socket.create_connection(self._address, timeout=10)
            try:
                sock.sendall(frame)
            except OSError:
                pass  # it was closed already
            self._open.append(sock)

    def _frames(self) -> list[bytes]:
        rng = self._rng
        noise = rng.randbytes(rng.randint(1, 4_000))
        header = struct.pack(">hhih", rng.randint(-1, 80), rng.randint(-2, 20), rng.getrandbits(31), -1)
        return [
            struct.pack(">i", 0),
            struct.pack(">i", -1),
            struct.pack(">i", (1 << 31) - 1) + noise,
            struct.pack(">i", len(noise)) + noise,
            struct.pack(">i", len(noise) + len(header)) + header + noise,
            struct.pack(">i", len(header)) + header,
            struct.pack(">i", 1_000) + noise[:10],  # and nothing more: half a frame
            b"GET / HTTP/1.1\r\nHost: broker\r\n\r\n",
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + noise,
            *[b"" for _ in range(50)],  # connected, and silent
        ]

    def end(self) -> str:
        for sock in self._open:
            sock.close()
        if not self._broker.is_running:
            raise NoEffect(f"broker {self._broker.node_id} ended: {self._broker.log_tail(5)}")
        grown = (self._broker.memory_bytes() - self._memory) >> 20
        return f"{len(self._open)} connections, memory {grown:+d} MiB"


@scenario("rubbish", 18)
def rubbish(play: Play) -> None:
    """Strangers send rubbish, half frames and nothing at all, while the load goes on."""
    for _ in play.rounds():
        began = play.history.now()
        play.suffer(Rubbish(play.stage, play.rng.choice(play.ids), play.rng), play.rng.uniform(0.2, 1))
        play.await_progress(10)
        gap = play.gap(began)
        play.goal("others are served", gap.length <= GAP_MAX_S, f"{gap.length:.2f} s without")


@scenario("elastic", 16, seconds=30.0)
def elastic(play: Play) -> None:
    """A fourth broker joins and gets its share, the coordinator is drained, stopped and removed, and another
    is killed, under load."""
    stage, at = play.stage, ("--bootstrap", play.stage.bootstrap)
    newcomer, address = stage.cluster.newcomer(JOINED)
    stage.raftlog("cluster", "add", f"{JOINED}@{address}", *at)
    newcomer.start()
    stage.raftlog("cluster", "rebalance", *at)
    play.await_progress()
    leaving = play.coordinator()
    stage.raftlog("cluster", "drain", str(leaving), *at)
    play.await_progress()
    with play.suffers(Kill(stage.brokers, [play.rng.choice(play.others(leaving))])):
        play.calm(1)
    play.await_progress()
    code = stage.brokers[leaving].stop()
    play.goal(f"broker {leaving} stops", code == 0, f"exit code {code}")
    stage.cluster.forget(leaving)
    stage.raftlog("cluster", "remove", str(leaving), "--bootstrap", stage.bootstrap)
    play.await_progress()
    play.calm(play.left_s)


@scenario("soak", 13, wants=ALL)
def soak(play: Play) -> None:
    """Faults of every kind as chance has them, one or two at a time, and calm for a quarter of the time."""
    for _ in play.rounds():
        began = time.monotonic()
        ends = [play.begins(fault) for fault in _some_faults(play)]
        play.calm(play.rng.uniform(0.5, 4))
        for end in ends:  # the network first: see half-seen-start
            end()
        play.await_progress()
        play.calm((time.monotonic() - began) / 3)


def _some_faults(play: Play) -> list[Fault]:
    """Of one broker or of two different ones."""
    stage, rng, brokers = play.stage, play.rng, play.stage.brokers
    assert stage.network is not None
    first, second, third = rng.sample(play.ids, 3)
    one: Fault = rng.choice(
        [
            apart(stage.network, [first], [second, third]),
            one_way(stage.network, [first], [second]),
            one_way(stage.network, [second, third], [first]),
            ClockJump(stage.clocks[first], first, rng.uniform(-HOUR_S, HOUR_S)),
        ]
    )
    other: Fault = rng.choice(
        [
            Kill(brokers, [second]),
            Pause(brokers, [second]),
            Restart(brokers, second),
            stage.power_loss([second]),
            stage.power_loss([first, second, third]),
            SlowDisk(brokers, second, stage.root, 0.1),
        ]
    )
    return rng.choice([[one], [other], [other], [one, other]])


missing(
    "transactions",
    14,
    "a workload of transactions",
    "Producers with transactions, and consume-transform-produce, through kills of the coordinator: all of a"
    " transaction is read, or nothing.",
)
missing(
    "compaction",
    9,
    "a workload of compacted topics",
    "A compacted topic against a dictionary, while brokers are killed: the last value of each key stays.",
)
