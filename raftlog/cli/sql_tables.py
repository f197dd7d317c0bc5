"""Records and rows as tables of DuckDB, in memory, and a query's answer.

The database is closed in: no file, no network, no extension but those that are built in, and no setting that
a query could change. What a table holds went through Arrow, a batch at a time. DuckDB has so much memory and
no place to put more: a query that needs more fails, and says so.
"""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, wait
from typing import TYPE_CHECKING, Any, Final, TypeVar

import duckdb
import pyarrow

from raftlog.errors import RaftlogError

if TYPE_CHECKING:
    from raftlog.client.record import Record
    from raftlog.streams.looking import Row

_Answer = TypeVar("_Answer")

MEMORY_LEAST_MIB: Final = 512
MEMORY_A_BYTE: Final = 4
"""DuckDB's memory for each byte that a table may hold: the table itself takes up to twice its bytes, and a
query that sorts or groups as much again."""
ROWS_A_FETCH: Final = 1000
INTERRUPT_SECONDS: Final = 0.1
"""Between two times that DuckDB is told to end a query."""
TIME_MAX_MS: Final = (1 << 63) // 1000 - 1
"""DuckDB counts microseconds. Nanoseconds that somebody took for milliseconds are past it."""
STORED: Final = "stored"
"""The schema of what was put in, behind the views that have columns from JSON."""

_READ: Final = re.compile(r"\b(?:from|join)\s+([\w.-]+)", re.IGNORECASE)
"""A name, as somebody may write it who does not know what SQL makes of it."""
_NEAR: Final = re.compile(r'syntax error at or near "(.+)"')
_OWN_SCHEMAS: Final = ("", "main")

_HEADER: Final = pyarrow.struct([("key", pyarrow.string()), ("value", pyarrow.string())])
_RAW_HEADER: Final = pyarrow.struct([("key", pyarrow.string()), ("value", pyarrow.binary())])


class SqlError(RaftlogError):
    """DuckDB refuses a query, or has not the memory for it."""


