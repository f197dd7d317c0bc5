"""Connectors by name: those of raftlog, and those of other packages, by entry points.

    [project.entry-points."raftlog.connectors"]
    crm-source = "mycompany.crm:CrmSource"

raftlog's own are in a table, so that they are there also where raftlog is not installed but on the path.
"""

from __future__ import annotations

import importlib
from importlib.metadata import entry_points
from typing import Final

from raftlog.client.settings import nearest
from raftlog.connect.contract import Sink, Source
from raftlog.errors import ConfigError

GROUP: Final = "raftlog.connectors"
BUILT_IN: Final = {
    "file-source": "raftlog.connect.file_source:FileSource",
    "file-sink": "raftlog.connect.file_sink:FileSink",
    "generator": "raftlog.connect.generator:Generator",
    "postgres-cdc": "raftlog.connect.postgres_cdc:PostgresChanges",
    "postgres-sink": "raftlog.connect.postgres_sink:PostgresSink",
    "postgres-source": "raftlog.connect.postgres_source:PostgresSource",
    "s3-sink": "raftlog.connect.s3_sink:S3Sink",
    "sqlite-sink": "raftlog.connect.sqlite_sink:SqliteSink",
    "stdout": "raftlog.connect.stdout:Stdout",
}

Connector = type[Source] | type[Sink]


def places() -> dict[str, str]:
    """Where each connector is, `module:Class`. Raises ConfigError when two packages have one name."""
    found = dict(BUILT_IN)
    for point in entry_points(group=GROUP):
        if found.setdefault(point.name, point.value) != point.value:
            raise ConfigError(
                f"two connectors are called {point.name!r}: {found[point.name]} and {point.value}; "
                "one of the packages must be uninstalled, or rename its own"
            )
    return found


def find(name: str) -> Connector:
    """A connector's class. Raises ConfigError, with the nearest name for one that is unknown."""
    known = places()
    if name not in known:
        raise ConfigError(f"there is no connector {name!r}{nearest(name, known) or ': ' + ', '.join(known)}")
    module, _, attribute = known[name].partition(":")
    try:
        found = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise ConfigError(f"connector {name!r} cannot be loaded from {known[name]}: {error}") from error
    if not (isinstance(found, type) and issubclass(found, Source | Sink)):
        raise ConfigError(f"connector {name!r}: {known[name]} is no raftlog.connect.Source or Sink")
    return found
