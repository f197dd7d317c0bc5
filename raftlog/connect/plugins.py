"""Connectors by name: those of raftlog, and those of other packages, by entry points.

    [project.entry-points."raftlog.connectors"]
    crm-source = "mycompany.crm:CrmSource"

raftlog's own are in a table, so that they are there also where raftlog is not installed but on the path.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
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
    "http-sink": "raftlog.connect.http_sink:HttpSink",
    "http-source": "raftlog.connect.http_source:HttpSource",
    "postgres-cdc": "raftlog.connect.postgres_cdc:PostgresChanges",
    "postgres-sink": "raftlog.connect.postgres_sink:PostgresSink",
    "postgres-source": "raftlog.connect.postgres_source:PostgresSource",
    "s3-sink": "raftlog.connect.s3_sink:S3Sink",
    "sqlite-sink": "raftlog.connect.sqlite_sink:SqliteSink",
    "stdout": "raftlog.connect.stdout:Stdout",
}

Connector = type[Source] | type[Sink]


def _places() -> dict[str, list[str]]:
    """Where each connector is, `module:Class`: in more than one place, when two packages have one name."""
    found = {name: [place] for name, place in BUILT_IN.items()}
    for point in entry_points(group=GROUP):
        places = found.setdefault(point.name, [])
        if point.value not in places:
            places.append(point.value)
    return found


def installed() -> tuple[dict[str, Connector], dict[str, ConfigError]]:
    """The connectors that there are, by name, and what is wrong with those that cannot be used: one package
    that does not load is no reason not to have the others."""
    found: dict[str, Connector] = {}
    broken: dict[str, ConfigError] = {}
    for name, places in sorted(_places().items()):
        try:
            found[name] = _load(name, places)
        except ConfigError as error:
            broken[name] = error
    return found, broken


def find(name: str) -> Connector:
    """A connector's class. Raises ConfigError, with the nearest name for one that is unknown."""
    known = _places()
    if name not in known:
        raise ConfigError(f"there is no connector {name!r}{nearest(name, known) or ': ' + ', '.join(known)}")
    return _load(name, known[name])


def _load(name: str, places: Sequence[str]) -> Connector:
    if len(places) > 1:
        raise ConfigError(
            f"two connectors are called {name!r}: {' and '.join(places)}; "
            "one of the packages must be uninstalled, or rename its own"
        )
    module, _, attribute = places[0].partition(":")
    try:
        found = getattr(importlib.import_module(module), attribute)
    except Exception as error:  # whatever another's module does when it is imported
        raise ConfigError(
            f"connector {name!r} cannot be loaded from {places[0]}: {type(error).__name__}: {error}"
        ) from error
    if not (isinstance(found, type) and issubclass(found, Source | Sink)):
        raise ConfigError(f"connector {name!r}: {places[0]} is no raftlog.connect.Source or Sink")
    return found
