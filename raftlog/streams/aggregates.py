"""How the records of a key, or of a window of it, become one value.

An aggregate never changes a value in place: what it is given may still be needed as it was.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from raftlog.streams.errors import TopologyError

Pick = str | Callable[[Any], Any]
"""What of a value counts: the name of a member, or a function of the value."""


@dataclass(frozen=True, slots=True)
class Aggregate:
    """`add` takes the value so far (`initial` at first) and a record's value, and gives the new one; `merge`
    makes one of two, which sessions need; `result` is what others see of it."""

    initial: Any
    add: Callable[[Any, Any], Any]
    merge: Callable[[Any, Any], Any] | None = None
    result: Callable[[Any], Any] = lambda value: value
    needs_values: ClassVar[bool] = True
    """Whether `add` looks at the record's value."""

    def members(self, value: Any) -> Mapping[str, Any]:
        """A window's result, as members of the object that is sent on."""
        found = self.result(value)
        return found if isinstance(found, dict) else {"value": found}


class _Count(Aggregate):
    __slots__ = ()
    needs_values = False

    def members(self, value: Any) -> Mapping[str, Any]:
        return {"count": value}


def count() -> Aggregate:
    """How many records."""
    return _Count(0, lambda so_far, _: so_far + 1, lambda a, b: a + b)


def sum(what: Pick) -> Aggregate:
    """The sum of a member, or of what a function gives."""
    pick = _picker(what)
    return Aggregate(0, lambda so_far, value: so_far + pick(value), lambda a, b: a + b)


def mean(what: Pick) -> Aggregate:
    """The arithmetic mean of a member, or of what a function gives."""
    pick = _picker(what)
    return Aggregate(
        (0, 0),
        lambda so_far, value: (so_far[0] + 1, so_far[1] + pick(value)),
        lambda a, b: (a[0] + b[0], a[1] + b[1]),
        lambda so_far: so_far[1] / so_far[0] if so_far[0] else None,
    )


def min(what: Pick) -> Aggregate:
    """The least of a member, or of what a function gives."""
    return _choose(what, lambda a, b: b if b < a else a)


def max(what: Pick) -> Aggregate:
    """The greatest of a member, or of what a function gives."""
    return _choose(what, lambda a, b: b if b > a else a)


def last(what: Pick) -> Aggregate:
    """The one of the record that came last."""
    pick = _picker(what)
    return Aggregate(None, lambda _, value: pick(value), lambda a, b: a if b is None else b)


def fields(**aggregates: Aggregate) -> Aggregate:
    """Several at once: the result has a member for each."""
    if not aggregates:
        raise TopologyError("fields() needs at least one: fields(n=rs.count(), mean=rs.mean('celsius'))")
    names = tuple(aggregates)
    parts = tuple(aggregates.values())
    adds = tuple(part.add for part in parts)
    merges = tuple(part.merge for part in parts if part.merge is not None)
    width = range(len(parts))

    def merge(a: Any, b: Any) -> Any:
        return [merges[i](a[i], b[i]) for i in width]

    return Aggregate(
        [part.initial for part in parts],
        lambda so_far, value: [adds[i](so_far[i], value) for i in width],
        merge if len(merges) == len(parts) else None,
        lambda so_far: {
            name: part.result(so_far[i]) for i, (name, part) in enumerate(zip(names, parts, strict=True))
        },
    )


def reduce(function: Callable[[Any, Any], Any]) -> Aggregate:
    """The first value as it is, and then what `function` makes of the value so far and the next."""
    return Aggregate(
        None,
        lambda so_far, value: value if so_far is None else function(so_far, value),
        lambda a, b: b if a is None else a if b is None else function(a, b),
    )


def _choose(what: Pick, better: Callable[[Any, Any], Any]) -> Aggregate:
    pick = _picker(what)

    def either(a: Any, b: Any) -> Any:
        return b if a is None else a if b is None else better(a, b)

    return Aggregate(None, lambda so_far, value: either(so_far, pick(value)), either)


def _picker(what: Pick) -> Callable[[Any], Any]:
    if isinstance(what, str):
        return lambda value: value[what]
    if not callable(what):
        raise TopologyError(f"{what!r}: name a member of the values, or give a function of them")
    return what
