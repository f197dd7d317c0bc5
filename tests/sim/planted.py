"""The simulator's own test: bugs that are planted into raftlog (`raftlog.testing.plants`). It must find each.

`find` runs seeds until an invariant breaks; the table of how many it took, and which one it was, is in
docs/simulation.md.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Final

from raftlog.testing import plants
from tests.sim.cluster import Cluster, Failure
from tests.sim.world import Violation

SEEDS_MAX: Final = 500


@dataclass(frozen=True, slots=True)
class Plant:
    """A bug by its name, and the profiles whose seeds are tried in turn."""

    name: str
    profiles: tuple[str, ...]

    def planted(self) -> AbstractContextManager[None]:
        return plants.plant(self.name)


@dataclass(frozen=True, slots=True)
class Found:
    """How a planted fault came to light."""

    plant: str
    seeds: int
    seed: int
    profile: str
    invariant: str


def find(plant: Plant, *, seeds_max: int = SEEDS_MAX, first_seed: int = 0) -> Found | None:
    """Run seeds until one breaks an invariant; None when none does."""
    for number in range(seeds_max):
        profile = plant.profiles[number % len(plant.profiles)]
        seed = first_seed + number
        with plant.planted():
            try:
                Cluster(seed, profile).run()
            except Failure as failure:
                if not isinstance(failure.__cause__, Violation):
                    raise  # the plant does not fit the code: that it crashes shows nothing
                found = Found(plant.name, number + 1, seed, profile, failure.invariant)
                break
    else:
        return None
    Cluster(found.seed, found.profile).run()  # it must be the plant: without it the seed passes
    return found


PROFILES: Final = {
    "ack before fsync": ("part-kill", "crashes"),
    "leader counts its unsynced entry": ("crashes", "disks"),
    "ack by the leader alone": ("network", "crashes"),
    "vote not synced": ("crashes",),
    "replies without a term": ("unruly",),
    "truncation of matching entries": ("unruly", "network"),
    "truncation below the commit index": ("unruly", "network"),
    "votes counted twice": ("unruly",),
    "stored commit index trusted": ("crashes",),
    "high watermark at the log end": ("calm", "network"),
    "bytes served unchecked": ("rot",),
    "dedupe off": ("calm", "network"),
    "records deleted on the leader alone": ("calm", "crashes"),
    "deletion answered before it is replicated": ("calm", "network"),
    "retention of each replica": ("calm", "crashes"),
    "apply twice": ("calm",),
    "two membership changes at once": ("members",),
    "a synced vote wakes nobody": ("calm", "crashes"),
    "a snapshot misses what changes meanwhile": ("crashes", "members"),
    "a generation told before it is kept": ("part-kill", "everything"),
    "a marker without its epoch check": ("network", "crashes"),
    "LSO from the high watermark": ("calm", "crashes"),
    "staged offsets count at once": ("calm", "crashes"),
    "a decision told before it is kept": ("crashes", "network"),
    "cleaning above the last stable offset": ("calm", "unruly"),
    "cleaning counts what was aborted": ("calm", "unruly"),
    "an expected offset is not compared": ("calm", "network"),
    "compared before repeats are known": ("calm", "network"),
    "a mismatch told before it is kept": ("network", "crashes"),
}
PLANTS: Final = tuple(Plant(name, profiles) for name, profiles in PROFILES.items())
