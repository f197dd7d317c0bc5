"""The table of quotas, and which of them is a client's."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from raftlog.types import BEFORE_ALL, RaftIndex

Part = tuple[str, str | None]
Entity = tuple[Part, ...]
"""Sorted by kind: ("client-id", …) before ("user", …). A name of None is the default."""

_USER: Final = "user"
_CLIENT: Final = "client-id"


class Quotas:
    """All quotas. `changed_at` tells one state of a broker's table from another; it is not replicated."""

    def __init__(self) -> None:
        self._values: dict[Entity, dict[str, float]] = {}
        self.changed_at = BEFORE_ALL
        self.version = 0

    def __len__(self) -> int:
        return len(self._values)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Quotas) and self._values == other._values

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"<Quotas of {len(self._values)}>"

    def alter(self, entity: Entity, values: Mapping[str, str], index: RaftIndex) -> None:
        """Set those that have a text, and take away the others."""
        known = self._values.setdefault(entity, {})
        for key, text in values.items():
            if text:
                known[key] = float(text)
            else:
                known.pop(key, None)
        if not known:
            del self._values[entity]
        self.changed_at = index
        self.version += 1

    def of(self, entity: Entity) -> Mapping[str, float]:
        return self._values.get(entity, {})

    def all(self) -> list[tuple[Entity, Mapping[str, float]]]:
        return [(entity, dict(values)) for entity, values in self._values.items()]

    def rows(self) -> list[tuple[Entity, Mapping[str, str]]]:
        """As texts, in an order that is the same on every broker."""
        return [
            (entity, {key: repr(value) for key, value in sorted(values.items())})
            for entity, values in sorted(self._values.items(), key=_order)
        ]

    def for_client(self, key: str, user: str, client: str) -> tuple[Entity, float] | None:
        """The quota of a kind that a client comes under, the most specific first, and whose it is: all
        clients that share it share one measure."""
        for entity in _precedence(user, client):
            value = self._values.get(entity, {}).get(key)
            if value is not None:
                return _measured(entity, user, client), value
        return None

    def for_address(self, key: str, address: str) -> float | None:
        for name in (address, None):
            value = self._values.get((("ip", name),), {}).get(key)
            if value is not None:
                return value
        return None


def _precedence(user: str, client: str) -> tuple[Entity, ...]:
    """Kafka's: user and client id, user and any client id, user, …"""
    return (
        ((_CLIENT, client), (_USER, user)),
        ((_CLIENT, None), (_USER, user)),
        ((_USER, user),),
        ((_CLIENT, client), (_USER, None)),
        ((_CLIENT, None), (_USER, None)),
        ((_USER, None),),
        ((_CLIENT, client),),
        ((_CLIENT, None),),
    )


def _measured(entity: Entity, user: str, client: str) -> Entity:
    """A default is the quota of each by itself, not of all together."""
    return tuple((kind, user if kind == _USER else client) for kind, _ in entity)


def _order(row: tuple[Entity, object]) -> tuple[tuple[str, bool, str], ...]:
    return tuple((kind, name is not None, name or "") for kind, name in row[0])
