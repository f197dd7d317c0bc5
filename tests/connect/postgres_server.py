"""A Postgres of the tests' own, in a folder, reached by a socket there: started, stopped, killed."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

PATIENCE_S = 60
DEBIAN = Path("/usr/lib/postgresql")
"""Debian has each version's programs in a folder of its own, and none of those for servers in PATH."""


class PostgresServer:
    """It runs as `postgres`, or as `nobody`, when the tests run as root, whom Postgres refuses. With a port
    it listens on 127.0.0.1, too."""

    def __init__(self, programs: Path, port: int | None = None) -> None:
        self._programs = programs
        self.port = port
        self._folder = Path(tempfile.mkdtemp(prefix="raftlog-pg-"))  # one that others may pass through
        self._user: dict[str, Any] = {}
        if os.geteuid() == 0:
            user = next(each for each in pwd.getpwall() if each.pw_name in ("postgres", "nobody"))
            self._user = {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}
            os.chown(self._folder, user.pw_uid, user.pw_gid)
        self._process: subprocess.Popen[bytes] | None = None
        self._databases = 0
        self._run(
            *("initdb", "-D", str(self._folder / "data"), "-U", "raftlog", "-A", "trust"),
            *("-E", "UTF8", "--locale=C", "--no-sync"),
        )

    def _run(self, program: str, *arguments: str) -> None:
        subprocess.run(
            [str(self._programs / program), *arguments],
            **self._user,
            cwd=self._folder,
            check=True,
            capture_output=True,
        )

    def start(self) -> None:
        """Until it answers."""
        assert self._process is None
        address = "" if self.port is None else "127.0.0.1"
        port = [] if self.port is None else ["-p", str(self.port)]
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [
                    *(str(self._programs / "postgres"), "-D", "data", "-k", str(self._folder)),
                    *(
                        "-c",
                        f"listen_addresses={address}",
                        *port,
                        "-c",
                        "wal_level=logical",
                        "-c",
                        "fsync=off",
                    ),
                    *("-c", "max_replication_slots=50", "-c", "max_slot_wal_keep_size=64MB"),
                ],
                **self._user,
                cwd=self._folder,
                stdout=log,
                stderr=log,
            )
        import psycopg

        give_up = time.monotonic() + PATIENCE_S
        while True:
            try:
                with psycopg.connect(self.dsn("postgres")):
                    return
            except psycopg.OperationalError:
                if time.monotonic() > give_up or self._process.poll() is not None:
                    raise AssertionError((self._folder / "log").read_text()[-3000:]) from None
                time.sleep(0.05)

    def stop(self, number: signal.Signals = signal.SIGINT) -> None:
        """SIGINT ends it at once and in order, SIGQUIT as a crash does."""
        assert self._process is not None
        self._process.send_signal(number)
        self._process.wait(PATIENCE_S)
        self._process = None

    def restart(self, number: signal.Signals = signal.SIGINT) -> None:
        self.stop(number)
        self.start()

    def pause(self) -> None:
        """All of its processes stand still: it takes connections, and answers nothing."""
        for pid in self._pids():
            os.kill(pid, signal.SIGSTOP)

    def resume(self) -> None:
        for pid in self._pids():
            os.kill(pid, signal.SIGCONT)

    def _pids(self) -> list[int]:
        assert self._process is not None
        first = self._process.pid
        children = Path(f"/proc/{first}/task/{first}/children").read_text().split()
        return [first, *map(int, children)]

    def dsn(self, database: str) -> str:
        port = "" if self.port is None else f" port={self.port}"
        return f"host={self._folder}{port} dbname={database} user=raftlog"

    def database(self) -> str:
        """A new one: its dsn."""
        self._databases += 1
        name = f"d{self._databases}"
        self.sql(self.dsn("postgres"), f"create database {name}")
        return self.dsn(name)

    def sql(self, dsn: str, text: str, *values: Any) -> list[tuple[Any, ...]]:
        """What a statement gives; several are one transaction."""
        import psycopg

        with psycopg.connect(dsn, autocommit=True) as connection:
            found = connection.execute(text, values or None)  # type: ignore[arg-type]
            return found.fetchall() if found.description else []

    def close(self) -> None:
        if self._process is not None:
            self.resume()
            self.stop(signal.SIGQUIT)
        shutil.rmtree(self._folder)


def serving(port: int | None = None) -> Iterator[PostgresServer]:
    """One that runs, for a fixture. Skipped, or failed where everything is asked for, without Postgres."""
    programs = shutil.which("initdb")
    folders = [Path(programs).parent] if programs else sorted(DEBIAN.glob("*/bin"))
    if not folders:
        if os.environ.get("RAFTLOG_TEST_REQUIRE") == "all":
            pytest.fail("Postgres is not installed")
        pytest.skip("Postgres is not installed: apt-get install postgresql")
    server = PostgresServer(folders[-1], port)
    try:
        server.start()
        yield server
    finally:
        server.close()
