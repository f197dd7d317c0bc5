"""Every setting there is. Loading, DescribeConfigs and the reference in docs/ come from here.

Names, types and defaults are Kafka's where Kafka has the setting; `doc` says where the meaning differs
and why. A setting that raftlog has no use for but that common tools and copied files carry is taken
and marked `ignored`; one that would promise something that is not kept is refused.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Final

from raftlog.config.addresses import (
    check_advertised,
    check_connections,
    check_host_port,
    check_listeners,
    check_peer_advertised,
    check_peers,
    check_protocols,
)
from raftlog.config.keys import INT_MAX, LONG_MAX, ConfigKey, ConfigType, Value

DAY_MS: Final = 86_400_000
HOUR_MS: Final = 3_600_000


def _key(name: str, kind: str, default: Value, doc: str, **rest: Any) -> ConfigKey:
    return ConfigKey(name=name, type=ConfigType[kind], default=default, doc=doc, **rest)


def _check_policy(value: Value) -> str | None:
    return None if value else "it is delete, compact or both"


def _check_only_false(value: Value) -> str | None:
    return "a leader always has every acknowledged record; this cannot be switched off" if value else None


def _check_one_dir(value: Value) -> str | None:
    assert isinstance(value, str)
    return "exactly one data folder is served" if not value or "," in value else None


def _check_compression(value: Value) -> str | None:
    if value in ("uncompressed", "gzip", "snappy", "lz4", "zstd"):
        return "batches are kept as their producer compressed them; only 'producer' is served"
    return None if value == "producer" else "it is producer"


def _check_levels(value: Value) -> str | None:
    assert isinstance(value, tuple)
    for item in value:
        name, _, level = item.rpartition(":")
        if not name.strip() or level.strip().upper() not in ("DEBUG", "INFO", "WARNING", "ERROR"):
            return f"{item!r} is not LOGGER:LEVEL, with a level of DEBUG, INFO, WARNING or ERROR"
    return None


_BROKER: Final = [
    # Who and where
    _key(
        "node.id", "INT", 1, "This broker's number in the cluster.", minimum=0, synonyms=(("broker.id", 1),)
    ),
    _key("broker.rack", "STRING", None, "The broker's rack or zone; replicas are spread over racks."),
    _key(
        "listeners",
        "LIST",
        ("PLAINTEXT://127.0.0.1:9092",),
        "Where Kafka clients are served: NAME://HOST:PORT, comma-separated, as in"
        " INTERNAL://10.0.0.5:9092,EXTERNAL://:9094. An empty host is every interface. Clients are told the"
        " addresses of the listener that they came by; of a broker that has none of that name, the first."
        " Several take a cluster whose every broker knows them.",
        check=check_listeners,
    ),
    _key(
        "listener.security.protocol.map",
        "LIST",
        ("PLAINTEXT:PLAINTEXT", "SSL:SSL", "SASL_PLAINTEXT:SASL_PLAINTEXT", "SASL_SSL:SASL_SSL"),
        "The security protocol of each listener by its name, NAME:PROTOCOL, comma-separated. PLAINTEXT and"
        " SSL are served.",
        check=check_protocols,
    ),
    _key(
        "advertised.listeners",
        "LIST",
        None,
        "The addresses that clients are told, when they differ from `listeners`: one for each of them, by its"
        " name.",
        check=check_advertised,
    ),
    _key(
        "raftlog.peer.listen",
        "STRING",
        "127.0.0.1:9192",
        "Where other brokers are served, HOST:PORT. Without raftlog.peer.secret.file whoever reaches it and"
        " knows the cluster id is taken for one of them.",
        check=check_host_port,
    ),
    _key(
        "raftlog.peer.secret.file",
        "STRING",
        None,
        "A file with the secret of the cluster, which every broker has: 32 random bytes in base64, for nobody"
        " but its owner to read. Brokers are then connected in TLS, and only with those that have it. Of"
        " several lines the first is used and all are trusted.",
    ),
    _key(
        "raftlog.peer.secret.required",
        "BOOLEAN",
        True,
        "Whether brokers with a secret refuse those without. False is for the way there, while brokers are"
        " given it one after the other.",
    ),
    _key(
        "raftlog.peer.advertise",
        "STRING",
        None,
        "The address that other brokers are told, when it differs from `raftlog.peer.listen`.",
        check=check_peer_advertised,
    ),
    _key(
        "raftlog.peers",
        "LIST",
        (),
        "The brokers that found the cluster, this one included: ID@HOST:PORT of their peer listeners,"
        " comma-separated. Empty: a cluster of one.",
        check=check_peers,
    ),
    _key(
        "raftlog.join",
        "LIST",
        (),
        "For a broker that is added to a cluster: ID@HOST:PORT of the peer listeners of brokers that are in"
        " it, comma-separated; not together with `raftlog.peers`.",
        check=check_peers,
    ),
    _key(
        "broker.session.timeout.ms",
        "INT",
        9_000,
        "How long the metadata leader does not hear of a broker before it is given nothing new. Leaderships"
        " do not wait for it.",
        minimum=1_000,
    ),
    _key(
        "log.dirs",
        "STRING",
        "./raftlog-data",
        "The data folder. Exactly one: put a RAID or a volume manager under it.",
        synonyms=(("log.dir", 1),),
        check=_check_one_dir,
    ),
    # TLS of listeners
    _key(
        "ssl.keystore.location",
        "STRING",
        None,
        "For listeners in TLS: a PEM file with a key and its certificates, the broker's own first. It is read"
        " again when it changes. It must be for the hosts that clients are told, and its key not for"
        " everybody to read.",
    ),
    _key(
        "ssl.keystore.type",
        "STRING",
        "PEM",
        "Only PEM; `openssl pkcs12 -nodes` makes it of another.",
        choices=("PEM",),
        ignored=True,
    ),
    _key("ssl.key.password", "PASSWORD", None, "What the key in ssl.keystore.location is encrypted with."),
    _key(
        "ssl.truststore.location",
        "STRING",
        None,
        "A PEM file with the certificates of those who issue clients' certificates. It is read again when it"
        " changes.",
    ),
    _key("ssl.truststore.type", "STRING", "PEM", "As ssl.keystore.type.", choices=("PEM",), ignored=True),
    _key(
        "ssl.client.auth",
        "STRING",
        "none",
        "Whether clients of listeners in TLS are asked for a certificate, and refused without one.",
        choices=("none", "requested", "required"),
    ),
    _key(
        "ssl.enabled.protocols",
        "LIST",
        ("TLSv1.2", "TLSv1.3"),
        "The versions of TLS that are served.",
        choices=("TLSv1.2", "TLSv1.3"),
        check=lambda value: None if value else "there must be at least one",
    ),
    # Connections and requests
    _key(
        "socket.request.max.bytes",
        "INT",
        104_857_600,
        "The largest request that is read; a larger one costs the client its connection.",
        minimum=1024,
    ),
    _key(
        "raftlog.memory.max.bytes",
        "LONG",
        268_435_456,
        "The most memory for clients' data. It has three parts, each at most a quarter: requests without an"
        " answer, batches of answered requests that logs hold in memory, and answers that clients do not"
        " read. When requests fill their quarter, clients with large requests wait. When batches fill theirs,"
        " Produce is refused with an error that clients repeat; before that, the leader drops from memory the"
        " committed batches that it holds for followers a little behind. A broker needs some 100 MB more"
        " with 1,000 partitions, and memory for what it holds as a follower.",
        minimum=16 << 20,
    ),
    _key(
        "connections.max.idle.ms",
        "LONG",
        600_000,
        "A client connection that is idle for longer is closed. -1: never.",
        minimum=-1,
    ),
    _key(
        "max.connections",
        "INT",
        10_000,
        "Client connections at once; more are closed as they come. Kafka's default is no bound.",
        minimum=1,
    ),
    _key(
        "max.connections.per.ip",
        "INT",
        INT_MAX,
        "Client connections at once from one address; more are closed as they come.",
        minimum=0,
    ),
    _key(
        "max.connections.per.ip.overrides",
        "LIST",
        (),
        "For single addresses another number than max.connections.per.ip: IP-ADDRESS:CONNECTIONS,"
        " comma-separated.",
        check=check_connections,
    ),
    _key("fetch.max.bytes", "INT", 57_671_680, "The most that one Fetch is answered with.", minimum=1024),
    # Topics
    _key(
        "auto.create.topics.enable",
        "BOOLEAN",
        True,
        "Whether a topic that a client asks for and may create is created.",
    ),
    _key("delete.topic.enable", "BOOLEAN", True, "Whether topics may be deleted."),
    _key(
        "num.partitions",
        "INT",
        1,
        "Partitions of a topic that is created without saying how many.",
        minimum=1,
        maximum=10_000,
    ),
    _key(
        "default.replication.factor",
        "INT",
        -1,
        "Replicas of a topic that is created without saying how many. -1: three, or one for each broker"
        " where there are fewer. Kafka's default is 1, which loses acknowledged records with one disk.",
        minimum=-1,
        maximum=15,
        check=lambda value: "it is -1 or at least 1" if value == 0 else None,
    ),
    # Logs: the defaults of topics
    _key(
        "log.segment.bytes",
        "INT",
        1_073_741_824,
        "A segment file is closed when it would grow beyond this.",
        minimum=1024,
    ),
    _key(
        "log.roll.ms",
        "LONG",
        None,
        "A segment is closed before a record that is this much later than its first, or when it is this old "
        "where its records have no time; wins over log.roll.hours.",
        minimum=1,
    ),
    _key("log.roll.hours", "INT", 168, "As log.roll.ms, in hours.", minimum=1),
    _key(
        "log.retention.ms",
        "LONG",
        None,
        "Closed segments whose newest record is older are deleted; -1: never. Wins over"
        " log.retention.minutes, which wins over log.retention.hours.",
        minimum=-1,
    ),
    _key("log.retention.minutes", "INT", None, "As log.retention.ms, in minutes.", minimum=-1),
    _key("log.retention.hours", "INT", 168, "As log.retention.ms, in hours.", minimum=-1),
    _key(
        "log.retention.bytes",
        "LONG",
        -1,
        "A partition's oldest closed segments are deleted while it is larger; -1: never.",
        minimum=-1,
    ),
    _key(
        "log.retention.check.interval.ms",
        "LONG",
        300_000,
        "How often segments are looked through for what is due to be closed or deleted.",
        minimum=1,
    ),
    _key(
        "log.cleanup.policy",
        "LIST",
        ("delete",),
        "What happens to old records: `delete`: they go by time or size; `compact`: the last value of each"
        " key stays; or both.",
        choices=("compact", "delete"),
        check=_check_policy,
    ),
    _key("log.cleaner.enable", "BOOLEAN", True, "Whether this broker compacts the logs that are to be."),
    _key(
        "log.cleaner.backoff.ms",
        "LONG",
        15_000,
        "How long the cleaner waits when no log is due to be compacted.",
        minimum=1,
    ),
    _key(
        "log.cleaner.dedupe.buffer.size",
        "LONG",
        134_217_728,
        "Memory of the cleaner's process for the keys of one pass: 162 bytes a key, so 800,000 of them. With"
        " more keys a pass ends early, and the next goes on.",
        minimum=1 << 20,
    ),
    _key(
        "log.cleaner.io.max.bytes.per.second",
        "DOUBLE",
        33_554_432.0,
        "What the cleaner reads and writes at most; 0: no limit, which is Kafka's default.",
        minimum=0,
    ),
    _key(
        "log.cleaner.delete.retention.ms",
        "LONG",
        DAY_MS,
        "How long a compacted log keeps a tombstone, and a transaction's marker, after what it ends is gone."
        " The broker's running time counts.",
        minimum=0,
    ),
    _key(
        "log.cleaner.min.cleanable.ratio",
        "DOUBLE",
        0.5,
        "A log is compacted when more than this part of its closed segments is new since the last pass.",
        minimum=0,
        maximum=1,
    ),
    _key(
        "log.cleaner.min.compaction.lag.ms",
        "LONG",
        0,
        "A segment with a record younger than this is not compacted.",
        minimum=0,
    ),
    _key(
        "log.cleaner.max.compaction.lag.ms",
        "LONG",
        LONG_MAX,
        "A log with a record older than this that was never compacted is, whatever the ratio says. A"
        " compacted topic's segments are closed after this time, too.",
        minimum=1,
    ),
    _key(
        "log.message.timestamp.type",
        "STRING",
        "CreateTime",
        "Whether a record's time is its producer's or that of its arrival.",
        choices=("CreateTime", "LogAppendTime"),
    ),
    _key(
        "log.message.timestamp.before.max.ms",
        "LONG",
        LONG_MAX,
        "How far in the past a producer's timestamp may lie.",
        minimum=0,
    ),
    _key(
        "log.message.timestamp.after.max.ms",
        "LONG",
        HOUR_MS,
        "How far in the future a producer's timestamp may lie.",
        minimum=0,
    ),
    _key(
        "message.max.bytes",
        "INT",
        1_048_588,
        "The largest record batch that is taken, as compressed by its producer.",
        minimum=0,
    ),
    _key(
        "compression.type",
        "STRING",
        "producer",
        "Batches are kept as their producer compressed them; only `producer` is served.",
        check=_check_compression,
    ),
    _key(
        "min.insync.replicas",
        "INT",
        1,
        "Every acknowledged record is on a majority of the replicas whatever this says; a value above the"
        " majority does not make it more.",
        minimum=1,
        ignored=True,
    ),
    _key(
        "unclean.leader.election.enable",
        "BOOLEAN",
        False,
        "Only false: a replica that lacks an acknowledged record cannot lead.",
        check=_check_only_false,
    ),
    # Groups and producers
    _key(
        "group.min.session.timeout.ms", "INT", 6_000, "The shortest session time-out of a member.", minimum=1
    ),
    _key(
        "group.max.session.timeout.ms",
        "INT",
        1_800_000,
        "The longest session time-out of a member.",
        minimum=1,
    ),
    _key(
        "group.initial.rebalance.delay.ms",
        "INT",
        0,
        "How long the first rebalance of an empty group waits for more members. Kafka waits 3000, which"
        " saves rebalances when many members start together and costs every test and tutorial three"
        " seconds; 0 starts at once.",
        minimum=0,
    ),
    _key("group.max.size", "INT", INT_MAX, "Members that a group may have.", minimum=1),
    _key(
        "offsets.retention.minutes",
        "INT",
        10_080,
        "A group's offsets are forgotten when it has had no members for this long.",
        minimum=1,
    ),
    _key(
        "offsets.retention.check.interval.ms",
        "LONG",
        600_000,
        "How often offsets are looked through for what is due to be forgotten.",
        minimum=1,
    ),
    _key(
        "offset.metadata.max.bytes",
        "INT",
        4096,
        "The longest text that may be committed with an offset.",
        minimum=0,
    ),
    _key(
        "producer.id.expiration.ms",
        "INT",
        DAY_MS,
        "A partition forgets an idempotent producer that has been silent for longer, and those silent "
        "longest beyond 20,000.",
        minimum=1,
    ),
    _key(
        "transaction.max.timeout.ms",
        "INT",
        900_000,
        "The longest time-out that a transactional producer may ask for: its transaction is aborted when it "
        "has been open for longer than its time-out.",
        minimum=1,
    ),
    _key(
        "transactional.id.expiration.ms",
        "INT",
        7 * DAY_MS,
        "A transactional id is forgotten when it has not been used for this long, outside of a transaction.",
        minimum=1,
    ),
    # raftlog's own
    _key(
        "raftlog.durability",
        "STRING",
        "fsync",
        "What an acknowledgement rests on: a majority of disks (fsync), or a majority of page caches (os),"
        " which is what Apache Kafka does.",
        choices=("fsync", "os"),
    ),
    _key(
        "raftlog.wal.file.bytes",
        "LONG",
        67_108_864,
        "The size of one file of the write-ahead log. A start after a crash replays at most about two.",
        minimum=1_048_576,
        maximum=INT_MAX,
    ),
    _key(
        "raftlog.scrub.interval.ms",
        "LONG",
        604_800_000,
        "How often everything that is stored is read again and held to its checksums; the first time soon"
        " after the start. What is damaged is repaired from another replica.",
        minimum=1000,
    ),
    _key(
        "raftlog.scrub.bytes.per.second",
        "LONG",
        16_777_216,
        "How fast that is done. 0: not at all.",
        minimum=0,
    ),
    _key(
        "raftlog.election.timeout.ms",
        "INT",
        500,
        "A replica that has not heard its leader for this long, or up to half as long again, asks for an"
        " election; at least four times raftlog.heartbeat.interval.ms.",
        minimum=50,
        maximum=600_000,
    ),
    _key(
        "raftlog.heartbeat.interval.ms",
        "INT",
        120,
        "How often a leader is heard when there is nothing to say.",
        minimum=5,
        maximum=60_000,
    ),
    # HTTP
    _key(
        "raftlog.http.listen",
        "STRING",
        "127.0.0.1:9644",
        "Where probes, metrics and the JSON API are served, HOST:PORT; empty: nowhere. Unless it is set, a"
        " port that is taken is only said in the log.",
        check=check_host_port,
    ),
    _key(
        "raftlog.http.hosts",
        "LIST",
        (),
        "Names by which browsers reach the HTTP port, beside localhost, this host's own, those of"
        " advertised.listeners and addresses: a request that names another is refused, since a page could"
        " have made its own name point here.",
    ),
    _key(
        "raftlog.http.token.file",
        "STRING",
        None,
        "A file with the token that lets its bearer do everything over HTTP. Without one only this machine"
        " may; others get probes and metrics.",
    ),
    _key(
        "raftlog.http.viewer.token.file",
        "STRING",
        None,
        "A file with a token that lets its bearer look at everything but records, and change nothing.",
    ),
    _key("raftlog.http.viewer.records", "BOOLEAN", False, "Whether that one sees records, too."),
    _key("raftlog.http.readonly", "BOOLEAN", False, "Whether nobody may change anything over HTTP."),
    _key(
        "raftlog.metrics.partitions.max",
        "INT",
        1000,
        "While a broker leads no more partitions than this, /metrics has figures of each.",
        minimum=0,
    ),
    _key(
        "raftlog.log.format",
        "STRING",
        "text",
        "Whether a line of the log is text or a JSON object.",
        choices=("text", "json"),
    ),
    _key(
        "raftlog.log.levels",
        "LIST",
        (),
        "How much single parts say, LOGGER:LEVEL, comma-separated, as in raftlog.raft:DEBUG. The parts"
        " are raftlog.broker, .cluster, .http, .peers, .raft, .storage and others; a level is DEBUG, INFO,"
        " WARNING or ERROR.",
        check=_check_levels,
    ),
    # Taken without effect
    _key("num.network.threads", "INT", 3, "One event loop serves the network.", ignored=True),
    _key("num.io.threads", "INT", 8, "One event loop serves the requests.", ignored=True),
    _key(
        "num.recovery.threads.per.data.dir",
        "INT",
        2,
        "Recovery reads the write-ahead log once.",
        ignored=True,
    ),
    _key("socket.send.buffer.bytes", "INT", 102_400, "The operating system sizes the buffers.", ignored=True),
    _key(
        "socket.receive.buffer.bytes", "INT", 102_400, "The operating system sizes the buffers.", ignored=True
    ),
    _key(
        "log.flush.interval.messages",
        "LONG",
        LONG_MAX,
        "Every write is durable before it is acknowledged: see raftlog.durability.",
        ignored=True,
    ),
    _key("log.flush.interval.ms", "LONG", None, "As log.flush.interval.messages.", ignored=True),
    _key("log.index.interval.bytes", "INT", 4096, "The index chooses its own spacing.", ignored=True),
    _key(
        "offsets.topic.replication.factor",
        "SHORT",
        3,
        "Offsets are in the metadata group, on every voter of it.",
        ignored=True,
    ),
    _key("offsets.topic.num.partitions", "INT", 50, "Offsets are in the metadata group.", ignored=True),
    _key(
        "transaction.state.log.replication.factor",
        "SHORT",
        3,
        "Transactions are in the metadata group.",
        ignored=True,
    ),
    _key("transaction.state.log.min.isr", "INT", 2, "Transactions are in the metadata group.", ignored=True),
]

BROKER_CONFIGS: Final[dict[str, ConfigKey]] = {key.name: key for key in _BROKER}

_PEERS: Final = "brokers talk to each other at raftlog.peer.listen, never by a Kafka listener: leave it out"
_NO_CONTROLLERS: Final = "every broker is a controller as well, and has no listener for it: leave it out"
KAFKAS_ALONE: Final = {
    "inter.broker.listener.name": _PEERS,
    "security.inter.broker.protocol": _PEERS,
    "control.plane.listener.name": _PEERS,
    "controller.listener.names": _NO_CONTROLLERS,
    "process.roles": _NO_CONTROLLERS,
    "controller.quorum.voters": "raftlog.peers names the brokers that found a cluster",
    "controller.quorum.bootstrap.servers": "raftlog.join names the brokers of the cluster to join",
    "zookeeper.connect": "no ZooKeeper is needed: leave it out",
    "advertised.host.name": "set advertised.listeners",
    "advertised.port": "set advertised.listeners",
}
"""Settings of Kafka that would promise something that is not kept, and what to do instead."""


def _topic(name: str, default: Value, *synonyms: str | tuple[str, int]) -> ConfigKey:
    """A topic key that takes type, range and meaning from the first of the broker keys that its
    default comes from."""
    pairs = tuple((item, 1) if isinstance(item, str) else item for item in synonyms)
    base = BROKER_CONFIGS[pairs[0][0]]
    return replace(base, name=name, scope="topic", default=default, synonyms=pairs)


def _ignored_topic(name: str, kind: str, default: Value, doc: str) -> ConfigKey:
    return _key(name, kind, default, doc, scope="topic", ignored=True)


_TOPIC: Final = [
    _topic("cleanup.policy", ("delete",), "log.cleanup.policy"),
    _topic("compression.type", "producer", "compression.type"),
    _topic("max.message.bytes", 1_048_588, "message.max.bytes"),
    _topic("message.timestamp.type", "CreateTime", "log.message.timestamp.type"),
    _topic("message.timestamp.before.max.ms", LONG_MAX, "log.message.timestamp.before.max.ms"),
    _topic("message.timestamp.after.max.ms", HOUR_MS, "log.message.timestamp.after.max.ms"),
    _topic("min.insync.replicas", 1, "min.insync.replicas"),
    _topic("retention.bytes", -1, "log.retention.bytes"),
    _topic(
        "retention.ms",
        7 * DAY_MS,
        "log.retention.ms",
        ("log.retention.minutes", 60_000),
        ("log.retention.hours", HOUR_MS),
    ),
    _topic("segment.bytes", 1_073_741_824, "log.segment.bytes"),
    _topic("segment.ms", 7 * DAY_MS, "log.roll.ms", ("log.roll.hours", HOUR_MS)),
    _topic("unclean.leader.election.enable", False, "unclean.leader.election.enable"),
    _topic("delete.retention.ms", DAY_MS, "log.cleaner.delete.retention.ms"),
    _topic("min.cleanable.dirty.ratio", 0.5, "log.cleaner.min.cleanable.ratio"),
    _topic("min.compaction.lag.ms", 0, "log.cleaner.min.compaction.lag.ms"),
    _topic("max.compaction.lag.ms", LONG_MAX, "log.cleaner.max.compaction.lag.ms"),
    _ignored_topic("file.delete.delay.ms", "LONG", 60_000, "Open files outlive their deletion."),
    _ignored_topic("flush.messages", "LONG", LONG_MAX, "Every write is durable before it is acknowledged."),
    _ignored_topic("flush.ms", "LONG", LONG_MAX, "Every write is durable before it is acknowledged."),
    _ignored_topic("index.interval.bytes", "INT", 4096, "The index chooses its own spacing."),
    _ignored_topic("preallocate", "BOOLEAN", False, "The write-ahead log is preallocated, segments are not."),
    _ignored_topic("segment.index.bytes", "INT", 10_485_760, "The index is as large as it needs to be."),
    _ignored_topic("segment.jitter.ms", "LONG", 0, "Closing a segment costs nothing worth spreading."),
]

TOPIC_CONFIGS: Final[dict[str, ConfigKey]] = {key.name: key for key in _TOPIC}
