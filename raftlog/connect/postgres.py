"""What the Postgres connectors share: a connection whose statements run in a thread, one at a time.

psycopg is an extra, `pip install 'raftlog[postgres]'`, and imported by the first statement: to list the
connectors takes nothing. A statement that is cancelled, or not answered in time, has its socket shut down: so
the thread ends at once, whatever the server does. The next statement connects anew.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, TypeVar, cast

import trio

from raftlog.connect.errors import ConnectError, Refused, Unavailable
from raftlog.connect.options import option
from raftlog.connect.rows import quoted
from raftlog.errors import ConfigError

if TYPE_CHECKING:
    import psycopg

    Connection = psycopg.Connection[tuple[Any, ...]]

T = TypeVar("T")

CONNECT_SECONDS: Final = 10
LOCK_SECONDS: Final = 10
"""How long a statement waits for somebody's lock, before that counts as unavailable."""
NAME_BYTES_MAX: Final = 63
"""Postgres cuts longer names, so that two tables could become one."""
PASSING: Final = ("08", "40", "53", "57", "58", "55006", "55P03", "25006", "25P03")
"""Classes and codes of what may pass: connections, conflicts, resources, an operator, the disk, a lock, a
server that only reads, because another leads now."""
REFUSING: Final = ("21", "22", "23", "44", "54", "P0")
"""Of what a row is refused with: its data, a constraint, a size, a trigger. With 21, one statement met a key
twice."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PostgresConfig:
    dsn: str = option(
        doc="Where the database is: postgresql://user@host/database, or host=… dbname=….", secret=True
    )
    answer_s: float = option(60.0, doc="How long the server may take for a step, in seconds.", least=1)


class _Call:
    """Something that a thread does, until it has ended or nobody waits for it any more."""

    has_ended = False
    is_abandoned = False


class Database:
    """A connection that is made when it is needed."""

    def __init__(self, config: PostgresConfig, name: str) -> None:
        self._config = config
        self._name = name
        self._one = trio.CapacityLimiter(1)
        self._connection: Connection | None = None
        self._socket: socket.socket | None = None
        """Of the connection, by a descriptor of its own: it can be shut down while the thread closes its."""

    def __repr__(self) -> str:
        return f"<Database {self._name} {'idle' if self._connection is None else 'connected'}>"

    async def run(self, work: Callable[[Connection], T]) -> T:
        """Do something with the connection, in a thread. Raises Unavailable for what may pass, Refused for
        what is wrong with data, ConnectError. Cancelled, whether it was done is not known."""
        call = _Call()
        with trio.move_on_after(self._config.answer_s):
            try:
                return await trio.to_thread.run_sync(
                    self._in_thread, work, call, abandon_on_cancel=True, limiter=self._one
                )
            finally:
                if not call.has_ended:
                    call.is_abandoned = True
                    self._hang_up()
        raise Unavailable(f"Postgres has not answered within {self._config.answer_s:g} s")

    async def aclose(self) -> None:
        """Close the connection."""
        await trio.to_thread.run_sync(self._drop, limiter=self._one)

    def _hang_up(self) -> None:
        if self._socket is not None:
            try:
                self._socket.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass  # closed meanwhile

    # -- in the thread

    def _in_thread(self, work: Callable[[Connection], T], call: _Call) -> T:
        psycopg = driver()
        try:
            if call.is_abandoned:
                raise Unavailable("nobody waits for it")
            return work(self._connected())
        except psycopg.Error as error:
            raise told(error, is_closed=self._connection is None or self._connection.closed) from error
        finally:
            call.has_ended = True
            if call.is_abandoned or (self._connection is not None and self._connection.closed):
                self._drop()

    def _connected(self) -> Connection:
        if self._connection is not None:
            return self._connection
        psycopg = driver()
        given = address(self._config.dsn)
        defaults = {"connect_timeout": CONNECT_SECONDS, "application_name": f"raftlog {self._name}"}
        connection: Connection = psycopg.connect(
            **cast("dict[str, Any]", defaults | given), autocommit=True, cursor_factory=psycopg.RawCursor
        )
        self._connection = connection
        self._socket = socket.socket(fileno=os.dup(connection.fileno()))
        answer_ms = str(int(self._config.answer_s * 1000))
        settings = {
            "timezone": "UTC",
            "datestyle": "ISO",
            "statement_timeout": answer_ms,
            "idle_in_transaction_session_timeout": answer_ms,  # else one who is paused holds up its successor
            "lock_timeout": str(LOCK_SECONDS * 1000),
        }
        connection.execute(
            "select set_config(name, value, false) from unnest($1::text[], $2::text[]) as t (name, value)",
            (list(settings), list(settings.values())),
        )
        return connection

    def _drop(self) -> None:
        connection, sock = self._connection, self._socket
        self._connection = self._socket = None
        if connection is not None:
            connection.close()
        if sock is not None:
            sock.close()


def address(dsn: str) -> dict[str, Any]:
    """What a dsn says. Raises ConnectError, which shows nothing of it, also for one whose password would be
    taken for a host, a port or a database, and told of by whoever cannot find that."""
    psycopg = driver()
    wrong = ConnectError(
        "dsn is no address of a Postgres database. In an address, a password has %2F for '/', %40 for '@', "
        "%3A for ':' and %25 for '%'"
    )
    try:
        given: dict[str, Any] = psycopg.conninfo.conninfo_to_dict(dsn)
    except psycopg.Error:
        raise wrong from None
    if dsn.startswith(("postgresql://", "postgres://")):
        before, _, path = dsn.partition("://")[2].partition("?")[0].partition("/")
        if "@" in path or before.count("@") > 1:
            raise wrong
    if not all(port == "" or port.isdecimal() for port in str(given.get("port", "")).split(",")):
        raise wrong
    return given


def driver() -> Any:
    """psycopg. Raises ConnectError when it is not installed."""
    try:
        import psycopg
        import psycopg.conninfo
    except ImportError as error:
        raise ConnectError(
            f"pip install 'raftlog[postgres]' brings what this connector needs: {error}"
        ) from error
    return psycopg


def told(error: psycopg.Error, *, is_closed: bool) -> ConnectError:
    """Whose fault an error is."""
    state = error.sqlstate or ""
    text = error.diag.message_primary or str(error).strip() or type(error).__name__
    if is_closed or state.startswith(PASSING):
        return Unavailable(f"Postgres: {text}")
    if state.startswith(REFUSING):
        return Refused(f"Postgres does not take it: {text}")
    return ConnectError(f"Postgres: {text}")


def table_of(name: str) -> str:
    """`table` or `schema.table`, quoted."""
    return ".".join(map(quoted, name.split(".")))


def names(columns: Sequence[str]) -> str:
    """Columns, quoted."""
    return ", ".join(map(quoted, columns))


def check_name(name: str) -> None:
    """Raises ConfigError for a name that Postgres would cut."""
    if not name or len(name.encode()) > NAME_BYTES_MAX:
        raise ConfigError(f"{name[:80]!r}: a name in Postgres has 1 to {NAME_BYTES_MAX} bytes")


def literal(text: str) -> str:
    """A text as SQL writes it."""
    return "'" + text.replace("'", "''") + "'"
