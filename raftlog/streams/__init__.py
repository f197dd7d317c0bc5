"""Stateful stream processing on a Kafka-compatible log, in plain Python functions.

    from raftlog import streams as rs

    app = rs.App("wordcount")
    counts = (
        app.stream("lines", value=rs.TEXT)
        .flat_map(lambda line: line.lower().split())
        .key_by(lambda word: word)
        .window(rs.tumbling(size_s=60, grace_s=10))
        .count("counts")
    )
    counts.final().to("word-counts", value=rs.JSON)

An app is shared out among its workers by an ordinary consumer group. Its state is rebuilt from changelog
topics, and with `guarantee="exactly_once"` each commit is one transaction. `driver` runs an app inside a
test, without a broker.
"""

from raftlog.streams.aggregates import Aggregate, count, fields, last, max, mean, min, reduce, sum
from raftlog.streams.commands import Entities, Refused
from raftlog.streams.driver import Driver, driver
from raftlog.streams.errors import RecordFailed, StateDamaged, StateError, StreamsError, TopologyError
from raftlog.streams.nodes import Record, State
from raftlog.streams.plan import plan
from raftlog.streams.serdes import BYTES, FLOAT, INT, JSON, TEXT, Serde, dataclass
from raftlog.streams.serving import Http
from raftlog.streams.topology import App, Results, Stream, Table, Windowed
from raftlog.streams.windows import Sessions, Sliding, Windows, hopping, session, sliding, tumbling
from raftlog.streams.worker import run

__all__ = [
    "BYTES",
    "FLOAT",
    "INT",
    "JSON",
    "TEXT",
    "Aggregate",
    "App",
    "Driver",
    "Entities",
    "Http",
    "Record",
    "RecordFailed",
    "Refused",
    "Results",
    "Serde",
    "Sessions",
    "Sliding",
    "State",
    "StateDamaged",
    "StateError",
    "Stream",
    "StreamsError",
    "Table",
    "TopologyError",
    "Windowed",
    "Windows",
    "count",
    "dataclass",
    "driver",
    "fields",
    "hopping",
    "last",
    "max",
    "mean",
    "min",
    "plan",
    "reduce",
    "run",
    "session",
    "sliding",
    "sum",
    "tumbling",
]
