"""Settings of Kafka that raftlog has no use for: taken without effect, or refused with what to do instead."""

from __future__ import annotations

from typing import Final

from raftlog.config.keys import LONG_MAX, ConfigKey, key

TAKEN: Final[list[ConfigKey]] = [
    key("num.network.threads", "INT", 3, "One event loop serves the network.", ignored=True),
    key("num.io.threads", "INT", 8, "One event loop serves the requests.", ignored=True),
    key(
        "num.recovery.threads.per.data.dir",
        "INT",
        2,
        "Recovery reads the write-ahead log once.",
        ignored=True,
    ),
    key("socket.send.buffer.bytes", "INT", 102_400, "The operating system sizes the buffers.", ignored=True),
    key(
        "socket.receive.buffer.bytes", "INT", 102_400, "The operating system sizes the buffers.", ignored=True
    ),
    key(
        "log.flush.interval.messages",
        "LONG",
        LONG_MAX,
        "Every write is durable before it is acknowledged: see raftlog.durability.",
        ignored=True,
    ),
    key("log.flush.interval.ms", "LONG", None, "As log.flush.interval.messages.", ignored=True),
    key("log.index.interval.bytes", "INT", 4096, "The index chooses its own spacing.", ignored=True),
    key(
        "offsets.topic.replication.factor",
        "SHORT",
        3,
        "Offsets are in the metadata group, on every voter of it.",
        ignored=True,
    ),
    key("offsets.topic.num.partitions", "INT", 50, "Offsets are in the metadata group.", ignored=True),
    key(
        "transaction.state.log.replication.factor",
        "SHORT",
        3,
        "Transactions are in the metadata group.",
        ignored=True,
    ),
    key("transaction.state.log.min.isr", "INT", 2, "Transactions are in the metadata group.", ignored=True),
]

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
