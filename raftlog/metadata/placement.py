"""Where replicas go: pure functions of the brokers and of what they keep already.

The same input gives the same plan on every broker. New partitions of a topic spread within one of each
other over brokers (over racks first, where racks are of one size), a partition's replicas are on as many
racks as there are, and preferred leaders are as even as the replicas allow. A broker without a rack is a
rack of its own.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from raftlog.metadata.catalog import BrokerInfo
from raftlog.types import BrokerId

Replicas = tuple[BrokerId, ...]
PartitionKey = tuple[bytes, int]
"""Topic id and partition."""


@dataclass(frozen=True, slots=True)
class NotEnoughBrokers:
    """More replicas were asked for than there are brokers to put them on."""

    wanted: int
    usable: int


@dataclass(frozen=True, slots=True)
class Move:
    """Replace a partition's replicas."""

    topic_id: bytes
    partition: int
    replicas: Replicas
    target: Replicas


@dataclass(slots=True)
class _Load:
    """Replicas by broker and by rack."""

    rack_of: Mapping[BrokerId, str]
    rack_size: Mapping[str, int]
    brokers: Counter[BrokerId] = field(default_factory=Counter)
    racks: Counter[str] = field(default_factory=Counter)

    def add(self, replicas: Iterable[BrokerId], by: int = 1) -> None:
        for broker in replicas:
            self.brokers[broker] += by
            if broker in self.rack_of:
                self.racks[self.rack_of[broker]] += by

    def of_rack(self, broker: BrokerId) -> float:
        """Replicas for each broker of this broker's rack."""
        rack = self.rack_of[broker]
        return self.racks[rack] / self.rack_size[rack]


def _load(brokers: Sequence[BrokerInfo], assignments: Iterable[Replicas]) -> _Load:
    rack_of = {broker.id: _rack(broker) for broker in brokers}
    load = _Load(rack_of, Counter(rack_of.values()))
    for replicas in assignments:
        load.add(replicas)
    return load


def _rack(broker: BrokerInfo) -> str:
    return f"rack {broker.rack}" if broker.rack is not None else f"broker {broker.id}"


def place_new_partitions(
    brokers: Sequence[BrokerInfo],
    count: int,
    replication_factor: int,
    *,
    topic: Iterable[Replicas] = (),
    cluster: Iterable[Replicas] = (),
) -> tuple[Replicas, ...] | NotEnoughBrokers:
    """Replicas for `count` new partitions, the preferred leader first. `topic` are the topic's existing
    partitions, `cluster` those of all topics. Only usable brokers are given any."""
    usable = sorted((broker for broker in brokers if broker.is_usable), key=lambda broker: broker.id)
    if replication_factor > len(usable):
        return NotEnoughBrokers(replication_factor, len(usable))
    existing, everywhere = list(topic), list(cluster)
    load, total = _load(usable, existing), _load(usable, everywhere)
    placed: list[Replicas] = []
    for _ in range(count):
        replicas: Replicas = ()
        for _ in range(replication_factor):
            replicas = (*replicas, _next_replica(replicas, load, total))
        load.add(replicas)
        total.add(replicas)
        placed.append(replicas)
    leaders = Counter(replicas[0] for replicas in existing)
    return tuple(even_leaders(placed, leaders, Counter(replicas[0] for replicas in everywhere)))


def _next_replica(chosen: Iterable[BrokerId], load: _Load, total: _Load) -> BrokerId:
    """The broker for one more replica: another rack first, then the least of the topic, then the least
    of all."""
    taken = set(chosen)
    racks = Counter(load.rack_of[broker] for broker in taken if broker in load.rack_of)
    return min(
        (broker for broker in load.rack_of if broker not in taken),
        key=lambda broker: (
            racks[load.rack_of[broker]],
            load.of_rack(broker),
            load.brokers[broker],
            total.brokers[broker],
            broker,
        ),
    )


def even_leaders(
    assignments: Sequence[Replicas],
    leaders: Counter[BrokerId] | None = None,
    total: Counter[BrokerId] | None = None,
) -> list[Replicas]:
    """The same replicas with the preferred leaders, which come first, as even as can be. `leaders` are
    those that the brokers have beside these; `total` breaks ties."""
    counts, ties = Counter(leaders or ()), Counter(total or ())
    chosen: list[BrokerId] = []
    for replicas in assignments:
        leader = min(replicas, key=lambda broker: (counts[broker], ties[broker], replicas.index(broker)))
        counts[leader] += 1
        ties[leader] += 1
        chosen.append(leader)
    while (path := _path_to_less(assignments, chosen, counts)) is not None:
        _take_path(path, chosen, counts)
    return [_led_by(leader, replicas) for leader, replicas in zip(chosen, assignments, strict=True)]


def plan_leaders(assignments: Mapping[PartitionKey, Replicas], *, moves_max: int) -> list[Move]:
    """Moves that only change the order of replicas, so that preferred leaders become even; about
    `moves_max` of them, at most the number of brokers more."""
    keys = sorted(assignments)
    replicas = [assignments[key] for key in keys]
    chosen = [each[0] for each in replicas]
    counts = Counter(chosen)
    changed: set[int] = set()
    while len(changed) < moves_max and (path := _path_to_less(replicas, chosen, counts)) is not None:
        _take_path(path, chosen, counts)
        changed.update(partition for partition, _ in path)
    return [
        Move(*keys[i], replicas[i], _led_by(chosen[i], replicas[i]))
        for i in sorted(changed)
        if chosen[i] != replicas[i][0]
    ]


