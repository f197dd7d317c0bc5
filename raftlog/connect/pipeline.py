"""A pipeline file: connectors by name, in TOML.

    [connector.payments]
    class = "file-source"
    paths = ["payments.jsonl"]
    topic = "payments"

What every connector takes (`topics`, `errors`, `transform`, …) is here, what only one takes in its Config.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from raftlog.client.settings import nearest
from raftlog.connect.contract import Source
from raftlog.connect.options import option, read
from raftlog.connect.plugins import Connector, find
from raftlog.connect.transforms import Transform, make
from raftlog.errors import ConfigError

NAME: Final = re.compile(r"[a-zA-Z0-9._-]{1,80}")
CONNECTORS_MAX: Final = 200
FILE_BYTES_MAX: Final = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Errors:
    """What becomes of what goes wrong."""

    tolerance: Literal["none", "all"] | None = option(
        None, doc="What a bad record does: end the connector, or be left out. With a dlq it is all."
    )
    retry_s: float = option(
        600.0, doc="How long what may pass is tried again before the connector ends, in seconds.", least=0
    )
    dlq: str | None = option(None, doc="The topic of records that could not be handled.")

    def __post_init__(self) -> None:
        if self.dlq is not None and self.tolerance == "none":
            raise ConfigError('dlq needs tolerance = "all", which it is when it is left out')

    @property
    def leaves_out(self) -> bool:
        """Whether a bad record does not end the connector."""
        return self.dlq is not None or self.tolerance == "all"


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceSettings:
    """What every source takes."""

    guarantee: Literal["exactly_once", "at_least_once"] = option(
        "exactly_once", doc="Whether records and positions are written in one transaction."
    )
    on_position_lost: Literal["fail", "start"] = option(
        "fail", doc="What to do when a stored position cannot be read: fail, or read from the start."
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class SinkSettings:
    """What every sink takes."""

    topics: tuple[str, ...] = option(doc="The topics to read.")
    group: str | None = option(None, doc="The consumer group: connect-NAME unless it is given.")
    start: Literal["earliest", "latest"] = option("earliest", doc="Where a partition not read before begins.")
    on_lost: Literal["fail", "skip"] = option(
        "fail", doc="What to do when records are gone from the log before they were read."
    )
    isolation: Literal["read_committed", "read_uncommitted"] = option(
        "read_committed", doc="Whether records of transactions are read before their commit."
    )
    batch_records: int = option(1000, doc="Records that are written together at most.", least=1)
    batch_wait_ms: int = option(200, doc="How long to wait for so many.", least=1)
    session_timeout_ms: int = option(
        10_000,
        doc="After so long others have the partitions of a worker that died, itself included.",
        least=1000,
    )
    buffer_bytes: int = option(16 << 20, doc="Bytes read ahead at most.", least=1)

    def __post_init__(self) -> None:
        if not self.topics:
            raise ConfigError("topics is empty: name at least one")


@dataclass(frozen=True, slots=True)
class Spec:
    """A connector as its author wants it."""

    name: str
    kind: str
    """Its class, by name."""
    connector: Connector
    config: Any
    settings: SourceSettings | SinkSettings
    errors: Errors
    transforms: tuple[Transform, ...]
    given: Mapping[str, Any] = field(hash=False)
    """What it was read from."""

    @property
    def is_source(self) -> bool:
        """Or a sink."""
        return issubclass(self.connector, Source)


def load(path: str) -> list[Spec]:
    """The connectors of a file. Raises ConfigError."""
    try:
        with open(path, "rb") as file:
            text = file.read(FILE_BYTES_MAX + 1)
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}") from None
    if len(text) > FILE_BYTES_MAX:
        raise ConfigError(f"{path} has more than {FILE_BYTES_MAX} bytes")
    try:
        found = tomllib.loads(text.decode())
    except ValueError as error:
        raise ConfigError(f"{path} is no TOML: {error}") from None
    return parse(found, path)


def parse(given: Mapping[str, Any], where: str) -> list[Spec]:
    """The connectors of a pipeline. Raises ConfigError."""
    unknown = [name for name in given if name != "connector"]
    if unknown:
        raise ConfigError(f"{where} has no table {unknown[0]!r}{nearest(unknown[0], ['connector'])}")
    tables = given.get("connector")
    if not isinstance(tables, Mapping) or not tables:
        raise ConfigError(f"{where} has no connector: it begins with [connector.NAME]")
    if len(tables) > CONNECTORS_MAX:
        raise ConfigError(f"{where} has {len(tables)} connectors, and one worker runs {CONNECTORS_MAX}")
    return [spec(name, table, f"{where}: connector {name}") for name, table in tables.items()]


def spec(name: str, given: Any, where: str) -> Spec:
    """One connector. Raises ConfigError."""
    if not NAME.fullmatch(name):
        raise ConfigError(f"{where}: a name has up to 80 letters, digits, '.', '_' and '-'")
    if not isinstance(given, Mapping):
        raise ConfigError(f"{where} is no table")
    options = dict(given)
    kind = options.pop("class", None)
    if not isinstance(kind, str):
        raise ConfigError(f'{where} needs class = "NAME": raftlog connect plugins shows them')
    try:
        connector = find(kind)
    except ConfigError as error:
        raise ConfigError(f"{where}: {error}") from None
    transforms = options.pop("transform", [])
    if not isinstance(transforms, list) or not all(isinstance(one, Mapping) for one in transforms):
        raise ConfigError(f"{where}: transforms are [[connector.{name}.transform]]")
    errors = options.pop("errors", {})
    if not isinstance(errors, Mapping):
        raise ConfigError(f'{where}: errors is a table: errors = {{ dlq = "TOPIC" }}')
    shared: type[SourceSettings] | type[SinkSettings] = (
        SourceSettings if issubclass(connector, Source) else SinkSettings
    )
    common = {field: options.pop(field) for field in shared.__dataclass_fields__ if field in options}
    return Spec(
        name,
        kind,
        connector,
        read(connector.Config, options, where),
        read(shared, common, where),
        read(Errors, errors, f"{where}: errors"),
        make(transforms, where),
        given,
    )
