"""The brokers of `raftlog dev`: what is done to them, and what they are. On the parent's event loop."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final

import trio

from raftlog.dev.forward import Unanswered, ask
from raftlog.http.messages import Refusal, bad_request
from raftlog.testing.processes import BrokerDidNotStart, BrokerProcess, http_address

SLOW_MS_MAX: Final = 10_000
"""The slowest a disk is made: a sync of ten seconds is slower than any that anybody waits for."""
TELL_S: Final = 0.5
"""How long a broker has to take in what is cut; one that is paused or starts is told again later."""
RETELL_S: Final = 0.5

Cut = tuple[int, int]
Back = Callable[[BrokerProcess, Exception | None], None]
"""Told of a broker that was started again: it serves, or why not."""
Say = Callable[[str, str], None]
"""Told what was done, in a sentence and in two words."""


class Broker:
    """One broker and what was done to it."""

    def __init__(self, process: BrokerProcess) -> None:
        self.process = process
        self.id = process.node_id
        self.is_paused = False
        self.is_starting = False
        self.slow_ms = 0
        self.was_running = True
        self.told: object = None
        """What it was told last of cuts and its disk; None for a process that was told nothing yet."""

    @property
    def state(self) -> str:
        if self.is_starting:
            return "starting"
        if not self.process.is_running:
            return "down"
        return "paused" if self.is_paused else "running"

    @property
    def address(self) -> tuple[str, int]:
        host, _, port = http_address(self.process).rpartition(":")
        return host, int(port)


class Fleet:
    """All of them."""

    def __init__(self, processes: Sequence[BrokerProcess], say: Say) -> None:
        self.brokers = {process.node_id: Broker(process) for process in processes}
        self.cuts: set[Cut] = set()
        self._say = say
        self._nursery: trio.Nursery | None = None
        self._back: Back = lambda process, why_not: None

    def status(self) -> dict[str, Any]:
        return {
            "brokers": [
                {"id": broker.id, "state": broker.state, "slow_ms": broker.slow_ms}
                for broker in self.brokers.values()
            ],
            "cuts": sorted(map(list, self.cuts)),
        }

    def broker(self, number: object) -> Broker:
        """Raises Refusal."""
        found = self.brokers.get(number) if isinstance(number, int) else None
        if found is None:
            raise Refusal(404, "NOT_FOUND", f"there is no broker {str(number)[:20]}")
        return found

    def best(self) -> list[Broker]:
        """Those that can be asked about the cluster: on the larger side of what is cut first."""
        running = [broker for broker in self.brokers.values() if broker.state == "running"]
        return sorted(running, key=lambda broker: (-self._side_of(broker, running), broker.id))

    def _side_of(self, broker: Broker, running: Iterable[Broker]) -> int:
        """How many it reaches."""
        reached, waiting = {broker.id}, [broker.id]
        while waiting:
            one = waiting.pop()
            for other in running:
                if other.id not in reached and _pair(one, other.id) not in self.cuts:
                    reached.add(other.id)
                    waiting.append(other.id)
        return len(reached)

    @property
    def is_over(self) -> bool:
        return all(broker.state == "down" for broker in self.brokers.values())

    @property
    def is_starting(self) -> bool:
        return any(broker.is_starting for broker in self.brokers.values())

    # Links and disks

    async def change_links(self, cut: list[Cut], heal: list[Cut]) -> None:
        fresh, gone = set(cut) - self.cuts, set(heal) & self.cuts
        self.cuts = (self.cuts | fresh) - gone
        for a, b in sorted(fresh):
            self._say(f"link {a}-{b} is cut by the console", f"cut {a}-{b}")
        for a, b in sorted(gone):
            self._say(f"link {a}-{b} is healed by the console", f"heal {a}-{b}")
        await self.tell_all()

    async def slow_disk(self, broker: Broker, slow_ms: int) -> None:
        if not 0 <= slow_ms <= SLOW_MS_MAX:
            raise bad_request(f"a sync is made up to {SLOW_MS_MAX} ms slower")
        broker.slow_ms = slow_ms
        what = f"takes {slow_ms} ms longer to sync" if slow_ms else "is fast again"
        self._say(f"disk of broker {broker.id} {what}, by the console", f"disk {broker.id}")
        await self.tell_all()

    async def heal(self) -> None:
        """Everything but brokers that are down: those are started."""
        for broker in self.brokers.values():
            if broker.slow_ms:
                await self.slow_disk(broker, 0)
            if broker.is_paused:
                await self.do("resume", broker)
        await self.change_links([], sorted(self.cuts))
        for broker in self.brokers.values():
            if broker.state == "down":
                await self.do("start", broker)

    async def tell_all(self) -> None:
        async with trio.open_nursery() as nursery:
            for broker in self.brokers.values():
                nursery.start_soon(self._tell, broker)

    async def _tell(self, broker: Broker) -> None:
        wanted = self._faults_of(broker)
        if broker.state not in ("running", "starting") or broker.told == wanted:
            return
        try:
            await ask(broker.address, "/api/v1/dev/faults", method="POST", body=wanted, within_s=TELL_S)
        except Unanswered:
            return  # it is told again by `watch`
        broker.told = wanted

    def _faults_of(self, broker: Broker) -> dict[str, Any]:
        others = {a if b == broker.id else b for a, b in self.cuts if broker.id in (a, b)}
        return {"cut": sorted(others), "slow_ms": broker.slow_ms}

    async def watch(self, died: Callable[[BrokerProcess], None], back: Back) -> None:
        """Tell brokers that start what is cut; say who ends, and who is back. Until cancelled."""
        self._back = back
        async with trio.open_nursery() as self._nursery:
            while True:
                for broker in self.brokers.values():
                    if broker.was_running and broker.state == "down":
                        broker.was_running, broker.is_paused, broker.told = False, False, None
                        died(broker.process)
                await self.tell_all()
                await trio.sleep(RETELL_S)

    # Processes

    async def do(self, what: str, broker: Broker) -> None:
        """Raises Refusal for what cannot be done to a broker in its state."""
        possible = {"running": ("kill", "pause"), "paused": ("kill", "resume"), "down": ("start",)}
        if what not in possible.get(broker.state, ()):
            raise Refusal(409, "BAD_REQUEST", f"broker {broker.id} is {broker.state}")
        if what == "pause":
            broker.is_paused = True
            self._say(f"broker {broker.id} is paused by the console", f"pause {broker.id}")
            broker.process.pause()
        elif what == "resume":
            broker.process.resume()
            broker.is_paused = False
            self._say(f"broker {broker.id} goes on", f"resume {broker.id}")
        elif what == "kill":
            broker.was_running = broker.is_paused = False  # its death is nothing to tell of
            self._say(f"broker {broker.id} is killed by the console", f"kill {broker.id}")
            await trio.to_thread.run_sync(broker.process.kill)
            broker.told = None
        else:
            await self._start(broker)

    async def revive(self) -> bool:
        """Start those that are down; False when none is."""
        down = [broker for broker in self.brokers.values() if broker.state == "down"]
        for broker in down:
            await self._start(broker)
        return bool(down)

    async def _start(self, broker: Broker) -> None:
        assert self._nursery is not None, "nobody watches"
        broker.is_starting = True
        broker.told = None
        self._say(f"broker {broker.id} is started by the console", f"start {broker.id}")
        try:
            broker.process.launch()
        except BaseException:
            broker.is_starting = False
            raise
        self._nursery.start_soon(self._until_ready, broker)

    async def _until_ready(self, broker: Broker) -> None:
        """In the background: without a majority it takes as long as that is missing."""
        why_not: BrokerDidNotStart | None = None
        try:
            await trio.to_thread.run_sync(broker.process.wait_ready, float(24 * 3600), abandon_on_cancel=True)
        except BrokerDidNotStart as error:
            self._say(f"broker {broker.id} did not start", f"broker {broker.id}")
            why_not = error
        finally:
            broker.is_starting = False
            broker.was_running = broker.process.is_running
        self._back(broker.process, why_not)


def _pair(a: int, b: int) -> Cut:
    return (a, b) if a < b else (b, a)


def parse_links(value: object, known: Iterable[int]) -> list[Cut]:
    """`[[1, 2], [1, 3]]`. Raises Refusal."""
    brokers = set(known)
    if not isinstance(value, list):
        raise bad_request("links are pairs of brokers: [[1, 2]]")
    found = []
    for pair in value:
        match pair:
            case [int(a), int(b)] if a != b and {a, b} <= brokers:
                found.append(_pair(a, b))
            case _:
                raise bad_request(f"{str(pair)[:40]} is no pair of brokers")
    return found


def wall_ms() -> int:
    return time.time_ns() // 1_000_000
