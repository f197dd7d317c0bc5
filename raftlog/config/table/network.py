"""Settings of who a broker is, where it is reached, and how many may come."""

from __future__ import annotations

from typing import Final

from raftlog.config.addresses import (
    check_advertised,
    check_cluster_id,
    check_connections,
    check_host_port,
    check_listeners,
    check_peer_advertised,
    check_peers,
    check_protocols,
)
from raftlog.config.keys import INT_MAX, ConfigKey, Value, key


def _check_one_dir(value: Value) -> str | None:
    assert isinstance(value, str)
    return "exactly one data folder is served" if not value or "," in value else None


IDENTITY: Final[list[ConfigKey]] = [
    key("node.id", "INT", 1, "This broker's number in the cluster.", minimum=0, synonyms=(("broker.id", 1),)),
    key("broker.rack", "STRING", None, "The broker's rack or zone; replicas are spread over racks."),
    key(
        "listeners",
        "LIST",
        ("PLAINTEXT://127.0.0.1:9092",),
        "Where Kafka clients are served: NAME://HOST:PORT, comma-separated, as in"
        " INTERNAL://10.0.0.5:9092,EXTERNAL://:9094. An empty host is every interface. Clients are told the"
        " addresses of the listener that they came by; of a broker that has none of that name, the first."
        " Several take a cluster whose every broker knows them.",
        check=check_listeners,
    ),
    key(
        "listener.security.protocol.map",
        "LIST",
        ("PLAINTEXT:PLAINTEXT", "SSL:SSL", "SASL_PLAINTEXT:SASL_PLAINTEXT", "SASL_SSL:SASL_SSL"),
        "The security protocol of each listener by its name, NAME:PROTOCOL, comma-separated: PLAINTEXT,"
        " SSL, SASL_PLAINTEXT or SASL_SSL.",
        check=check_protocols,
    ),
    key(
        "advertised.listeners",
        "LIST",
        None,
        "The addresses that clients are told, when they differ from `listeners`: one for each of them, by its"
        " name.",
        check=check_advertised,
    ),
    key(
        "raftlog.peer.listen",
        "STRING",
        "127.0.0.1:9192",
        "Where other brokers are served, HOST:PORT. Without raftlog.peer.secret.file whoever reaches it and"
        " knows the cluster id is taken for one of them.",
        check=check_host_port,
    ),
    key(
        "raftlog.peer.secret.file",
        "STRING",
        None,
        "A file with the secret of the cluster, which every broker has: 32 random bytes in base64, for nobody"
        " but its owner to read. Brokers are then connected in TLS, and only with those that have it. Of"
        " several lines the first is used and all are trusted.",
    ),
    key(
        "raftlog.peer.secret.required",
        "BOOLEAN",
        True,
        "Whether brokers with a secret refuse those without. False is for the way there, while brokers are"
        " given it one after the other.",
    ),
    key(
        "raftlog.peer.advertise",
        "STRING",
        None,
        "The address that other brokers are told, when it differs from `raftlog.peer.listen`.",
        check=check_peer_advertised,
    ),
    key("raftlog.cluster.id", "STRING", None, "Id of a cluster that is founded.", check=check_cluster_id),
    key(
        "raftlog.peers",
        "LIST",
        (),
        "The brokers that found the cluster, this one included: ID@HOST:PORT of their peer listeners,"
        " comma-separated. Empty: a cluster of one.",
        check=check_peers,
    ),
    key(
        "raftlog.join",
        "LIST",
        (),
        "For a broker that is added to a cluster: ID@HOST:PORT of the peer listeners of brokers that are in"
        " it, comma-separated; not together with `raftlog.peers`.",
        check=check_peers,
    ),
    key(
        "broker.session.timeout.ms",
        "INT",
        9_000,
        "How long the metadata leader does not hear of a broker before it is given nothing new. Leaderships"
        " do not wait for it.",
        minimum=1_000,
    ),
    key(
        "log.dirs",
        "STRING",
        "./raftlog-data",
        "The data folder. Exactly one: put a RAID or a volume manager under it.",
        synonyms=(("log.dir", 1),),
        check=_check_one_dir,
    ),
]

CONNECTIONS: Final[list[ConfigKey]] = [
    key(
        "socket.request.max.bytes",
        "INT",
        104_857_600,
        "The largest request that is read; a larger one costs the client its connection.",
        minimum=1024,
    ),
    key(
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
    key(
        "connections.max.idle.ms",
        "LONG",
        600_000,
        "A client connection that is idle for longer is closed. -1: never.",
        minimum=-1,
    ),
    key(
        "max.connections",
        "INT",
        10_000,
        "Client connections at once; more are closed as they come. Kafka's default is no bound.",
        minimum=1,
    ),
    key(
        "max.connections.per.ip",
        "INT",
        INT_MAX,
        "Client connections at once from one address; more are closed as they come.",
        minimum=0,
    ),
    key(
        "max.connections.per.ip.overrides",
        "LIST",
        (),
        "For single addresses another number than max.connections.per.ip: IP-ADDRESS:CONNECTIONS,"
        " comma-separated.",
        check=check_connections,
    ),
    key(
        "max.connection.creation.rate",
        "INT",
        INT_MAX,
        "Client connections that may come in a second; more wait up to 10 s before they are served, and are"
        " closed as they come beyond that. For one address see the quota connection_creation_rate.",
        minimum=1,
    ),
    key("fetch.max.bytes", "INT", 57_671_680, "The most that one Fetch is answered with.", minimum=1024),
]
