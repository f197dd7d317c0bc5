"""Settings that are raftlog's own, not Kafka's: the disk, the brokers among themselves, HTTP."""

from __future__ import annotations

from typing import Final

from raftlog.config.addresses import check_host_port
from raftlog.config.keys import INT_MAX, ConfigKey, Value, key


def _check_levels(value: Value) -> str | None:
    assert isinstance(value, tuple)
    for item in value:
        name, _, level = item.rpartition(":")
        if not name.strip() or level.strip().upper() not in ("DEBUG", "INFO", "WARNING", "ERROR"):
            return f"{item!r} is not LOGGER:LEVEL, with a level of DEBUG, INFO, WARNING or ERROR"
    return None


OWN: Final[list[ConfigKey]] = [
    key(
        "raftlog.durability",
        "STRING",
        "fsync",
        "What an acknowledgement rests on: a majority of disks (fsync), or a majority of page caches (os),"
        " which is what Apache Kafka does.",
        choices=("fsync", "os"),
    ),
    key(
        "raftlog.wal.file.bytes",
        "LONG",
        67_108_864,
        "The size of one file of the write-ahead log. A start after a crash replays at most about two.",
        minimum=1_048_576,
        maximum=INT_MAX,
    ),
    key(
        "raftlog.scrub.interval.ms",
        "LONG",
        604_800_000,
        "How often everything that is stored is read again and held to its checksums; the first time soon"
        " after the start. What is damaged is repaired from another replica.",
        minimum=1000,
    ),
    key(
        "raftlog.scrub.bytes.per.second",
        "LONG",
        16_777_216,
        "How fast that is done. 0: not at all.",
        minimum=0,
    ),
    key(
        "raftlog.election.timeout.ms",
        "INT",
        500,
        "A replica that has not heard its leader for this long, or up to half as long again, asks for an"
        " election; at least four times raftlog.heartbeat.interval.ms.",
        minimum=50,
        maximum=600_000,
    ),
    key(
        "raftlog.heartbeat.interval.ms",
        "INT",
        120,
        "How often a leader is heard when there is nothing to say.",
        minimum=5,
        maximum=60_000,
    ),
]

HTTP: Final[list[ConfigKey]] = [
    key(
        "raftlog.http.listen",
        "STRING",
        "127.0.0.1:9644",
        "Where probes, metrics and the JSON API are served, HOST:PORT; empty: nowhere. Unless it is set, a"
        " port that is taken is only said in the log.",
        check=check_host_port,
    ),
    key(
        "raftlog.http.hosts",
        "LIST",
        (),
        "Names by which browsers reach the HTTP port, beside localhost, this host's own, those of"
        " advertised.listeners and addresses: a request that names another is refused, since a page could"
        " have made its own name point here.",
    ),
    key(
        "raftlog.http.token.file",
        "STRING",
        None,
        "A file with the token that lets its bearer do everything over HTTP. Without one only this machine"
        " may; others get probes and metrics. With an authorizer a user shows a password or has a token, for"
        " metrics too.",
    ),
    key(
        "raftlog.http.viewer.token.file",
        "STRING",
        None,
        "A file with a token that lets its bearer look at everything but records, and change nothing.",
    ),
    key("raftlog.http.viewer.records", "BOOLEAN", False, "Whether that one sees records, too."),
    key(
        "raftlog.dev.faults",
        "BOOLEAN",
        False,
        "Whether links can be cut and the disk be made slow over HTTP, on loopback only. `raftlog dev` sets"
        " this.",
    ),
    key("raftlog.http.readonly", "BOOLEAN", False, "Whether nobody may change anything over HTTP."),
    key(
        "raftlog.metrics.partitions.max",
        "INT",
        1000,
        "While a broker leads no more partitions than this, /metrics has figures of each.",
        minimum=0,
    ),
    key(
        "raftlog.log.format",
        "STRING",
        "text",
        "Whether a line of the log is text or a JSON object.",
        choices=("text", "json"),
    ),
    key(
        "raftlog.log.levels",
        "LIST",
        (),
        "How much single parts say, LOGGER:LEVEL, comma-separated, as in raftlog.raft:DEBUG. The parts"
        " are raftlog.broker, .cluster, .http, .peers, .raft, .storage and others; a level is DEBUG, INFO,"
        " WARNING or ERROR. All say WARNING and worse, and raftlog.life, which tells of start, stop, brokers"
        " and moves, INFO.",
        check=_check_levels,
    ),
]
