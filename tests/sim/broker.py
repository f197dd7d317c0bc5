"""A broker of the simulation: a disk that lives on, and processes on it that come and go.

It plays the part of `raftlog.raft.runner`: turns when there is work or a deadline, a sync that takes the time
that the disk takes, a checkpoint beside them. It decides nothing about Raft. Whatever a process does runs
inside `guard`, where power loss and failures of the disk end it.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum, auto
from functools import partial
from typing import Any, Final, Protocol

from raftlog.config import BrokerConfig
from raftlog.errors import ConfigError, DamagedLog, DiskFailed
from raftlog.metadata.state import MetadataState
from raftlog.raft.driver import FOREVER
from raftlog.raft.runner import STALLED
from raftlog.storage.store import Store, StoreSettings, WriteTicket
from raftlog.types import BrokerId, GroupKey
from tests.sim.disks import ROOT, SimDisk
from tests.sim.links import Links
from tests.sim.node import SimNode
from tests.sim.virtual_disk import PowerLost
from tests.sim.virtual_trio import VirtualTrio
from tests.sim.world import World

TURN_DELAYS: Final = (0.0002, 0.0005, 0.002)
"""Seconds between work and the turn that does it, one of them a seed: what arrives together shares a turn."""


class End(Enum):
    """How a process ended."""

    KILLED = auto()
    POWER_LOST = auto()
    DISK_FAILED = auto()
    DAMAGED = auto()
    STOPPED = auto()


@dataclass(slots=True, kw_only=True)
class DiskPace:
    """How long a disk takes, in seconds. Until `stalled_until` a sync waits."""

    sync_min: float = 0.0002
    sync_max: float = 0.002
    checkpoint_max: float = 0.02
    stalled_until: float = 0.0


class Observer(Protocol):
    """Who checks the invariants."""

    def starting(self, broker: SimBroker, node: SimNode) -> None: ...
    def writes(self, broker: SimBroker, keys: list[GroupKey], path: str) -> None: ...
    def sent(self, broker: SimBroker, receiver: BrokerId, messages: Any) -> None: ...
    def turned(self, broker: SimBroker) -> None: ...
    def looked(self, broker: SimBroker) -> None: ...
    def closing(self, broker: SimBroker) -> None: ...
    def ended(self, broker: SimBroker, how: End) -> None: ...
    def wiped(self, broker: SimBroker) -> None: ...
    def new_state(self, broker: SimBroker) -> MetadataState: ...


class SimBroker:
    """See the module. `node` is None while no process runs."""

    def __init__(
        self,
        broker: BrokerId,
        world: World,
        trio: VirtualTrio,
        links: Links,
        observer: Observer,
        config: BrokerConfig,
        settings: StoreSettings,
        turn_delay: float,
    ) -> None:
        self.id = broker
        self.life = 0
        self.node: SimNode | None = None
        self.disk = SimDisk(world.fork())
        self.pace = DiskPace()
        self.is_paused = False
        self.needs_wipe = False
        """Its disk is not what it was: it starts again only from an empty one."""
        self.on_end: Callable[[SimBroker, End], None] = lambda broker, how: None
        self.on_start: Callable[[SimBroker], None] = lambda broker: None
        self.max_turn_gap = 0.0
        self._world, self._trio, self._links, self._observer = world, trio, links, observer
        self._config, self._settings, self._turn_delay = config, settings, turn_delay
        self._rng = world.fork()
        self._outbox: dict[BrokerId, list[Any]] = {}
        self._turn_at = self._alarm_at = FOREVER
        self._turn_due: Callable[[], None] = lambda: None
        self._turn_label = f"turn {broker}"
        self._sync_done = False
        self._checkpoint_runs = False
        self._syncing: WriteTicket | None = None
        self._backlog: list[Callable[[], None]] = []

    def __repr__(self) -> str:
        state = "down" if self.node is None else "paused" if self.is_paused else "up"
        return f"<SimBroker {self.id} life={self.life} {state}>"

    @property
    def is_up(self) -> bool:
        return self.node is not None

    # Life and death

    def start(self) -> None:
        """Recover from the disk and run. A disk that cannot be recovered from leaves it down."""
        assert self.node is None
        self.life += 1
        self.is_paused = False
        self._outbox = {}
        self._turn_at = self._alarm_at = FOREVER
        self._turn_due = self._turn_of(self.life)
        self._sync_done = self._checkpoint_runs = False
        self._syncing = None
        self._backlog = []
        self._world.note(f"start {self.id}")
        self._guarded(self._open)

    def _open(self) -> None:
        store = Store.open(self.disk, ROOT, self._settings, rng=random.Random(self._rng.getrandbits(64)))
        node = SimNode(
            self._config,
            store,
            self._world,
            self._trio,
            random.Random(self._rng.getrandbits(64)),
            self._observer.new_state(self),
            send_raft=self._send_raft,
            send_note=self._send_note,
            after=self.after,
        )
        self.node = node
        self._observer.starting(self, node)
        self._links.attach(self.id, self.life, self._receive)
        self.on_start(self)
        node.start()
        self._on_work()

    def kill(self, how: End = End.KILLED) -> None:
        """The process is gone; with POWER_LOST the machine as well."""
        if self.node is None and how is not End.POWER_LOST:
            return
        self._world.note(f"{how.name} {self.id}")
        if how is End.POWER_LOST:
            self.disk.power_loss()
        else:
            self.disk.kill()
        self._end(how)

    def _end(self, how: End) -> None:
        was_up = self.node is not None
        if self._rng.random() < 0.5:
            self._flush()  # what had been sent before the end was on its way
        self._outbox = {}
        self.node = None
        self.is_paused = False
        self._links.detach(self.id)
        self._observer.ended(self, how)
        if was_up or how is not End.POWER_LOST:
            self.on_end(self, how)

    def stop(self) -> None:
        """SIGTERM: hand leaderships over, save, checkpoint, release."""
        node = self.node
        if node is not None and not self.is_paused:
            self.act(lambda: node.hand_over(self._close))

    def _close(self) -> None:
        node = self.node
        assert node is not None
        self.disk.crash_after = None
        if self._syncing is not None:
            self._syncing.sync()  # Runner leaves no thread behind
        self._observer.closing(self)
        node.close()
        self._look()
        self._world.note(f"STOPPED {self.id}")
        self.disk.kill()
        self._end(End.STOPPED)

    def wipe(self) -> None:
        """An empty disk in the place of the old one. The process must be down."""
        assert self.node is None
        self._world.note(f"wipe {self.id}")
        self.disk = SimDisk(self._world.fork())
        self.needs_wipe = False
        self._observer.wiped(self)

    def pause(self) -> None:
        if self.node is not None:
            self.is_paused = True

    def resume(self) -> None:
        if not self.is_paused:
            return
        self.is_paused = False
        backlog, self._backlog = self._backlog, []
        for what in backlog:
            self.act(what)
        self._turn_at = FOREVER
        self._on_work()

    def stall(self, seconds: float) -> None:
        """The disk takes its time. As Runner: who has waited for it long gives his leaderships away."""
        self.pace.stalled_until = self._world.now + seconds

        def look() -> None:
            if self.node is not None and self._syncing and self._world.now < self.pace.stalled_until:
                self.node.driver.yield_leadership(self._world.now)
                self.after(STALLED, look)

        self.after(STALLED, look)

    # What a process does

    def act(self, what: Callable[[], None]) -> bool:
        """Do something as this broker's process: now, or when it is no longer paused. False: it is down, or
        died of it."""
        if self.node is None:
            return False
        if self.is_paused:
            self._backlog.append(what)
            return True
        return self._guarded(what)

    def after(self, delay: float, what: Callable[[], None]) -> None:
        """Do something later, if this life lasts until then."""
        life = self.life

        def due() -> None:
            if self.life == life and self.node is not None:
                self.act(what)

        self._world.after(delay, due)

    def _guarded(self, what: Callable[[], None]) -> bool:
        life = self.life
        try:
            what()
            if self.life == life and self.node is not None:
                self.node.go_on()
        except PowerLost:
            self._look()  # what it had done by then counts, answers included
            self.kill(End.POWER_LOST)
        except DiskFailed:
            self._fail(End.DISK_FAILED)
        except (DamagedLog, ConfigError) as error:  # a bit of meta.toml may say that it is another format's
            self._world.note(f"{self.id}: {error}")
            self.needs_wipe = self.node is None
            self._fail(End.DAMAGED)
        if self.life != life or self.node is None:
            return False
        if self._outbox:
            self._flush()
        self._look()
        self._schedule()
        return True

    def _look(self) -> None:
        if self.node is not None:
            self.disk.is_observed = True
            self._observer.looked(self)
            self.disk.is_observed = False

    def _fail(self, how: End) -> None:
        self._look()
        if self.node is not None:
            self.node.driver.abandon()
        self._world.note(f"{how.name} {self.id}")
        self.disk.kill()
        self._end(how)

    def _receive(self, sender: BrokerId, packet: Any) -> None:
        kind, content = packet
        node = self.node
        assert node is not None
        if kind == "note":
            self.act(partial(node.links.on_note, sender, content))
        elif self.is_paused:
            self._backlog.append(lambda: node.driver.receive(sender, content))
        else:
            node.driver.receive(sender, content)  # which changes nothing before the turn that it is due in
            self._schedule()

    # Turns

    def _on_work(self) -> None:
        self._due(self._world.now + self._turn_delay)

    def _schedule(self) -> None:
        """See that a turn comes when one is due. Looked at after everything that the process does, so that
        nobody has to listen to the driver meanwhile."""
        assert self.node is not None
        driver = self.node.driver
        if self._sync_done or driver.has_work:
            self._due(self._world.now + self._turn_delay)
        elif (deadline := driver.next_deadline) < self._alarm_at:
            self._set_alarm(deadline)

    def _due(self, when: float) -> None:
        """Never before now. An earlier turn takes the place of one that is due later."""
        if when < self._turn_at:
            self._turn_at = when
            self._world.at(when, self._turn_due, self._turn_label)

    def _turn_of(self, life: int) -> Callable[[], None]:
        """What an event of this life does when its time has come, if it is still the one that is awaited."""
        world = self._world

        def turn() -> None:
            is_due = self.life == life and self._turn_at == world.now
            if is_due and self.node is not None and not self.is_paused:
                self._turn_at = FOREVER
                self._guarded(self._turn)

        return turn

    def _set_alarm(self, when: float) -> None:
        """Deadlines move on far more often than they come: one alarm looks then whether its time has come."""
        self._alarm_at = when = max(when, self._world.now)
        life = self.life

        def ring() -> None:
            if self.life == life and self._alarm_at == when and self.node is not None:
                self._alarm_at = FOREVER
                deadline = self.node.driver.next_deadline
                if deadline <= self._world.now:
                    self._due(self._world.now)
                else:
                    self._set_alarm(deadline)

        self._world.at(when, ring)

    def _turn(self) -> None:
        """As Runner._turn, with a disk that takes its time."""
        node, now = self.node, self._world.now
        assert node is not None
        driver = node.driver
        if self._sync_done:
            self._sync_done = False
            driver.synced(now)
        ticket = driver.begin(now)
        if ticket is not None:
            self._observer.writes(self, [log.key for log in ticket.logs], ticket.block.file.path)
            if now >= self.pace.stalled_until:  # else the disk holds up who writes, too
                ticket.write()
            delay = self._sync_delay()
            if delay == 0.0:
                ticket.sync()
                driver.synced(now)
            else:
                self._syncing = ticket
                self._in_thread(delay, ticket.sync, self._synced)
        driver.finish(now)
        self._observer.turned(self)
        if driver.store.checkpoint_due and not self._checkpoint_runs:
            self._checkpoint_runs = True
            job = driver.store.begin_checkpoint()

            def done() -> None:
                driver.store.finish_checkpoint(job)
                self._checkpoint_runs = False
                self._on_work()

            self._in_thread(self._rng.uniform(0.0, self.pace.checkpoint_max), job.run, done)

    def _synced(self) -> None:
        self._sync_done = True
        self._syncing = None

    def _in_thread(self, delay: float, work: Callable[[], None], done: Callable[[], None]) -> None:
        """Blocking work that ends after `delay` seconds, also while the process is paused: by then the
        kernel has done it."""
        life = self.life

        def ends() -> None:
            if self.life != life or self.node is None:
                return
            if self._world.now < self.pace.stalled_until:
                self._world.at(self.pace.stalled_until, ends, f"stalled {self.id}")
                return
            if self.is_paused:
                self._backlog.append(run)
            else:
                self._guarded(run)

        def run() -> None:
            work()
            done()

        self._world.after(delay, ends, f"disk {self.id}")

    def _sync_delay(self) -> float:
        pace = self.pace
        if self._world.now < pace.stalled_until:
            return pace.stalled_until - self._world.now
        if self._rng.random() < 0.3:
            return 0.0
        return self._rng.uniform(pace.sync_min, pace.sync_max)

    # Sending

    def _send_raft(self, receiver: BrokerId, messages: Any) -> None:
        self._observer.sent(self, receiver, messages)
        self._outbox.setdefault(receiver, []).append(("raft", list(messages)))

    def _send_note(self, receiver: BrokerId, note: bytes) -> None:
        self._outbox.setdefault(receiver, []).append(("note", note))

    def _flush(self) -> None:
        """What was sent goes out in the order of the receivers' numbers: SyncObj keeps its peers in a set,
        whose order is another one in every process."""
        outbox, self._outbox = self._outbox, {}
        for receiver in sorted(outbox):
            for packet in outbox[receiver]:
                self._links.send(self.id, self.life, receiver, packet)
