"""A task's rows on disk: one SQLite file, whose rows and positions never disagree.

Only what is committed comes here, rows and positions in one SQLite transaction. A power cut may lose the last
flushes (`synchronous=NORMAL`): the changelogs have them, from the position that is left.

A file has a table a store, `s_NAME` (key and value as in its changelog), and `_position`, one row of JSON,
which begins with the format's version.
"""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing
from typing import Any, Final

from raftlog.streams.errors import StateDamaged, StateError

FORMAT: Final = 1
"""The format of a folder's rows. A newer one is not opened; an older one would be read as it is."""
MEMORY: Final = ":memory:"
CACHE_KIB: Final = 16 * 1024
"""Pages that SQLite keeps in memory, a task."""

Rows = Mapping[str, Mapping[bytes, bytes | None]]
"""By store: the new value of each key; None removes it."""


def position_in(path: str) -> dict[str, Any]:
    """The position in a file that nobody has open, without the checks of opening it for work; empty when
    there is none that can be read."""
    if not os.path.exists(path):
        return {}
    try:
        with closing(sqlite3.connect(path, isolation_level=None)) as sql:
            row = sql.execute("select json from _position").fetchone()
        found = json.loads(row[0]) if row else {}
    except (sqlite3.Error, ValueError):  # whoever opens it for work says so
        return {}
    return found if isinstance(found, dict) else {}


class Database:
    """The rows and positions of one task. Every method may raise StateDamaged, and OSError when the disk is
    full."""

    def __init__(self, path: str, stores: Iterable[str]) -> None:
        self.path = path
        self._stores = tuple(stores)
        try:
            self._sql = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
            try:
                self._open()
            except BaseException:
                self._sql.close()
                raise
        except sqlite3.DatabaseError as error:
            raise _told(error, path) from error

    def _open(self) -> None:
        run = self._sql.execute
        run("pragma journal_mode=wal")
        run("pragma synchronous=normal")
        run(f"pragma cache_size=-{CACHE_KIB}")
        run(
            "create table if not exists _position "
            "(one integer primary key check (one = 1), json text not null)"
        )
        for name in self._stores:
            run(
                f"create table if not exists {table_of(name)} "
                "(key blob primary key, value blob not null) without rowid"
            )
        if run("pragma quick_check(1)").fetchone()[0] != "ok":
            raise sqlite3.DatabaseError("the check of the file found damage")

    def position(self) -> dict[str, Any]:
        """What was given to `write` last; empty in a new file. Raises StateError for a newer format."""
        row = self._ask("select json from _position")
        position: dict[str, Any] = json.loads(row[0]) if row else {}
        version = position.pop("version", FORMAT)
        if version > FORMAT:
            raise StateError(
                f"{self.path} has format {version}, and this raftlog knows {FORMAT}: start a newer one"
            )
        return position

    def get(self, store: str, key: bytes) -> bytes | None:
        """A row's value."""
        row = self._ask(f"select value from {table_of(store)} where key = ?", key)
        return row[0] if row else None

    def scan(self, store: str, low: bytes = b"", high: bytes | None = None) -> Iterator[tuple[bytes, bytes]]:
        """Rows in order of their keys, from `low`, up to before `high`. The table may be written meanwhile:
        rows are read in slices."""
        while True:
            sql = f"select key, value from {table_of(store)} where key >= ?"
            arguments: tuple[bytes, ...] = (low,)
            if high is not None:
                sql, arguments = sql + " and key < ?", (low, high)
            try:
                rows = self._sql.execute(sql + " order by key limit 1000", arguments).fetchall()
            except sqlite3.DatabaseError as error:
                raise _told(error, self.path) from error
            yield from rows
            if len(rows) < 1000:
                return
            low = rows[-1][0] + b"\0"

    def write(
        self,
        rows: Rows,
        dropped: Mapping[str, Iterable[tuple[bytes, bytes | None]]],
        position: Mapping[str, Any],
    ) -> None:
        """Rows, ranges of keys that go (`dropped`, by store, before the rows; up to None is up to the last),
        and positions: all or nothing."""
        run, many = self._sql.execute, self._sql.executemany
        text = json.dumps({"version": FORMAT, **position}, separators=(",", ":"))
        try:
            run("begin immediate")
            try:
                for store, ranges in dropped.items():
                    many(
                        f"delete from {table_of(store)} where key >= :first and (:end is null or key < :end)",
                        [{"first": first, "end": end} for first, end in ranges],
                    )
                for store, changes in rows.items():
                    table = table_of(store)
                    many(
                        f"delete from {table} where key = ?",
                        ((key,) for key, value in changes.items() if value is None),
                    )
                    many(
                        f"insert into {table} values (?, ?) "
                        "on conflict (key) do update set value = excluded.value",
                        (row for row in changes.items() if row[1] is not None),
                    )
                run("insert or replace into _position values (1, ?)", (text,))
                run("commit")
            except BaseException:
                if self._sql.in_transaction:
                    run("rollback")
                raise
        except sqlite3.DatabaseError as error:
            raise _told(error, self.path) from error

    def clear(self, store: str, position: Mapping[str, Any]) -> None:
        """Remove all rows of a store, before it is made again from its changelog, and write positions."""
        self.write({}, {store: [(b"", None)]}, position)

    def close(self) -> None:
        """Close the file. What was written stays."""
        self._sql.close()

    def _ask(self, sql: str, *arguments: bytes) -> Any:
        try:
            return self._sql.execute(sql, arguments).fetchone()
        except sqlite3.DatabaseError as error:
            raise _told(error, self.path) from error

    def __repr__(self) -> str:
        return f"<Database {self.path}>"


def table_of(store: str) -> str:
    """The table of a store, quoted."""
    return f'"s_{store}"'


def _told(error: sqlite3.DatabaseError, path: str) -> Exception:
    """The disk's fault, the file's, or ours."""
    code = getattr(error, "sqlite_errorcode", None)
    if code in (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN):
        return OSError(f"{path}: {error}; changes that are committed stay in the changelogs")
    return StateDamaged(f"{path}: {error}")
