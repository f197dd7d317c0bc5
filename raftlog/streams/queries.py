"""What a worker answers about its stores: committed state only, and a bounded part of it.

A worker has the keys of its own partitions. For a key of another one's it says so: which worker that is it
does not know.
"""

from __future__ import annotations

import base64
import dataclasses
import json
import struct
from collections.abc import Collection, Iterator, Mapping
from typing import Any, Final, Protocol

from raftlog.streams import serdes
from raftlog.streams.plan import Plan, SubTopology
from raftlog.streams.serdes import Serde
from raftlog.streams.stores import Store, StoreSpec, Timed
from raftlog.streams.task import Task

ROWS_MAX: Final = 1000
"""Rows of one answer, with their values: some milliseconds of work."""
ROWS_DEFAULT: Final = 100
ANSWER_BYTES_MAX: Final = 4 << 20
TIME_MAX: Final = 2**63 - 1
_TIME: Final = struct.Struct(">q")


class Unknown(LookupError):
    """There is no such store, or no such key: for good, as far as this worker knows."""


class Elsewhere(LookupError):
    """The key may be in a partition that another worker has."""


class NotYet(LookupError):
    """The key may be in a partition that is being restored here."""


class BadKey(ValueError):
    """A text that is none of the store's keys."""


class Seats(Protocol):
    """What of a worker is asked."""

    plan: Plan

    @property
    def tasks(self) -> list[Task]:
        """Those that run."""

    def restoring(self, part: int) -> Collection[int]:
        """The partitions of a part whose tasks are not running yet."""

    def count(self, part: int) -> int | None:
        """How many partitions a part has; None while that is not known."""


class Queries:
    """Answers as JSON texts."""

    def __init__(self, seats: Seats) -> None:
        self._seats = seats
        self._places: Mapping[str, tuple[SubTopology, StoreSpec]] = {
            spec.name: (part, spec) for part in seats.plan.parts for spec in part.stores
        }

    def health(self) -> str:
        """How many tasks run, and how many do not yet."""
        restoring = sum(len(self._seats.restoring(part.number)) for part in self._seats.plan.parts)
        running = len(self._seats.tasks)
        return to_json({"app": self._seats.plan.app.name, "running": running, "restoring": restoring})

    def stores(self) -> str:
        """Which stores there are."""
        return to_json(
            [
                {
                    "name": name,
                    "kind": "keys" if spec.lasts_ms is None else "windows",
                    "key": spec.key.name,
                    "value": spec.value.name,
                    "partitions": sorted(store[0] for store in self._stores(name)),
                    "restoring": sorted(self._seats.restoring(part.number)),
                }
                for name, (part, spec) in self._places.items()
            ]
        )

    def rows(self, name: str, limit: int, low: int = 0, high: int = TIME_MAX) -> str:
        """Up to so many rows of a store, partition by partition, in the order of their encoded keys; of
        windows those whose place in the store, which is their start, or of sessions their end, is from `low`
        up to `high` (milliseconds). `complete` says whether these are all that this worker has. Raises
        Unknown."""
        found: list[str] = []
        size, complete = 0, True
        for partition, store in self._stores(name):
            for key, value in self._items(store, limit + 1, low, high):
                text = to_json({"key": _key(store, key), **shown(store, key, value), "partition": partition})
                size += len(text)
                if len(found) == limit or size > ANSWER_BYTES_MAX:
                    complete = False
                    break
                found.append(text)
        restoring = sorted(self._seats.restoring(self._places[name][0].number))
        tail = to_json({"complete": complete, "restoring": restoring})[1:]
        return f'{{"rows":[{",".join(found)}],{tail}'

    def row(self, name: str, key: str, limit: int, low: int = 0, high: int = TIME_MAX) -> str:
        """A key with its value; of windows, up to so many of them. Raises Unknown, Elsewhere, NotYet and
        BadKey."""
        stores = list(self._stores(name))
        part, spec = self._places[name]
        wanted = _read_key(spec.key, key)
        for partition, store in stores:
            if isinstance(store, Timed):
                times = ((t, v) for t, v in store.as_committed().of(wanted) if low <= t <= high)
                windows = [
                    shown(store, (t, wanted), v) for (t, v), _ in zip(times, range(limit), strict=False)
                ]
                if windows:
                    return to_json({"key": wanted, "windows": windows, "partition": partition})
            elif (value := store.as_committed().get(wanted)) is not None:
                return to_json({"key": wanted, **shown(store, wanted, value), "partition": partition})
        if self._seats.restoring(part.number):
            raise NotYet(f"store {name!r} is being restored here")
        here = [partition for partition, _ in stores]
        count = self._seats.count(part.number)
        if count is None or not self._seats.tasks:
            raise NotYet("this worker has no partitions yet")
        if len(here) < count:
            raise Elsewhere(
                f"store {name!r} has {count} partitions, and this worker {here or 'none'}: the key is in "
                "another one, ask the others"
            )
        raise Unknown(f"store {name!r} does not have the key")

    def _stores(self, name: str) -> Iterator[tuple[int, Store]]:
        if name not in self._places:
            raise Unknown(f"there is no store {name[:100]!r}: there is {', '.join(self._places) or 'none'}")
        number = self._places[name][0].number
        tasks = sorted(self._seats.tasks, key=lambda task: task.partition)
        return ((task.partition, task.store(name)) for task in tasks if task.part.number == number)

    def _items(self, store: Store, limit: int, low: int, high: int) -> Iterator[tuple[Any, Any]]:
        if not isinstance(store, Timed):
            return store.as_committed().items(limit)
        end = None if high == TIME_MAX else _TIME.pack(high + 1)
        return store.as_committed().items(limit, _TIME.pack(low), end)


def shown(store: Store, key: Any, value: Any) -> dict[str, Any]:
    """A row as others see it, but for its key."""
    view = store.spec.view
    if isinstance(store, Timed):
        return view(key, value) if view is not None else {"time": key[0], "value": value}
    return {"value": value if view is None else view(key, value)}


def _key(store: Store, key: Any) -> Any:
    return key[1] if isinstance(store, Timed) else key


def _read_key(serde: Serde, text: str) -> Any:
    """A key from how it stands in an address. Raises BadKey."""
    try:
        if serde is serdes.INT:
            return int(text)
        if serde is serdes.FLOAT:
            return float(text)
        return serde.decode(text.encode())
    except Exception as error:  # a serde is anybody's
        raise BadKey(f"{text[:100]!r} is no {serde.name}: {error}") from error


def to_json(value: Any) -> str:
    """JSON for others to read."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), default=_plain)


def _plain(value: Any) -> Any:
    """What JSON does not know: bytes that are no text are base64."""
    if isinstance(value, bytes):
        try:
            return value.decode()
        except UnicodeDecodeError:
            return {"base64": base64.b64encode(value).decode()}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return dataclasses.asdict(value)
    return str(value)
