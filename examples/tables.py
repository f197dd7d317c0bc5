"""What a SQLite sink has written."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any


def rows(path: Path, columns: str, table: str) -> list[tuple[Any, ...]]:
    """Rows of a table; none when it is not there yet."""
    if not path.exists():
        return []
    with closing(sqlite3.connect(path, timeout=30)) as sql:
        try:
            return sql.execute(f'select {columns} from "{table}"').fetchall()
        except sqlite3.OperationalError:
            return []
