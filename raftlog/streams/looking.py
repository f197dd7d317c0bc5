"""Looking into the state of an app that runs, or ran, on this machine: its rows, as of the last flush.

Only reads. A worker that runs is not held up, and one that begins is not kept from it: no lock is taken.
"""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from raftlog.streams.database import FORMAT, table_of
from raftlog.streams.errors import StateError
from raftlog.streams.folders import place_of
from raftlog.streams.plan import SubTopology, plan
from raftlog.streams.queries import shown, to_json
from raftlog.streams.stores import Store, StoreSpec, Timed, store_of
from raftlog.streams.topology import App

ROWS_A_SLICE: Final = 5000

Row = tuple[str, int, int | None, str, str]
"""Worker, partition, time (of windows; milliseconds), key, value: texts where they are text, else JSON."""


@dataclass(frozen=True, slots=True)
class Copy:
    """A task's file. A task that went to another worker leaves one behind."""

    worker: str
    partition: int
    path: str
    read: int
    """How many records its inputs were read, in all."""


def stores_of(app: App) -> dict[str, tuple[SubTopology, StoreSpec]]:
    """An app's stores by name."""
    return {spec.name: (part, spec) for part in plan(app).parts for spec in part.stores}


def copies(state: str, app: App, part: SubTopology) -> tuple[list[Copy], int]:
    """The file of each of a part's tasks, the one that is furthest, and how many others there are. Raises
    StateError for what is not the state of this app."""
    found: dict[int, Copy] = {}
    older = 0
    folder = os.path.join(state, app.name)
    for worker in sorted(os.listdir(folder)) if os.path.isdir(folder) else ():
        inside = os.path.join(folder, worker)
        for task in sorted(os.listdir(inside)) if os.path.isdir(inside) else ():
            place, path = place_of(task), os.path.join(inside, task, "store.db")
            if place is None or place[0] != part.number or not os.path.exists(path):
                continue
            position = _position(path, app, part)
            if position is None:  # it has not flushed yet
                continue
            read = sum(each["at"] for each in position["inputs"].values())
            copy, other = Copy(worker, place[1], path, read), found.get(place[1])
            older += other is not None
            if other is None or other.read < read:
                found[place[1]] = copy
    return [found[partition] for partition in sorted(found)], older


def rows(copy: Copy, spec: StoreSpec, limit: int) -> Iterator[list[Row]]:
    """Up to so many rows of a store, some at a time, in the order of their encoded keys."""
    store = store_of(spec, _NoRows())
    with _Open(copy.path) as sql:
        answer = sql.execute(f"select key, value from {table_of(spec.name)} order by key limit ?", (limit,))
        while found := answer.fetchmany(ROWS_A_SLICE):
            yield [_row(copy, store, key, value) for key, value in found]


def _row(copy: Copy, store: Store, key: bytes, value: bytes) -> Row:
    place = store.decoded(key)
    time, name = place if isinstance(store, Timed) else (None, place)
    told: Any = shown(store, place, store.spec.value.decode(value))
    if time is None or store.spec.view is None:
        told = told["value"]
    return copy.worker, copy.partition, time, _text(name), _text(told)


def _text(value: Any) -> str:
    if isinstance(value, bytes):
        return value.decode(errors="backslashreplace")
    return value if isinstance(value, str) else to_json(value)


def _position(path: str, app: App, part: SubTopology) -> dict[str, Any] | None:
    with _Open(path) as sql:
        row = sql.execute("select json from _position").fetchone()
    if row is None:
        return None
    position: dict[str, Any] = json.loads(row[0])
    if position.get("version", FORMAT) > FORMAT or position.get("fingerprint") != part.fingerprint:
        raise StateError(f"{path} is the state of another version of app {app.name}, or of raftlog")
    return position


class _NoRows:
    """The store here only knows how keys and values are written."""

    def get(self, store: str, key: bytes) -> bytes | None:
        raise AssertionError(store)

    def scan(self, store: str, low: bytes = b"", high: bytes | None = None) -> Iterator[tuple[bytes, bytes]]:
        raise AssertionError(store)


class _Open:
    """A file, to be read. With a worker's journal beside it, SQLite reads through that; without one nobody
    writes, and it is opened as a thing that never changes, so that SQLite makes no files beside it."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._still = not os.path.exists(path + "-wal")
        self._begin = os.stat(path)

    def __enter__(self) -> sqlite3.Connection:
        how = "immutable=1" if self._still else "mode=ro"
        path = os.path.abspath(self._path).replace("%", "%25").replace("?", "%3f").replace("#", "%23")
        self._sql = sqlite3.connect(f"file:{path}?{how}", uri=True, check_same_thread=False)
        return self._sql

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, where: object) -> None:
        self._sql.close()
        end = os.stat(self._path)
        if self._still and (end.st_mtime_ns, end.st_ino) != (self._begin.st_mtime_ns, self._begin.st_ino):
            raise StateError(f"a worker began to write {self._path} meanwhile: ask again")
        if isinstance(error, sqlite3.Error):
            raise StateError(f"{self._path} cannot be read: {error}") from error