def _led_by(leader: BrokerId, replicas: Replicas) -> Replicas:
    return (leader, *(broker for broker in replicas if broker != leader))


def _take_path(path: list[tuple[int, BrokerId]], chosen: list[BrokerId], counts: Counter[BrokerId]) -> None:
    for partition, leader in path:
        counts[chosen[partition]] -= 1
        counts[leader] += 1
        chosen[partition] = leader


def _path_to_less(
    assignments: Sequence[Replicas], chosen: Sequence[BrokerId], counts: Counter[BrokerId]
) -> list[tuple[int, BrokerId]] | None:
    """Changes of leader, each giving one on to the next broker, that take one from a broker which leads
    most and give it to one which leads at least two less; None when there are none. An augmenting path,
    so that what it cannot make even cannot be made even."""
    leads: dict[BrokerId, list[int]] = {}
    for partition, leader in enumerate(chosen):
        leads.setdefault(leader, []).append(partition)
    least = min((counts[broker] for replicas in assignments for broker in replicas), default=0)
    for start in sorted(leads, key=lambda broker: (-counts[broker], broker)):
        if counts[start] < least + 2:
            return None
        came: dict[BrokerId, tuple[int, BrokerId]] = {}
        queue, seen = deque([start]), {start}
        while queue:
            broker = queue.popleft()
            if counts[broker] <= counts[start] - 2:
                path = []
                while broker != start:
                    partition, before = came[broker]
                    path.append((partition, broker))
                    broker = before
                return path
            for partition in leads.get(broker, ()):
                for other in assignments[partition]:
                    if other not in seen:
                        seen.add(other)
                        came[other] = (partition, broker)
                        queue.append(other)
    return None


def plan_rebalance(
    brokers: Sequence[BrokerInfo], assignments: Mapping[PartitionKey, Replicas], *, moves_max: int
) -> list[Move]:
    """At most `moves_max` moves of one replica each, no partition twice: first those that give a partition
    another rack, then those that bring the usable brokers' replicas towards each other, the fullest
    broker first. No move takes a rack from a partition. Calling it again after the moves goes on; an
    empty plan is the end."""
    usable = sorted((broker for broker in brokers if broker.is_usable), key=lambda broker: broker.id)
    load = _load(usable, assignments.values())
    left = dict(sorted(assignments.items()))
    moves: list[Move] = []
    while len(moves) < moves_max:
        step = _step_to_racks(load, left) or _step_to_even(load, left)
        if step is None:
            break
        key, source, target = step
        replicas = left.pop(key)
        moves.append(Move(*key, replicas, _swapped(replicas, source, target)))
        load.add([source], -1)
        load.add([target])
    return moves


_Step = tuple[PartitionKey, BrokerId, BrokerId]
"""A replica to be moved: of which partition, from where, to where."""


def _step_to_racks(load: _Load, left: Mapping[PartitionKey, Replicas]) -> _Step | None:
    for key, replicas in left.items():
        racks = Counter(load.rack_of.get(broker) for broker in replicas)
        if len(racks) == len(replicas) or len(racks) >= len(load.rack_size):
            continue
        source = max(
            (broker for broker in replicas if racks[load.rack_of.get(broker)] > 1),
            key=lambda broker: (load.brokers[broker], broker),
        )
        target = _next_replica(replicas, load, load)
        if load.rack_of[target] not in racks:
            return key, source, target
    return None


def _step_to_even(load: _Load, left: Mapping[PartitionKey, Replicas]) -> _Step | None:
    hosted: dict[BrokerId, list[PartitionKey]] = {}
    for key, replicas in left.items():
        for broker in replicas:
            hosted.setdefault(broker, []).append(key)
    by_load = sorted(load.rack_of, key=lambda broker: (load.brokers[broker], broker))
    for source in reversed(by_load):
        for target in by_load:
            if load.brokers[target] > load.brokers[source] - 2:
                break
            for key in hosted.get(source, ()):
                if target not in left[key] and _keeps_racks(load, left[key], source, target):
                    return key, source, target
    return None


def _keeps_racks(load: _Load, replicas: Replicas, source: BrokerId, target: BrokerId) -> bool:
    before = {load.rack_of.get(broker) for broker in replicas}
    after = {load.rack_of.get(broker) for broker in _swapped(replicas, source, target)}
    return len(after) >= len(before)


def _swapped(replicas: Replicas, old: BrokerId, new: BrokerId) -> Replicas:
    return tuple(new if broker == old else broker for broker in replicas)


def plan_drain(
    brokers: Sequence[BrokerInfo], assignments: Mapping[PartitionKey, Replicas], leaving: BrokerId
) -> list[Move] | NotEnoughBrokers:
    """The moves that take every replica off `leaving`. Its successor takes its place in the order, the
    preferred leader's included."""
    usable = sorted(
        (broker for broker in brokers if broker.is_usable and broker.id != leaving),
        key=lambda broker: broker.id,
    )
    load = _load(usable, assignments.values())
    moves = []
    for key, replicas in sorted(assignments.items()):
        if leaving not in replicas:
            continue
        if all(broker.id in replicas for broker in usable):
            return NotEnoughBrokers(len(replicas), len(usable))
        target = _next_replica(replicas, load, load)
        load.add([target])
        moves.append(Move(*key, replicas, _swapped(replicas, leaving, target)))
    return moves
