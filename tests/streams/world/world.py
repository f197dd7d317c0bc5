"""One seed: workers of one app are fed, killed, paused, moved and lied to; then all is calm, and the results
are judged.

With exactly_once each input has its effect once, in state and in what is committed; with at_least_once at
least once. A window is given at its end with all of its records: once, or at least once. Commands, of which
there are some with exactly_once, have just the events and replies that follow from their order.
"""

from __future__ import annotations

import logging
import os
import random
import tempfile
import threading
import traceback
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

import trio
import trio.testing

from raftlog import streams as rs
from raftlog.client.metadata import TopicPartition
from raftlog.client.partitioner import murmur2_partition
from raftlog.streams.errors import StreamsError
from raftlog.streams.seating import Losses
from raftlog.streams.worker import Worker
from tests.streams.world.client import TRANSACTION_SECONDS_MAX, Weather, WorldClient
from tests.streams.world.group import Group, Member
from tests.streams.world.log import COMMITTED, Entry, Log

KEYS = "abcdefg"
WINDOW_MS = 10_000
PARTITIONS = 3
FED_SECONDS = 40.0
FOLDERS = "/dev/shm" if os.path.isdir("/dev/shm") else None
"""State goes to real files; a disk would only slow that down."""
SETTLED_SECONDS_MAX = 120.0


class Wrong(AssertionError):
    """An invariant does not hold; the message begins with the seed."""


@dataclass(frozen=True, slots=True)
class Report:
    """What a seed came to."""

    fed: int
    transactions: int
    aborted: int
    kills: int
    pauses: int
    shakes: int
    standbys: int
    late: int
    """Writes to changelogs by workers that had lost them. At least once, such a seed is not judged."""


def make(name: str, guarantee: str, standbys: int) -> rs.App:
    """The app: a count of all time, and a count by windows, behind one repartition each."""
    app = rs.App(name, guarantee=guarantee, idle_ms=None, standbys=standbys)  # type: ignore[arg-type]
    words = app.stream("in", value=rs.TEXT).key_by(lambda value: value)
    words.count("counts").changes().to("counts", value=rs.JSON)
    words.window(rs.tumbling(size_s=WINDOW_MS / 1000)).count("windows").final().to("windows", value=rs.JSON)
    if guarantee == "exactly_once":
        sums = app.aggregate(
            "events", name="sums", initial=int, apply=lambda total, event: total + event["add"]
        )
        app.commands("commands", sums, replies="replies")(decide)
    return app


def decide(command: dict[str, Any], total: int, version: int) -> Any:
    """Some command an old version, and some more than there is."""
    if command["expect"] not in (None, version):
        return rs.Refused("conflict", expected=command["expect"])
    if total + command["add"] < 0:
        return rs.Refused("too much", total=total)
    return [
        {"id": command["id"], "n": version + 1 + i, "add": command["add"]} for i in range(command["times"])
    ]


