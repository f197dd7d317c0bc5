"""What a seed may draw: which faults, how often, in which network. A profile narrows it to a theme."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from tests.sim.links import Weather

FAULTS: Final = (
    "kill",
    "power loss",
    "crash point",
    "whole cluster",
    "stop",
    "pause",
    "partition",
    "one way",
    "bridge",
    "reset",
    "weather",
    "stall",
    "io error",
    "disk full",
    "bit flip",
    "segment rot",
    "wipe",
    "transfer",
    "snapshot",
    "clock jump",
    "part kill",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """`faults` are weights; `pause` is the mean number of seconds between two of them."""

    name: str
    faults: Mapping[str, int]
    pause: float = 0.7
    seconds: tuple[float, float] = (6.0, 12.0)
    sizes: tuple[int, ...] = (3, 3, 5)
    weathers: tuple[Weather, ...] = (Weather(),)
    client_loss: float = 0.01
    moves: bool = False
    compacts: bool = False
    """Some topics are compacted. Not where a replica may have to be filled anew: of these none can be."""
    admin_pace: float = 4.0
    down_max: float = 0.5
    """What share of the brokers may be down at once by single faults."""


def _profile(name: str, faults: dict[str, int], **rest: object) -> Profile:
    unknown = faults.keys() - set(FAULTS)
    assert not unknown, unknown
    return Profile(name=name, faults=MappingProxyType(faults), **rest)  # type: ignore[arg-type]


_GOOD = Weather()
_SLOW = Weather(delay_min=0.02, delay_max=0.12)
_LOSSY = Weather(loss=0.05)
_BAD = Weather(loss=0.25, delay_max=0.05)
_OLD = Weather(late=0.05, late_max=4.0, overtake=0.1)
_UNRULY = Weather(loss=0.03, repeat=0.4, overtake=0.3, late=0.03, late_max=3.0, delay_max=0.02)

_WEATHERS = (_GOOD, _SLOW, _LOSSY, _BAD, _OLD, _UNRULY)

PROFILES: Final[dict[str, Profile]] = {
    profile.name: profile
    for profile in (
        _profile("calm", {"transfer": 2, "snapshot": 2, "stop": 1}, pause=2.0, compacts=True),
        _profile(
            "crashes",
            {
                "kill": 3,
                "power loss": 6,
                "crash point": 8,
                "whole cluster": 2,
                "stop": 2,
                "stall": 2,
                "snapshot": 2,
                "transfer": 2,
            },
            pause=0.5,
            down_max=0.7,
            compacts=True,
        ),
        _profile(
            "network",
            {
                "partition": 5,
                "one way": 4,
                "bridge": 2,
                "reset": 4,
                "weather": 5,
                "transfer": 2,
                "pause": 3,
                "snapshot": 1,
            },
            weathers=_WEATHERS,
            client_loss=0.03,
            compacts=True,
        ),
        _profile(
            "unruly",
            {
                "weather": 6,
                "partition": 4,
                "reset": 3,
                "power loss": 4,
                "pause": 2,
                "stall": 3,
                "transfer": 4,
            },
            weathers=(_OLD, _UNRULY),
            pause=0.5,
            sizes=(3, 5, 5),
            compacts=True,
        ),
        _profile(
            "disks",
            {
                "stall": 8,
                "io error": 4,
                "disk full": 3,
                "crash point": 6,
                "power loss": 4,
                "whole cluster": 1,
                "snapshot": 3,
                "wipe": 2,
                "segment rot": 2,
            },
            pause=0.5,
        ),
        _profile(
            "rot",
            {
                "bit flip": 1,
                "segment rot": 5,
                "wipe": 3,
                "kill": 4,
                "power loss": 3,
                "snapshot": 3,
                "stall": 1,
                "stop": 2,
            },
            pause=0.8,
        ),
        _profile(
            "members",
            {
                "power loss": 3,
                "crash point": 2,
                "partition": 3,
                "pause": 2,
                "wipe": 3,
                "weather": 2,
                "transfer": 3,
                "stall": 2,
                "snapshot": 2,
            },
            moves=True,
            admin_pace=0.8,
            weathers=(_GOOD, _GOOD, _LOSSY, _OLD, _UNRULY),
            seconds=(8.0, 16.0),
        ),
        _profile(
            "part-kill",
            {"part kill": 5, "stall": 2, "transfer": 1},
            pause=2.0,
            seconds=(10.0, 16.0),
        ),
        _profile(
            "everything",
            {fault: 3 for fault in FAULTS if fault not in ("clock jump", "part kill", "whole cluster")}
            | {"clock jump": 1, "part kill": 1, "whole cluster": 1},
            weathers=_WEATHERS,
            moves=True,
            admin_pace=1.5,
            client_loss=0.02,
            down_max=0.7,
        ),
    )
}