class Tables:
    """The database of one command."""

    def __init__(self, *, bytes_max: int, raw: bool) -> None:
        """`raw` gives keys, values and headers as BLOB; else as text, with `\\xHH` for what is no UTF-8."""
        mib = MEMORY_LEAST_MIB + MEMORY_A_BYTE * bytes_max // (1 << 20)
        self._sql = duckdb.connect(
            ":memory:",
            config={
                "enable_external_access": "false",
                "autoload_known_extensions": "false",
                "autoinstall_known_extensions": "false",
                "python_enable_replacements": "false",
                "temp_directory": "",
                "memory_limit": f"{mib}MiB",
            },
        )
        self._raw = raw
        self._memory = f"{mib} MiB"
        self._run("set TimeZone = 'UTC'")
        self._run(f"create schema {STORED}")

    def named(self, query: str) -> list[str]:
        """The tables that a query reads, less those that its own `with` makes. Raises SqlError when it is no
        query, or several."""
        (tree,) = self._run("select json_serialize_sql(?)", query).fetchone()
        parsed = json.loads(tree)
        if parsed["error"]:
            raise SqlError(parsed["error_message"] + _quotes(query, parsed["error_message"]))
        if len(parsed["statements"]) != 1:
            raise SqlError("one SELECT, please")
        return sorted(set(_read_by(parsed, frozenset())))

    # -- putting in

    def add_topic(self, name: str) -> None:
        """An empty table for records of a topic."""
        of = "blob" if self._raw else "varchar"
        self._create(
            name,
            f'partition integer, "offset" bigint, timestamp timestamp_ms, key {of}, value {of}, '
            f"headers struct(key varchar, value {of})[]",
        )

    def add_records(self, name: str, records: Sequence[Record[bytes, bytes]]) -> None:
        """Records behind those that a topic's table has."""
        _, partitions, offsets, timestamps, keys, values, headers = zip(*records, strict=True)
        if any(headers):
            text = _binary if self._raw else _text
            headers = tuple(
                [{"key": each, "value": text(value)} for each, value in several] for several in headers
            )
        kind = _RAW_HEADER if self._raw else _HEADER
        self._append(
            name,
            {
                "partition": pyarrow.array(partitions, pyarrow.int32()),
                "offset": pyarrow.array(offsets, pyarrow.int64()),
                "timestamp": _times(timestamps),
                "key": self._texts(keys),
                "value": self._texts(values),
                "headers": pyarrow.array(headers, pyarrow.list_(kind)),
            },
        )

    def add_store(self, name: str, *, timed: bool) -> None:
        """An empty table for rows of a store; a `timed` one has `time`, too."""
        time = "time timestamp_ms, " if timed else ""
        self._create(name, f"worker varchar, partition integer, {time}key varchar, value varchar")

    def add_rows(self, name: str, rows: Sequence[Row]) -> None:
        """Worker, partition, time, key and value of rows of a store; without `time` where that is None."""
        workers, partitions, times, keys, values = zip(*rows, strict=True)
        self._append(
            name,
            {
                "worker": pyarrow.array(workers, pyarrow.string()),
                "partition": pyarrow.array(partitions, pyarrow.int32()),
                **({} if times[0] is None else {"time": _times(times)}),
                "key": pyarrow.array(keys, pyarrow.string()),
                "value": pyarrow.array(values, pyarrow.string()),
            },
        )

    def _create(self, name: str, columns: str) -> None:
        self._run(f"create table {STORED}.{_quoted(name)} ({columns})")
        self._run(f"create view {_quoted(name)} as select * from {STORED}.{_quoted(name)}")

    def _append(self, name: str, columns: dict[str, Any]) -> None:
        self._sql.register("batch", pyarrow.table(columns))
        self._run(f"insert into {STORED}.{_quoted(name)} select * from batch")
        self._sql.unregister("batch")

    def _texts(self, values: Sequence[bytes | None]) -> Any:
        found = pyarrow.array(values, pyarrow.binary())
        if self._raw:
            return found
        try:
            return found.cast(pyarrow.string())
        except pyarrow.ArrowInvalid:
            return pyarrow.array([_text(value) for value in values], pyarrow.string())

    # -- JSON

    def spread(self, name: str) -> int:
        """Columns from JSON: `value` gets the type that its values have in common, and the members of objects
        become columns, those of whose name there is one already only as `value.NAME`. Where members differ in
        case only, which SQL does not tell apart, the first one is a column, and the object itself stays JSON.
        So does what is nested too deeply, or has a member without a name. Gives how many values are no JSON;
        they are null then."""
        table = f"{STORED}.{_quoted(name)}"
        json_of = "case when json_valid(value) then value::json end"
        structure, bad = self._run(
            f"select json_group_structure({json_of})::varchar, "
            f"count(*) filter (value is not null and not json_valid(value)) from {table}"
        ).fetchone()
        try:
            found = json.loads(structure or '"JSON"')
            kind = _plain_kind(found)
        except RecursionError:
            found = kind = "JSON"
        parsed = f"json_transform({json_of}, {_text_of(json.dumps(kind))})"
        value = parsed if kind == found and found not in ("JSON", "NULL") else json_of
        columns = []
        if isinstance(kind, dict):
            taken = {column.lower() for column, *_ in self._run(f"describe {table}").fetchall()}
            columns = [
                f", _parsed.{_quoted(member)} as {_quoted(member)}"
                for member in kind
                if member.lower() not in taken
            ]
        self._run(
            f"create or replace view {_quoted(name)} as select * exclude (_parsed){''.join(columns)} "
            f"from (select * replace ({value} as value), {parsed} as _parsed from {table})"
        )
        return int(bad)

    # -- asking

    def ask(self, query: str) -> tuple[list[str], Iterator[list[tuple[Any, ...]]]]:
        """The columns and the rows, some at a time. From now on nothing can be set."""
        self._run("set lock_configuration = true")
        self._run(query)
        return _distinct([name for name, *_ in self._sql.description]), self._rows()

    def _rows(self) -> Iterator[list[tuple[Any, ...]]]:
        while rows := self._asked(lambda: self._sql.fetchmany(ROWS_A_FETCH)):
            yield rows

    def close(self) -> None:
        """Forget everything."""
        self._sql.close()

    def _run(self, statement: str, *arguments: str) -> Any:
        return self._asked(lambda: self._sql.execute(statement, arguments))

    def _asked(self, question: Callable[[], _Answer]) -> _Answer:
        """What DuckDB answers, which works in another thread, so that this one hears of Ctrl-C: in the main
        thread DuckDB looks for it itself, not before a task is over, and one of a join may take minutes.
        Raises SqlError, and KeyboardInterrupt once the query has ended, or when Ctrl-C comes again."""
        answer = Future[_Answer]()
        try:
            if threading.current_thread() is not threading.main_thread():
                return question()  # who is in another thread is not told of Ctrl-C
            threading.Thread(target=_answer, args=(question, answer), daemon=True).start()
            return answer.result()
        except KeyboardInterrupt:
            while not answer.done():  # a query that had not begun has not heard: it is told again
                self._sql.interrupt()
                wait([answer], INTERRUPT_SECONDS)
            raise
        except duckdb.Error as error:
            raise self._told(error) from error

    def _told(self, error: Exception) -> SqlError:
        if isinstance(error, duckdb.OutOfMemoryException):
            return SqlError(
                f"that takes more than DuckDB's {self._memory} here: read less, or give more with --max-mib"
            )
        return SqlError(str(error).split("\n\n")[0])  # without the picture of the place