class World:
    """One seed."""

    def __init__(self, seed: int, guarantee: str, folder: str) -> None:
        self.seed = seed
        self.guarantee = guarantee
        self.rng = random.Random(f"world/{seed}/{guarantee}")
        self.standbys = random.Random(f"standbys/{seed}").choice((0, 0, 1))
        self.log = Log()
        self.group = Group(self.log)
        bad = self.rng.choice((0.0, 0.01, 0.1))
        self.weather = Weather(self.rng, lost=bad, unanswered=bad)
        self.fed: Counter[str] = Counter()
        self.windows: Counter[tuple[str, int]] = Counter()
        self.commands = 0
        self.happened: Counter[str] = Counter()
        self._folder = folder
        self._clients: list[WorldClient | None] = [None] * self.rng.choice((1, 2, 3))
        self._scopes: list[trio.CancelScope] = []
        self._ends = [0] * PARTITIONS

    async def play(self) -> Report:
        """All of it. Raises Wrong."""
        for topic in ("in", "counts", "windows", "commands", "events", "replies"):
            self.log.create(topic, PARTITIONS)
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            nursery.start_soon(self.group.run)
            nursery.start_soon(self._time_out)
            for slot in range(len(self._clients)):
                self._start(slot)
            await self._feed_and_hurt()
            self.weather.calm()
            for slot, client in enumerate(self._clients):
                if client is not None:
                    await self._wake(slot)
            await self._until_settled()
            nursery.cancel_scope.cancel()
        self._judge()
        return Report(
            self.fed.total(),
            self.log.counts["committed"],
            self.log.counts["aborted"],
            self.happened["kill"],
            self.happened["pause"],
            self.happened["shake"],
            self.standbys,
            self.log.counts["late"],
        )

    # -- what happens

    async def _feed_and_hurt(self) -> None:
        rng, until = self.rng, trio.current_time() + FED_SECONDS
        while trio.current_time() < until:
            for _ in range(rng.randrange(8)):
                self._feed(rng.choice(KEYS), rng.randrange(PARTITIONS))
            if self.guarantee == "exactly_once" and rng.random() < 0.7:
                self._command(rng.choice(KEYS))
            await trio.sleep(rng.expovariate(4))
            slot = rng.randrange(len(self._clients))
            match rng.choices(("nothing", "kill", "pause", "shake", "stop"), (30, 2, 1, 2, 1))[0]:
                case "kill":
                    self._kill(slot)
                case "pause" if (client := self._clients[slot]) is not None and client.awake.is_set():
                    self.happened["pause"] += 1
                    client.awake = trio.Event()
                    self._nursery.start_soon(self._wake_later, slot, rng.choice((1.0, 8.0, 15.0, 30.0)))
                case "shake":
                    self.happened["shake"] += 1
                    self.group.shake()
                case _:
                    pass

    def _feed(self, key: str, partition: int) -> None:
        self._ends[partition] += self.rng.randrange(1500)
        at = self._ends[partition]
        self.log.append(TopicPartition("in", partition), Entry(None, key.encode(), at, (), COMMITTED))
        self.fed[key] += 1
        self.windows[key, at - at % WINDOW_MS] += 1

    def _command(self, key: str) -> None:
        """As somebody who knows about how many events there are."""
        rng, self.commands = self.rng, self.commands + 1
        place = TopicPartition("commands", murmur2_partition(key.encode(), PARTITIONS))
        seen = sum(entry.key == key.encode() for entry in self._read("events"))
        expect = None if rng.random() < 0.5 else max(0, seen - rng.choice((0, 0, 0, 1)))
        add, times = rng.choice((5, 3, -4)), rng.choice((1, 1, 2))
        command = {"id": self.commands, "expect": expect, "add": add, "times": times}
        self.log.append(place, Entry(key.encode(), rs.JSON.encode(command), self._ends[0], (), COMMITTED))

    def _start(self, slot: int) -> None:
        client = self._clients[slot] = WorldClient(self.log, self.group, self.weather)
        scope = trio.CancelScope()
        self._scopes[slot : slot + 1] = [scope]
        self._nursery.start_soon(self._work, slot, client, scope)

    async def _work(self, slot: int, client: WorldClient, scope: trio.CancelScope) -> None:
        state = f"{self._folder}/{slot if self.rng.random() < 0.7 else self.rng.random()}"
        worker = Worker(
            make("app", self.guarantee, self.standbys),
            client,
            state=state,
            name=f"w{slot}",
            losses=Losses(),  # type: ignore[arg-type]
        )
        try:
            with scope:
                await worker.run()
        except BaseException as error:
            if not _is_expected(error):
                raise
            self.happened["ended"] += 1
        if self._clients[slot] is client:
            client.is_dead = True
            await trio.sleep(self.rng.uniform(0.1, 3))
            self._start(slot)

    def _kill(self, slot: int) -> None:
        client = self._clients[slot]
        if client is not None and not client.is_dead:
            self.happened["kill"] += 1
            client.is_dead = True
            self._scopes[slot].cancel()

    async def _wake_later(self, slot: int, seconds: float) -> None:
        await trio.sleep(seconds)
        await self._wake(slot)

    async def _wake(self, slot: int) -> None:
        client = self._clients[slot]
        if client is None or client.awake.is_set():
            return
        client.awake.set()
        for member in self._members(client):
            await self.group.tell_the_lost(member)

    def _members(self, client: WorldClient) -> list[Member]:
        return [member for member in client.joined if not client.is_dead]

    async def _time_out(self) -> None:
        while True:
            await trio.sleep(0.5)
            self.log.time_out(trio.current_time(), TRANSACTION_SECONDS_MAX)

    async def _until_settled(self) -> None:
        """A last record of each partition closes the windows; then everything is committed."""
        for partition in range(PARTITIONS):
            self._ends[partition] = max(self._ends)
        for partition in range(PARTITIONS):
            self._ends[partition] += 10 * WINDOW_MS
            entry = Entry(None, b"end", self._ends[partition], (), COMMITTED)
            self.log.append(TopicPartition("in", partition), entry)
            self.fed["end"] += 1
        with trio.move_on_after(SETTLED_SECONDS_MAX):
            while not self._is_settled():  # noqa: ASYNC110 - it is virtual time that passes
                await trio.sleep(1)
            return
        raise Wrong(f"{self}: not settled: {self._told()}")

    @property
    def _is_spoilt(self) -> bool:
        """A worker that had lost its tasks wrote to a changelog: at least once promises nothing then."""
        return self.log.counts["late"] > 0

    def _is_settled(self) -> bool:
        if self._is_spoilt:
            places = [TopicPartition("in", partition) for partition in range(PARTITIONS)]
            found = self.log.committed
            return all(p in found and found[p].offset == self.log.end(p, committed=True) for p in places)
        if len(self._read("replies")) < self.commands:
            return False
        counted, windowed = self._counted(), self._windowed()
        return all(
            any(value >= count for value in counted.get(key, ())) for key, count in self.fed.items()
        ) and all(windowed.get(window, ()) for window in self.windows)

    # -- judgement

    def _read(self, topic: str) -> list[Entry]:
        return [
            entry
            for partition in range(PARTITIONS)
            for _, entry in self.log.read(TopicPartition(topic, partition), 0, committed=True)
        ]

    def _counted(self) -> dict[str, list[int]]:
        found: dict[str, list[int]] = {}
        for entry in self._read("counts"):
            assert entry.key is not None and entry.value is not None
            found.setdefault(entry.key.decode(), []).append(int(entry.value))
        return found

    def _windowed(self) -> dict[tuple[str, int], list[int]]:
        found: dict[tuple[str, int], list[int]] = {}
        for entry in self._read("windows"):
            assert entry.key is not None and entry.value is not None
            value = rs.JSON.decode(entry.value)
            found.setdefault((entry.key.decode(), value["start"]), []).append(value["count"])
        return found

    def _judge(self) -> None:
        if self._is_spoilt:
            return
        self._judge_commands()
        once = self.guarantee == "exactly_once"
        for key, count in self.fed.items():
            counts = self._counted()[key]
            if once and (counts[-1] != count or sorted(set(counts)) != counts):
                raise Wrong(f"{self}: {key!r} came {count} times, and was counted {counts[-20:]}")
            if not once and max(counts) < count:
                raise Wrong(f"{self}: {key!r} came {count} times, and was counted {max(counts)}")
        for window, count in self.windows.items():
            given = self._windowed()[window]
            if once and given != [count]:
                raise Wrong(f"{self}: window {window} has {count} records, and was given as {given}")
            if not once and max(given) < count:
                raise Wrong(f"{self}: window {window} has {count} records, and was given as {given}")

    def _judge_commands(self) -> None:
        """In each partition, what follows from the commands in their order: no event more, none twice."""
        for partition in range(PARTITIONS):
            versions, sums = Counter[str](), Counter[str]()
            events: list[tuple[str, Any]] = []
            replies: list[tuple[str, Any]] = []
            for offset, entry in self.log.read(TopicPartition("commands", partition), 0, committed=True):
                assert entry.key is not None and entry.value is not None
                key = entry.key.decode()
                made = decide(rs.JSON.decode(entry.value), sums[key], versions[key])
                told: dict[str, Any] = {"version": versions[key], "command": [partition, offset]}
                if isinstance(made, rs.Refused):
                    told |= {**made.details, "refused": made.reason}
                else:
                    versions[key] += len(made)
                    sums[key] += sum(event["add"] for event in made)
                    events += [(key, event) for event in made]
                    told |= {"version": versions[key], "events": len(made)}
                replies.append((key, told))
            for topic, wanted in (("events", events), ("replies", replies)):
                entries = self.log.read(TopicPartition(topic, partition), 0, committed=True)
                found = [(e.key.decode(), rs.JSON.decode(e.value)) for _, e in entries if e.key and e.value]
                if found != wanted:
                    raise Wrong(f"{self}: {topic}-{partition} has {found[-9:]}, and not {wanted[-9:]}")

    def _told(self) -> dict[str, Any]:
        counted = {key: values[-1] for key, values in self._counted().items()}
        return {"fed": dict(self.fed), "counted": counted, "happened": dict(self.happened)}

    def __repr__(self) -> str:
        return f"<World seed={self.seed} {self.guarantee}>"


