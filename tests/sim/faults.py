"""What goes wrong, when. Every fault ends by itself, or when the simulation heals.

It breaks nothing that the system does not promise to survive: a disk is wiped or rots only while the other
brokers hold everything that is committed.
"""

from __future__ import annotations

import errno
import random
from collections import Counter
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from raftlog.types import BrokerId
from tests.sim.broker import End, SimBroker
from tests.sim.disks import ROOT
from tests.sim.links import CALM, Weather
from tests.sim.profiles import Profile

if TYPE_CHECKING:
    from tests.sim.cluster import Cluster

RETRY_WIPE_S: Final = 0.5


class Faults:
    """Draws a fault now and then, until `stop`."""

    def __init__(self, cluster: Cluster, rng: random.Random, profile: Profile) -> None:
        self.cluster, self.rng, self.profile = cluster, rng, profile
        self.world = cluster.world
        self.counts: Counter[str] = Counter()
        self.is_on = False
        self._names = list(profile.faults)
        self._weights = [profile.faults[name] for name in self._names]
        self._rotten: SimBroker | None = None
        self._actions: dict[str, Callable[[], bool]] = {
            "kill": lambda: self._end(End.KILLED),
            "power loss": lambda: self._end(End.POWER_LOST),
            "crash point": self._crash_point,
            "whole cluster": self._whole_cluster,
            "stop": self._stop,
            "pause": self._pause,
            "partition": self._partition,
            "one way": self._one_way,
            "bridge": self._bridge,
            "reset": self._reset,
            "weather": self._weather,
            "stall": self._stall,
            "io error": self._io_error,
            "disk full": self._disk_full,
            "bit flip": self._bit_flip,
            "segment rot": self._segment_rot,
            "wipe": self._wipe,
            "transfer": self._transfer,
            "snapshot": self._snapshot,
            "clock jump": self._clock_jump,
            "part kill": self._part_kill,
        }
        for broker in cluster.brokers.values():
            broker.on_end = self._ended

    def begin(self) -> None:
        self.is_on = True
        self.cluster.links.weather = self._some_weather()
        self._later()

    def _later(self) -> None:
        self.world.after(self.rng.expovariate(1.0 / self.profile.pause), self._strike)

    def _strike(self) -> None:
        if not self.is_on:
            return
        self._later()
        name = self.rng.choices(self._names, self._weights)[0]
        if self._actions[name]():
            self.counts[name] += 1
            self.world.note(f"fault: {name}")

    def heal(self) -> None:
        """Everything works again from now on."""
        self.is_on = False
        links = self.cluster.links
        links.weather = CALM
        links.heal()
        self.cluster.client_loss = 0.0
        for broker in self.cluster.brokers.values():
            broker.disk.crash_after = None
            broker.disk.capacity = None
            broker.disk.forget_faults()
            broker.pace.stalled_until = min(broker.pace.stalled_until, self.world.now)
            broker.resume()
            if not broker.is_up:
                self._restart(broker)

    # Who and what

    def _up(self) -> list[SimBroker]:
        return [broker for broker in self.cluster.brokers.values() if broker.is_up]

    def _one(self) -> SimBroker | None:
        """A broker that may go down."""
        up = self._up()
        down = len(self.cluster.brokers) - len(up)
        if not up or (down + 1) / len(self.cluster.brokers) > self.profile.down_max:
            return None
        if self.rng.random() < 0.4:  # leaders are where the interesting things happen
            leading = [b for b in up if b.node and any(g.is_leader for g in b.node.driver.groups.values())]
            if leading:
                return self.rng.choice(leading)
        return self.rng.choice(up)

    def _some_weather(self) -> Weather:
        weather = self.rng.choice(self.profile.weathers)
        return CALM if weather == CALM else weather

    def _for_a_while(self, low: float, high: float, end: Callable[[], None]) -> None:
        self.world.after(self.rng.uniform(low, high), end)

    # Processes and machines

    def _ended(self, broker: SimBroker, how: End) -> None:
        """Its peers find out. Somebody starts it again, sooner or later."""
        for peer in self._up():
            self._find_out(peer, broker, how)
        broker.disk.capacity = None
        delay = self.rng.choice((0.05, 0.3, 1.0, 3.0)) * self.rng.uniform(0.5, 2.0)
        if not self.is_on:
            delay = 0.2
        life = broker.life
        self.world.after(delay, lambda: self._restart(broker) if broker.life == life else None)

    def _find_out(self, peer: SimBroker, gone: SimBroker, how: End) -> None:
        """A process that ends closes its connections, and its port refuses others; a machine does neither."""
        if how is End.POWER_LOST or self.cluster.links.is_cut(gone.id, peer.id):
            return

        def find_out() -> None:
            node = peer.node
            if node is not None and not gone.is_up:
                node.links.disconnect(gone.id)  # the node knocks at its port

        peer.after(self.rng.uniform(0.001, 0.1), find_out)

    def _restart(self, broker: SimBroker) -> None:
        if broker.is_up:
            return
        if broker.needs_wipe:
            if not self.cluster.may_lose(broker):
                life = broker.life
                self.world.after(RETRY_WIPE_S, lambda: self._restart(broker) if broker.life == life else None)
                return
            self._empty(broker)
        broker.start()

    def _empty(self, broker: SimBroker) -> None:
        if self._rotten is broker:
            self._rotten = None
        broker.wipe()

    def _end(self, how: End) -> bool:
        broker = self._one()
        if broker is None:
            return False
        broker.kill(how)
        return True

    def _crash_point(self) -> bool:
        broker = self._one()
        if broker is None:
            return False
        broker.disk.crash_after = broker.disk.operations + self.rng.choice((1, 2, 3, 5, 10, 30))
        return True

    def _whole_cluster(self) -> bool:
        for broker in self._up():
            broker.kill(End.POWER_LOST)
        return True

    def _stop(self) -> bool:
        broker = self._one()
        if broker is None:
            return False
        broker.stop()
        return True

    def _pause(self) -> bool:
        broker = self._one()
        if broker is None or broker.is_paused:
            return False
        life = broker.life
        broker.pause()
        self._for_a_while(0.1, 5.0, lambda: broker.resume() if broker.life == life else None)
        return True

    # Network

    def _partition(self) -> bool:
        everyone = list(self.cluster.everyone)
        self.rng.shuffle(everyone)
        at = self.rng.randint(1, len(everyone) - 1)
        self._cut_all([(a, b) for a in everyone[:at] for b in everyone[at:]], both=True)
        return True

    def _one_way(self) -> bool:
        one = self.rng.choice(self.cluster.everyone)
        others = [broker for broker in self.cluster.everyone if broker != one]
        others = others if self.rng.random() < 0.5 else self.rng.sample(others, 1)
        pairs = [(one, other) for other in others]
        if self.rng.random() < 0.5:
            pairs = [(other, one) for one, other in pairs]
        self._cut_all(pairs, both=False)
        return True

    def _bridge(self) -> bool:
        """Two camps that only one broker can reach both of."""
        everyone = list(self.cluster.everyone)
        self.rng.shuffle(everyone)
        half = len(everyone) // 2
        self._cut_all([(a, b) for a in everyone[:half] for b in everyone[half + 1 :]], both=True)
        return True

    def _cut_all(self, pairs: list[tuple[BrokerId, BrokerId]], *, both: bool) -> None:
        links = self.cluster.links
        for one, other in pairs:
            links.cut(one, other)
            if both:
                links.cut(other, one)
        self._for_a_while(0.3, 5.0, links.heal)

    def _reset(self) -> bool:
        one, other = self.rng.sample(self.cluster.everyone, 2)
        self.cluster.links.reset(one, other)
        if self.rng.random() < 0.2:
            self.world.after(0.05, lambda: self._lie(self.cluster.brokers[one], other))
        return True

    def _lie(self, broker: SimBroker, peer: BrokerId) -> None:
        """A firewall refuses the new connection: it looks as if the peer's process had ended."""
        node = broker.node
        if node is not None:
            broker.act(lambda: node.driver.peer_is_gone(peer, self.world.now))

    def _weather(self) -> bool:
        self.cluster.links.weather = self._some_weather()
        return True

    # Disks

    def _stall(self) -> bool:
        up = self._up()
        if not up:
            return False
        seconds = self.rng.choice((0.05, 0.3, 1.0, 3.0))
        for broker in self.rng.sample(up, self.rng.randint(1, min(2, len(up)))):
            broker.stall(seconds)
        return True

    def _io_error(self) -> bool:
        broker = self._one()
        if broker is None:
            return False
        operation = self.rng.choice(("sync", "sync", "write", "create", "rename"))
        broker.disk.fail_next(operation, code=errno.EIO)
        return True

    def _disk_full(self) -> bool:
        broker = self._one()
        if broker is None:
            return False
        broker.disk.capacity = broker.disk.used + self.rng.choice((0, 2000, 20_000))
        return True

    def _bit_flip(self) -> bool:
        """One disk rots, and no other is lost until that one has been replaced."""
        broker = self._rotten or self._one()
        if broker is None or not self.cluster.may_lose(broker):
            return False
        files = [path for path in broker.disk.files(ROOT) if not path.endswith("lock")]
        if not files:
            return False
        path = self.rng.choice(files)
        size = len(broker.disk.content(path))
        if not size:
            return False
        self._rotten = broker
        self.cluster.invariants.rots(broker)
        # What the page cache holds is as it was until the machine starts again.
        broker.kill(End.POWER_LOST)
        bit = self.rng.randrange(8 * size)
        if broker.disk.exists(path) and not broker.disk.may_look_torn(path, bit // 8):
            broker.disk.flip_bit(path, bit)
        return True

    def _segment_rot(self) -> bool:
        """Bits of records turn over, while the broker runs or is down; it loses no promise by that, so that
        another disk may be lost. One broker at a time, and the others hold everything."""
        broker = self.rng.choice(list(self.cluster.brokers.values()))
        spotted = [other for other in self.cluster.brokers.values() if other.disk.is_spotted]
        is_only_one = self._rotten in (None, broker) and spotted in ([], [broker])
        if not is_only_one or not self.cluster.may_lose(broker):
            return False
        disk = broker.disk
        under = disk.files(ROOT) if disk.exists(ROOT) else []
        files = [path for path in under if path.endswith(".log") and disk.content(path)]
        for path in self.rng.sample(files, min(len(files), self.rng.randint(1, 3))):
            disk.spot(path, self.rng.randrange(8 * len(disk.content(path))))
        return bool(files)

    def _wipe(self) -> bool:
        broker = self._one()
        if broker is None or self._rotten is not None or not self.cluster.may_lose(broker):
            return False
        broker.kill(End.POWER_LOST)
        self._empty(broker)
        return True

    # What an operator or an upgrade does

    def _transfer(self) -> bool:
        led = [
            (broker, group)
            for broker in self._up()
            if broker.node is not None
            for group in broker.node.driver.groups.values()
            if group.is_leader and len(group.voters) > 1
        ]
        if not led:
            return False
        broker, group = self.rng.choice(led)
        target = self.rng.choice(sorted(group.voters - {broker.id}))
        broker.act(lambda: self._hand_over(broker, group.key, target))
        return True

    def _hand_over(self, broker: SimBroker, key: bytes, target: BrokerId) -> None:
        assert broker.node is not None
        group = broker.node.driver.groups.get(key)  # type: ignore[call-overload]
        if group is not None:
            group.leading.transfer(target, self.world.now)

    def _snapshot(self) -> bool:
        up = self._up()
        if not up:
            return False
        broker = self.rng.choice(up)

        def save() -> None:
            assert broker.node is not None
            broker.node.save()

        broker.act(save)
        return True

    def _clock_jump(self) -> bool:
        self.world.wall_offset_ms = self.rng.choice((-1_500_000, -5000, 5000, 1_500_000))
        return True

    def _part_kill(self) -> bool:
        """Jepsen's choreography: a majority without the others writes, one of it loses power, and makes a
        majority with those who never saw the writes."""
        everyone = list(self.cluster.everyone)
        if len(self._up()) < len(everyone) or not self.is_on:
            return False
        self.rng.shuffle(everyone)
        half = len(everyone) // 2
        left, middle, right = everyone[:half], everyone[half], everyone[half + 1 :]
        links, world = self.cluster.links, self.world
        for a in left:
            for b in (middle, *right):
                links.cut(a, b)
                links.cut(b, a)

        def shift() -> None:
            if not self.is_on:
                return
            self.cluster.brokers[middle].kill(End.POWER_LOST)
            links.heal()
            for a in right:
                for b in (*left, middle):
                    links.cut(a, b)
                    links.cut(b, a)
            world.after(4.0, links.heal)

        world.after(self.rng.uniform(1.5, 4.0), shift)
        return True
