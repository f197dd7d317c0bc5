"""Connectors: sources that bring files and tables into the log, sinks that bring the log elsewhere.

    [connector.payments]            # raftlog connect run pipeline.toml
    class = "file-source"
    paths = ["payments.jsonl"]
    topic = "payments"

A connector of your own is a class of `Source` or `Sink`, by an entry point of the group
`raftlog.connectors`; `raftlog.testing.connect` has the tests that it must pass.
"""

from raftlog.connect.contract import Batch, Offsets, Position, Sink, Source, SourceRecord, Unit
from raftlog.connect.errors import ConnectError, ConnectorFailed, PositionLost, Refused, Unavailable
from raftlog.connect.options import option
from raftlog.connect.pipeline import Spec, load, parse
from raftlog.connect.worker import run

__all__ = [
    "Batch",
    "ConnectError",
    "ConnectorFailed",
    "Offsets",
    "Position",
    "PositionLost",
    "Refused",
    "Sink",
    "Source",
    "SourceRecord",
    "Spec",
    "Unavailable",
    "Unit",
    "load",
    "option",
    "parse",
    "run",
]
