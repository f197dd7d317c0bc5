"""Features and their finalized levels; first of all the metadata level, up to which every broker can apply.

A build says with its registration up to which level it knows the metadata commands. The metadata leader
finalizes a level once every registered broker has said that it knows it, and only then is a command of that
level proposed: the last broker that is restarted with a newer build brings the level up. It never goes down,
and a build that does not know it is not taken in any more.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from operator import attrgetter
from typing import ClassVar, Final

from raftlog.metadata.catalog import METADATA_LEVEL, BrokerInfo, Catalog
from raftlog.metadata.noun import Command, Field, Noun, Refusal, Refused, Result, attribute
from raftlog.types import RaftIndex

FEATURE_NAME_MAX: Final = 249

TRANSACTION_VERSION: Final = "transaction.version"
"""Kafka's feature: which protocol of transactions clients are offered. 2 gives each transaction an epoch."""
TRANSACTION_VERSIONS: Final = 1, 2
"""The first and the last there is."""
TRANSACTION_EPOCHS_LEVEL: Final = 5
"""The metadata level from which on a transaction may have an epoch of its own."""


def transaction_version(catalog: Catalog) -> int:
    """What is finalized of `transaction.version`: the newest, unless an administrator has chosen another."""
    first, last = TRANSACTION_VERSIONS
    if catalog.metadata_level < TRANSACTION_EPOCHS_LEVEL:
        return first
    return catalog.features.get(TRANSACTION_VERSION, last)


@dataclass(frozen=True, slots=True)
class FeatureSet(Result):
    name: str
    level: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SetFeature(Command):
    """Finalizes a feature level; 0 removes it."""

    kind: ClassVar[str] = "set_feature"
    name: str
    level: int

    def apply(self, catalog: Catalog, index: RaftIndex) -> Result:
        if not 0 < len(self.name) <= FEATURE_NAME_MAX or not 0 <= self.level < 2**15:
            return Refused(
                Refusal.INVALID_VALUE, f"feature {self.name[:60]!r} cannot have level {self.level}"
            )
        if self.name == METADATA_LEVEL:
            known = known_to_all(catalog.brokers.values())
            if not catalog.metadata_level <= self.level <= known:
                detail = f"from level {catalog.metadata_level} to {self.level}: every broker knows {known}"
                return Refused(Refusal.INVALID_VALUE, detail)
        if self.level:
            catalog.features[self.name] = self.level
        else:
            catalog.features.pop(self.name, None)
        return FeatureSet(self.name, self.level)


@dataclass(frozen=True, slots=True, kw_only=True)
class ChooseFeatureLevel(Command):
    """An administrator finalizes another level of a feature that has several, up or down."""

    kind: ClassVar[str] = "choose_feature_level"
    needs_level: ClassVar[int] = TRANSACTION_EPOCHS_LEVEL
    name: str
    level: int

    def apply(self, catalog: Catalog, index: RaftIndex) -> Result:
        first, last = TRANSACTION_VERSIONS
        if self.name != TRANSACTION_VERSION or not first <= self.level <= last:
            detail = f"feature {self.name[:60]!r} cannot be given level {self.level}"
            return Refused(Refusal.INVALID_VALUE, detail)
        catalog.features[self.name] = self.level
        catalog.features_chosen_at = index
        return FeatureSet(self.name, self.level)


def features_epoch(catalog: Catalog) -> int:
    """Grows with every change of what is finalized: clients believe the highest that they have seen."""
    return catalog.metadata_level + catalog.features_chosen_at


def known_to_all(brokers: Iterable[BrokerInfo]) -> int:
    """The metadata level that all of them know."""
    return min((broker.metadata_level for broker in brokers), default=1)


FEATURES: Final = Noun(
    commands=(SetFeature, ChooseFeatureLevel),
    fields=(
        attribute("features", Mapping[str, int]),
        Field(
            name="features_chosen_at",
            form=RaftIndex,
            get=attrgetter("features_chosen_at"),
            put=lambda catalog, value: setattr(catalog, "features_chosen_at", value),
            is_optional=True,
        ),
    ),
)
