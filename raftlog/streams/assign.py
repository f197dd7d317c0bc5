"""Who runs which task, and who stands by: by who has the state.

Members tell how far the copies on their disks are, and which tasks they ran; the group's leader shares out.
A task stays where it runs as long as that is fair; else it goes to whoever has its state, or nearly. A member
that is to have a task, and has little of its state, follows its changelog first, while the task runs where it
was: it *warms up*, and asks for another sharing when it is near. Beside that each task with state has
`standbys` other members that follow its changelog.

Pure functions. What members tell is JSON, in the user data of Kafka's own protocol for groups.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, field
from itertools import groupby
from operator import itemgetter
from typing import Any, Final

from raftlog.client.assignors import Assignor, Counts, Members
from raftlog.client.metadata import TopicPartition
from raftlog.streams.plan import Plan

NEAR: Final = 10_000
"""A copy that is behind by no more records than this may become the task at once."""
VERSION: Final = 1

Place = tuple[int, int]
"""Part and partition."""


@dataclass(frozen=True, slots=True)
class Told:
    """What a member says of itself: the tasks that it ran until now, and the offsets that its copies have
    reached, summed up over the changelogs of each task."""

    ran: frozenset[Place] = frozenset()
    reached: Mapping[Place, int] = field(default_factory=dict)
    rack: str | None = None


@dataclass(slots=True)
class Share:
    """What a member gets."""

    tasks: list[Place] = field(default_factory=list)
    standbys: list[Place] = field(default_factory=list)
    warming: list[Place] = field(default_factory=list)


def share_out(
    places: Sequence[Place], with_state: Set[Place], standbys: int, members: Mapping[str, Told]
) -> dict[str, Share]:
    """The same for the same members, whoever leads."""
    names = sorted(members)
    furthest = {place: max(members[name].reached.get(place, 0) for name in names) for place in places}

    def behind(name: str, place: Place) -> int:
        return furthest[place] - members[name].reached.get(place, 0)

    wanted = _fairly(places, names, members, behind)
    shares = {name: Share() for name in names}
    for place, name in wanted.items():
        runs = name
        if place in with_state and behind(name, place) > NEAR:
            near = [other for other in names if behind(other, place) <= NEAR]
            runs = min(near, key=lambda other: (place not in members[other].ran, len(shares[other].tasks)))
            shares[name].warming.append(place)
        shares[runs].tasks.append(place)
    for place in sorted(with_state):
        owner = next(name for name in names if place in shares[name].tasks)
        others = [name for name in names if name != owner and place not in shares[name].warming]

        def last(name: str, place: Place = place, owner: str = owner) -> tuple[Any, ...]:
            share, rack = shares[name], members[name].rack
            load = len(share.tasks) + len(share.standbys) + len(share.warming)
            is_near = rack is not None and rack == members[owner].rack
            return is_near, behind(name, place) > NEAR, load, behind(name, place), name

        for name in sorted(others, key=last)[:standbys]:
            shares[name].standbys.append(place)
    return shares


def _fairly(
    places: Sequence[Place],
    names: Sequence[str],
    members: Mapping[str, Told],
    behind: Callable[[str, Place], int],
) -> dict[Place, str]:
    """Of each part as many tasks for each member, give or take one: parts differ in what they cost. Each task
    stays where it ran, or goes to whoever is least behind, as far as that is fair."""
    given: dict[Place, str] = {}
    for _, of_part in groupby(sorted(places), key=itemgetter(0)):
        given |= _fairly_one(list(of_part), names, members, behind, Counter(given.values()))
    return given


def _fairly_one(
    places: Sequence[Place],
    names: Sequence[str],
    members: Mapping[str, Told],
    behind: Callable[[str, Place], int],
    load: Counter[str],
) -> dict[Place, str]:
    """One part's; `load` is how many of the others each has."""
    each, more = divmod(len(places), len(names))
    given: dict[Place, str] = {}
    count: Counter[str] = Counter()

    def give(place: Place, candidates: Iterable[str]) -> None:
        larger = sum(count[name] > each for name in names)
        open_to = [n for n in candidates if count[n] < each or (count[n] == each and larger < more)]
        if open_to:
            best = min(open_to, key=lambda name: (behind(name, place), load[name] + count[name], name))
            given[place] = best
            count[best] += 1

    def is_elsewhere(place: Place) -> bool:
        return any(behind(name, place) <= NEAR for name in names if place not in members[name].ran)

    for place in sorted(places, key=is_elsewhere):  # what nobody else has yet stays rather
        give(place, (name for name in names if place in members[name].ran))
    for place in places:
        if place not in given:
            give(place, (name for name in names if behind(name, place) <= NEAR))
    for place in places:
        if place not in given:
            give(place, names)
    return given


class StreamsAssignor(Assignor):
    """For the consumer of a worker. `tell` is asked at each join; `listen` is given the tasks that this
    worker stands by for, and those of them that it warms up for."""

    name = "raftlog-streams"

    def __init__(
        self,
        plan: Plan,
        standbys: int,
        tell: Callable[[], Told],
        listen: Callable[[frozenset[Place], frozenset[Place]], None],
    ) -> None:
        self._plan = plan
        self._standbys = standbys
        self._tell = tell
        self._listen = listen
        self._joins = 0

    def user_data(self) -> bytes:
        self._joins += 1  # so that no two joins are alike: who asks for another sharing gets one
        told = self._tell()
        ran, reached = sorted(told.ran), sorted(told.reached.items())
        return _json({"v": VERSION, "n": self._joins, "ran": ran, "at": [[*p, n] for p, n in reached]})

    def assign(self, members: Members, counts: Counts) -> Mapping[str, tuple[list[TopicPartition], bytes]]:
        parts = self._plan.parts
        places = [
            (part.number, partition)
            for part in parts
            for partition in range(max(counts.get(topic, 0) for topic in part.topics))
        ]
        keep = {part.number for part in parts if any(s.changelog and not s.source for s in part.stores)}
        told = {name: read_told(one.user_data, one.rack) for name, one in members.items()}
        shares = share_out(places, {p for p in places if p[0] in keep}, self._standbys, told)
        return {
            name: (
                [
                    TopicPartition(topic, partition)
                    for number, partition in share.tasks
                    for topic in parts[number].topics
                    if partition < counts.get(topic, 0)
                ],
                _json({"v": VERSION, "by": share.standbys, "warm": share.warming}),
            )
            for name, share in shares.items()
        }

    def assigned(self, user_data: bytes) -> None:
        told = _read(user_data)
        warm = _places(told.get("warm"))
        self._listen(_places(told.get("by")) | warm, warm)


def read_told(user_data: bytes | None, rack: str | None) -> Told:
    """What a member has told; nothing of what cannot be read."""
    told = _read(user_data)
    rows = told.get("at")
    known = [row for row in (rows if isinstance(rows, list) else ()) if _are_numbers(row, 3)]
    return Told(_places(told.get("ran")), {(row[0], row[1]): row[2] for row in known}, rack)


def _places(rows: Any) -> frozenset[Place]:
    found = rows if isinstance(rows, list) else []
    return frozenset((row[0], row[1]) for row in found if _are_numbers(row, 2))


def _are_numbers(row: Any, count: int) -> bool:
    return isinstance(row, list) and len(row) == count and all(type(each) is int for each in row)


def _read(data: bytes | None) -> dict[str, Any]:
    try:
        found = json.loads(data or b"{}")
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) and found.get("v") == VERSION else {}


def _json(told: Mapping[str, Any]) -> bytes:
    return json.dumps(told, separators=(",", ":")).encode()
