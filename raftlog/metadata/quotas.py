"""Quotas of clients: how much a user, a client id or an address may take (KIP-546, KIP-599, KIP-612).

A quota belongs to an entity: a user and a client id, one of them, or an address. A name of None is the
default, for whoever has none of its own.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Final

from raftlog.metadata.catalog import Catalog
from raftlog.metadata.noun import Command, Field, Noun, Refusal, Refused, Result
from raftlog.metadata.quota_table import Entity, Quotas
from raftlog.types import RaftIndex

QUOTAS_LEVEL: Final = 8
"""The metadata level from which on every broker knows quotas."""
QUOTAS_MAX: Final = 2_000
"""Entities that have quotas: an image has them all in one step, of some milliseconds."""
AT_ONCE_MAX: Final = 1_000
NAME_BYTES_MAX: Final = 1_024

USER: Final = "user"
CLIENT: Final = "client-id"
ADDRESS: Final = "ip"
PRODUCE: Final = "producer_byte_rate"
FETCH: Final = "consumer_byte_rate"
REQUEST: Final = "request_percentage"
MUTATION: Final = "controller_mutation_rate"
CONNECTION: Final = "connection_creation_rate"
_OF_CLIENTS: Final = frozenset((PRODUCE, FETCH, REQUEST, MUTATION))
_OF_ADDRESSES: Final = frozenset((CONNECTION,))


@dataclass(frozen=True, slots=True)
class QuotasAltered(Result):
    count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class QuotaChange:
    """Of one entity: the quotas that it gets, as texts, since numbers of another kind differ between machines
    in how they are written; an empty text takes one away."""

    entity: Entity
    values: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class AlterQuotas(Command):
    """All of the changes, or none."""

    kind: ClassVar[str] = "alter_quotas"
    needs_level: ClassVar[int] = QUOTAS_LEVEL
    grows: ClassVar[str] = "quotas"
    changes_topology: ClassVar[bool] = False
    changes: tuple[QuotaChange, ...]

    def no_room(self, catalog: Catalog, size: int) -> str | None:
        if len(catalog.quotas) + len(self.changes) > QUOTAS_MAX:
            return f"{len(catalog.quotas)} entities have quotas, {QUOTAS_MAX} is the most"
        return None

    def apply(self, catalog: Catalog, index: RaftIndex) -> Result:
        for change in self.changes:
            if (problem := change_problem(change)) is not None:
                return Refused(Refusal.INVALID_VALUE, problem)
        for change in self.changes:
            catalog.quotas.alter(change.entity, change.values, index)
        return QuotasAltered(len(self.changes))


def change_problem(change: QuotaChange) -> str | None:
    """Why there cannot be such a quota, or None. Part of what `apply` decides: it must never differ between
    builds."""
    problem = entity_problem(change.entity)
    if problem is not None:
        return problem
    known = _OF_ADDRESSES if change.entity[0][0] == ADDRESS else _OF_CLIENTS
    for key, text in sorted(change.values.items()):
        if key not in known:
            return f"there is no quota {key[:100]!r} of {' and '.join(kind for kind, _ in change.entity)}"
        if text and (problem := value_problem(key, text)) is not None:
            return problem
    return None


def entity_problem(entity: Entity) -> str | None:
    kinds = [kind for kind, _ in entity]
    if sorted(kinds) not in ([ADDRESS], [CLIENT], [USER], [CLIENT, USER]):
        return f"quotas belong to a user, a client-id, both, or an ip, not to {kinds[:5]}"
    if kinds != sorted(kinds):
        return "the parts of an entity are sorted"
    for _, name in entity:
        if name is not None and not 0 < len(name.encode()) <= NAME_BYTES_MAX:
            return f"a name has 1 to {NAME_BYTES_MAX} bytes"
    return None


def value_problem(key: str, text: str) -> str | None:
    try:
        value = float(text)
    except ValueError:
        return f"{key} is a number, not {text[:60]!r}"
    if not math.isfinite(value) or value <= 0:
        return f"{key} is above 0, not {text[:60]}"
    return None


def _put(catalog: Catalog, value: tuple[QuotaChange, ...]) -> None:
    catalog.quotas = Quotas()
    for change in value:
        catalog.quotas.alter(change.entity, change.values, catalog.quotas.changed_at)


QUOTAS: Final = Noun(
    commands=(AlterQuotas,),
    fields=(
        Field(
            name="quotas",
            form=tuple[QuotaChange, ...],
            get=lambda catalog: tuple(
                QuotaChange(entity=entity, values=values) for entity, values in catalog.quotas.rows()
            ),
            put=_put,
            is_optional=True,
        ),
    ),
)