def _is_expected(error: BaseException) -> bool:
    """What a worker may end with: another has its name, because it was paused."""
    if isinstance(error, BaseExceptionGroup):
        return all(map(_is_expected, error.exceptions))
    return isinstance(error, StreamsError) and "another worker" in str(error)


class ChanceOfThread:
    """Trio has one source of chance for the loops of all threads. This one is the seed's in the thread that
    made it; the others, as those of embedded brokers, draw from what was there."""

    def __init__(self, mine: random.Random, others: random.Random) -> None:
        self._thread = threading.get_ident()
        self._mine = mine
        self._others = others

    def __getattr__(self, name: str) -> Any:
        return getattr(self._mine if threading.get_ident() == self._thread else self._others, name)


@contextmanager
def one_order_of_tasks(seed: int) -> Iterator[None]:
    """Trio goes on with tasks that are ready in an order of chance: inside, the seed's, in this thread."""
    scheduler: Any = trio._core._run
    before = scheduler._ALLOW_DETERMINISTIC_SCHEDULING, scheduler._r
    chance = ChanceOfThread(random.Random(f"tasks/{seed}"), scheduler._r)
    scheduler._ALLOW_DETERMINISTIC_SCHEDULING, scheduler._r = True, chance
    try:
        yield
    finally:
        scheduler._ALLOW_DETERMINISTIC_SCHEDULING, scheduler._r = before


def play(seed: int, guarantee: str) -> Report:
    """Play one seed, the same each time. Raises Wrong, or whatever the worker raises that it must not."""
    with one_order_of_tasks(seed), tempfile.TemporaryDirectory(prefix="world-", dir=FOLDERS) as folder:

        async def main() -> Report:
            return await World(seed, guarantee, folder).play()

        return trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))


def play_both(seed: int) -> tuple[int, Counter[str], str]:
    """A seed, with both guarantees: what it came to, and what was wrong."""
    logging.disable(logging.CRITICAL)
    total: Counter[str] = Counter()
    for guarantee in ("exactly_once", "at_least_once"):
        try:
            total.update(asdict(play(seed, guarantee)))
        except BaseException:
            return seed, total, f"{guarantee}\n{traceback.format_exc()}"
    return seed, total, ""
