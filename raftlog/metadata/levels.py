"""Metadata levels: what every broker of a cluster knows how to apply.

A build says with its registration up to which level it knows the metadata commands. The metadata leader
finalizes a level once every registered broker has said that it knows it, and only then is a command of that
level proposed: the last broker that is restarted with a newer build brings the level up. It never goes down,
and a build that does not know it is not taken in any more.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from raftlog.metadata.catalog import BrokerInfo

FEATURE: Final = "raftlog.metadata.level"
"""The feature whose finalized level the cluster's is; without it that is 1."""

SUPPORTED: Final = 1
"""The level that this build knows."""

LEVELS: Final[dict[str, int]] = {}
"""The level that a kind of command needs, where it is not 1: a kind that is added gets the next one."""


def supported() -> int:
    return SUPPORTED


def level_problem(kind: str, level: int) -> str | None:
    """Why commands of this kind cannot be proposed yet: a broker of the cluster may not know them."""
    needed = LEVELS.get(kind, 1)
    if needed <= level:
        return None
    return f"{kind!r} takes {FEATURE} {needed}, and the cluster has {level}"


def known_to_all(brokers: Iterable[BrokerInfo]) -> int:
    """The level that all of them know."""
    return min((broker.metadata_level for broker in brokers), default=1)