def _answer(question: Callable[[], _Answer], answer: Future[_Answer]) -> None:
    try:
        answer.set_result(question())
    except BaseException as error:
        answer.set_exception(error)


def _distinct(columns: Sequence[str]) -> list[str]:
    """Columns that have one name, as those of a join, are numbered: an object has a name once."""
    found: dict[str, None] = {}
    for column in columns:
        name, number = column, 1
        while name in found:
            name, number = f"{column}_{number}", number + 1
        found[name] = None
    return list(found)


def _read_by(tree: Any, made: frozenset[str]) -> Iterator[str]:
    """The tables that are read in a part of a query. `made` are the names, in small letters, that `with` has
    made for that part: each is seen by what comes after it, and, if it is recursive, by itself."""
    if isinstance(tree, list):
        for each in tree:
            yield from _read_by(each, made)
    if not isinstance(tree, dict):
        return
    if tree.get("type") == "BASE_TABLE" and tree["schema_name"] not in _OWN_SCHEMAS:
        name = ".".join(filter(None, (tree["catalog_name"], tree["schema_name"], tree["table_name"])))
        raise SqlError(f'a topic whose name has a dot stands in double quotes: "{name}"')
    if tree.get("type") == "BASE_TABLE" and (tree["schema_name"] or tree["table_name"].lower() not in made):
        yield tree["table_name"]
    if tree.get("type") == "RECURSIVE_CTE_NODE":
        made |= {tree["cte_name"].lower()}
    for each in tree.get("cte_map", {}).get("map", ()):
        yield from _read_by(each["value"], made)
        made |= {each["key"].lower()}
    for member, inner in tree.items():
        if member != "cte_map":
            yield from _read_by(inner, made)


def _quotes(query: str, error: str) -> str:
    """What to do about a syntax error that is in the name of a topic."""
    near = _NEAR.search(error)
    for name in _READ.findall(query) if near else ():
        if near and (name.lower().startswith(near[1].lower()) or (near[1] == "-" and "-" in name)):
            return f'. If {name} is a topic, put its name in double quotes: from "{name}"'
    return ""


def _plain_kind(kind: Any, is_root: bool = True) -> Any:
    """A structure of JSON values that can be a type of SQL."""
    if isinstance(kind, list):
        return [_plain_kind(each, False) for each in kind]
    if not isinstance(kind, dict):
        return kind
    members: dict[str, Any] = {}
    for name, inner in kind.items():
        if name and name.lower() not in {each.lower() for each in members}:
            members[name] = _plain_kind(inner, False)
    return members if is_root or len(members) == len(kind) else "JSON"


def _text_of(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _times(milliseconds: Sequence[int | None]) -> Any:
    """Points in time in UTC; null where a record has none, or one that DuckDB has not."""
    known = [None if each is None or not 0 <= each <= TIME_MAX_MS else each for each in milliseconds]
    return pyarrow.array(known, pyarrow.timestamp("ms"))


def _text(value: bytes | None) -> str | None:
    return None if value is None else value.decode(errors="backslashreplace")


def _binary(value: bytes | None) -> bytes | None:
    return value
