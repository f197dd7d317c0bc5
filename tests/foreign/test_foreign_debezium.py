"""Debezium on a worker of Kafka Connect: what happens to rows of Postgres arrives in a topic, each change
once and in order, while the broker that coordinates is killed five times."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from raftlog.testing.processes import ClusterProcesses
from tests.connect.postgres_server import PostgresServer
from tests.foreign.commands import JavaTools
from tests.foreign.kills import STOP_MAX_S, kill_coordinators, longest_stop
from tests.foreign.streams import Committed
from tests.foreign.worker import GROUP, Worker

PAUSE_S: Final = 0.02
BEFORE: Final = 10
"""Rows that are there before the connector is."""
TOPIC: Final = "shop.public.t"
ROLLED_BACK_EVERY: Final = 5
DELETED_EVERY: Final = 3

Change = tuple[str, int, int]
"""Debezium's name of the operation, the row's id, the row's number: after a change, or before a delete."""


class Table:
    """Rows that are inserted, updated and deleted, each row in a transaction of its own, in a thread. Some
    transactions are rolled back."""

    def __init__(self, postgres: PostgresServer) -> None:
        self.dsn = postgres.database()
        postgres.sql(self.dsn, "create table t (id int primary key, n int)")
        postgres.sql(
            self.dsn, "alter table t replica identity full"
        )  # so that a deleted row's number is told
        postgres.sql(self.dsn, f"insert into t select id, 0 from generate_series(1, {BEFORE}) id")
        self.changes: list[Change] = [("r", row, 0) for row in range(1, BEFORE + 1)]
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._write)

    def start(self) -> None:
        self._thread.start()

    def end(self) -> None:
        self._ending.set()
        if self._thread.is_alive():
            self._thread.join()

    def _write(self) -> None:
        import psycopg

        row = BEFORE
        with psycopg.connect(self.dsn) as connection:
            while not self._ending.is_set():
                row += 1
                connection.execute("insert into t values (%s, 1)", (row,))
                connection.execute("update t set n = 2 where id = %s", (row,))
                changes: list[Change] = [("c", row, 1), ("u", row, 2)]
                if row % DELETED_EVERY == 0:
                    connection.execute("delete from t where id = %s", (row,))
                    changes.append(("d", row, 2))
                if row % ROLLED_BACK_EVERY == 0:
                    connection.rollback()
                else:
                    connection.commit()
                    self.changes += changes
                time.sleep(PAUSE_S)


def change(value: str) -> Change:
    """What a record says happened."""
    said = json.loads(value)
    row = said["before" if said["op"] == "d" else "after"]
    return said["op"], row["id"], row["n"]


@pytest.fixture
def worker(
    newer_apps: JavaTools, plugins: Path, mortal: ClusterProcesses, tmp_path: Path
) -> Iterator[Worker]:
    json_without_schemas = {
        "value.converter": "org.apache.kafka.connect.json.JsonConverter",
        "value.converter.schemas.enable": "false",
    }
    settings = {"plugin.path": str(plugins), **json_without_schemas}
    worker = Worker(newer_apps, mortal.bootstrap, tmp_path, settings)
    yield worker
    worker.program.stop()


@pytest.fixture
def table(postgres: PostgresServer) -> Iterator[Table]:
    table = Table(postgres)
    yield table
    table.end()


@pytest.mark.slow
def test_each_change_arrives_once(
    worker: Worker, java: JavaTools, postgres: PostgresServer, table: Table, mortal: ClusterProcesses
) -> None:
    java(
        *("TopicCommand", "--bootstrap-server", mortal.bootstrap, "--create", "--topic", TOPIC),
        *("--partitions", 1, "--replication-factor", 3),
    )
    worker.configure(
        "shop",
        {
            "connector.class": "io.debezium.connector.postgresql.PostgresConnector",
            "exactly.once.support": "required",
            "tasks.max": "1",
            "topic.prefix": "shop",
            "plugin.name": "pgoutput",
            "publication.autocreate.mode": "filtered",
            "table.include.list": "public.t",
            "tombstones.on.delete": "false",
            "database.hostname": "127.0.0.1",
            "database.port": str(postgres.port),
            "database.user": "raftlog",
            "database.password": "",
            "database.dbname": table.dsn.partition("dbname=")[2].split()[0],
        },
    )
    with Committed(mortal.bootstrap, TOPIC) as topic:
        worker.program.until("the rows from before", lambda: len(topic.read) >= BEFORE)
        table.start()

        def goes_on(when: str) -> None:
            worker.program.until(f"changes {when}", topic.has_read_since(time.monotonic()))

        goes_on("at first")
        begun = len(topic.read)
        kill_coordinators(mortal, GROUP, goes_on)
        ended = len(topic.read)
        table.end()
        worker.program.until("all changes", lambda: len(topic.read) >= len(table.changes))
        worker.must_run("shop")
    assert [change(value) for _, _, value in topic.read] == table.changes, "each once, in order"
    assert longest_stop([moment for moment, _, _ in topic.read[begun:ended]]) < STOP_MAX_S
