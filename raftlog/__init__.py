"""A Kafka-compatible event log, and a client for it on Trio.

    import raftlog

    async with raftlog.open_client("localhost:9092") as client:
        await client.admin.create_topic("orders", partitions=3)
        async with client.producer() as producer:
            record = await producer.send("orders", b"one apple", key=b"alice")
        async with client.consumer("orders", group="billing", auto_offset_reset="earliest") as consumer:
            async for record in consumer:
                print(record.offset, record.value)

It works against any broker that speaks Kafka's protocol. Everything that is made from a client lives in an
`async with`, and nothing outlives it. Where to look, with `help(raftlog.Producer)` and so on:

    open_client, from_properties   give a Client
    Client                         gives producers, consumers, and `admin`
    Producer                       send, send_soon, flush, transaction
    Consumer                       async for, batches, poll; commit, seek, pause, lag
    exactly_once                   consume, transform, produce in transactions
    Admin                          topics, settings, groups, offsets
    ClientSettings, ProducerSettings, ConsumerSettings   what each keyword means
    ClientError                    what the client raises; BrokerError is a broker's answer
    raftlog.testing                brokers and clusters inside tests

Nothing is imported before it is used, so `import raftlog` costs next to nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from raftlog.client.accumulator import (
        ProducerStatistics,
    )
    from raftlog.client.admin import (
        Admin,
    )
    from raftlog.client.admin_values import (
        ClusterDescription,
        ConfigEntry,
        GroupDescription,
        GroupListing,
        GroupMember,
        NewTopic,
    )
    from raftlog.client.client import (
        Client,
        ClientStatistics,
        from_properties,
        open_client,
    )
    from raftlog.client.commits import (
        GroupMetadata,
    )
    from raftlog.client.connection import (
        ConnectionStatistics,
    )
    from raftlog.client.consumer import (
        Batches,
        Consumer,
        ConsumerStatistics,
        RebalanceListener,
    )
    from raftlog.client.delivery import (
        Delivery,
        RecordMetadata,
    )
    from raftlog.client.errors import (
        AuthenticationFailed,
        BrokerError,
        ClientError,
        Closed,
        CommitUnknown,
        DeliveryError,
        DeserializationError,
        Disconnected,
        FencedInstance,
        GroupNotEmpty,
        InvalidTopic,
        NoOffset,
        NotAssigned,
        NotAuthorized,
        NotOnTrio,
        NoTransaction,
        NotSupported,
        OffsetMismatch,
        OffsetOutOfRange,
        ProducerFailed,
        ProducerFenced,
        RebalanceNeeded,
        RecordTooLarge,
        RequestTimedOut,
        TopicExists,
        TransactionAborted,
        UnknownGroup,
        UnknownTopic,
        UnsupportedVersion,
    )
    from raftlog.client.exactly_once import (
        ExactlyOnce,
        exactly_once,
    )
    from raftlog.client.metadata import (
        Broker,
        PartitionView,
        TopicPartition,
        TopicView,
    )
    from raftlog.client.offsets import (
        CommittedOffset,
        OffsetAndTimestamp,
    )
    from raftlog.client.operations import (
        BrokerReport,
        BrokerState,
        Move,
        Operations,
    )
    from raftlog.client.producer import (
        Producer,
    )
    from raftlog.client.record import (
        Record,
    )
    from raftlog.client.settings import (
        ClientSettings,
        ConsumerSettings,
        ProducerSettings,
    )
    from raftlog.client.transactional import (
        Transaction,
    )
    from raftlog.errors import (
        ConfigError,
        RaftlogError,
    )

__all__ = [
    "Admin",
    "AuthenticationFailed",
    "Batches",
    "Broker",
    "BrokerError",
    "BrokerReport",
    "BrokerState",
    "Client",
    "ClientError",
    "ClientSettings",
    "ClientStatistics",
    "Closed",
    "ClusterDescription",
    "CommitUnknown",
    "CommittedOffset",
    "ConfigEntry",
    "ConfigError",
    "ConnectionStatistics",
    "Consumer",
    "ConsumerSettings",
    "ConsumerStatistics",
    "Delivery",
    "DeliveryError",
    "DeserializationError",
    "Disconnected",
    "ExactlyOnce",
    "FencedInstance",
    "GroupDescription",
    "GroupListing",
    "GroupMember",
    "GroupMetadata",
    "GroupNotEmpty",
    "InvalidTopic",
    "Move",
    "NewTopic",
    "NoOffset",
    "NoTransaction",
    "NotAssigned",
    "NotAuthorized",
    "NotOnTrio",
    "NotSupported",
    "OffsetAndTimestamp",
    "OffsetMismatch",
    "OffsetOutOfRange",
    "Operations",
    "PartitionView",
    "Producer",
    "ProducerFailed",
    "ProducerFenced",
    "ProducerSettings",
    "ProducerStatistics",
    "RaftlogError",
    "RebalanceListener",
    "RebalanceNeeded",
    "Record",
    "RecordMetadata",
    "RecordTooLarge",
    "RequestTimedOut",
    "TopicExists",
    "TopicPartition",
    "TopicView",
    "Transaction",
    "TransactionAborted",
    "UnknownGroup",
    "UnknownTopic",
    "UnsupportedVersion",
    "exactly_once",
    "from_properties",
    "open_client",
]

_HOMES = {
    "raftlog.client.accumulator": ("ProducerStatistics",),
    "raftlog.client.admin": ("Admin",),
    "raftlog.client.admin_values": (
        "ClusterDescription",
        "ConfigEntry",
        "GroupDescription",
        "GroupListing",
        "GroupMember",
        "NewTopic",
    ),
    "raftlog.client.client": (
        "Client",
        "ClientStatistics",
        "from_properties",
        "open_client",
    ),
    "raftlog.client.commits": ("GroupMetadata",),
    "raftlog.client.connection": ("ConnectionStatistics",),
    "raftlog.client.consumer": (
        "Batches",
        "Consumer",
        "ConsumerStatistics",
        "RebalanceListener",
    ),
    "raftlog.client.delivery": (
        "Delivery",
        "RecordMetadata",
    ),
    "raftlog.client.errors": (
        "AuthenticationFailed",
        "BrokerError",
        "ClientError",
        "Closed",
        "CommitUnknown",
        "DeliveryError",
        "DeserializationError",
        "Disconnected",
        "FencedInstance",
        "GroupNotEmpty",
        "InvalidTopic",
        "NoOffset",
        "NoTransaction",
        "NotAssigned",
        "NotAuthorized",
        "NotOnTrio",
        "NotSupported",
        "OffsetMismatch",
        "OffsetOutOfRange",
        "ProducerFailed",
        "ProducerFenced",
        "RebalanceNeeded",
        "RecordTooLarge",
        "RequestTimedOut",
        "TopicExists",
        "TransactionAborted",
        "UnknownGroup",
        "UnknownTopic",
        "UnsupportedVersion",
    ),
    "raftlog.client.exactly_once": (
        "ExactlyOnce",
        "exactly_once",
    ),
    "raftlog.client.metadata": (
        "Broker",
        "PartitionView",
        "TopicPartition",
        "TopicView",
    ),
    "raftlog.client.offsets": (
        "CommittedOffset",
        "OffsetAndTimestamp",
    ),
    "raftlog.client.operations": (
        "BrokerReport",
        "BrokerState",
        "Move",
        "Operations",
    ),
    "raftlog.client.producer": ("Producer",),
    "raftlog.client.record": ("Record",),
    "raftlog.client.settings": (
        "ClientSettings",
        "ConsumerSettings",
        "ProducerSettings",
    ),
    "raftlog.client.transactional": ("Transaction",),
    "raftlog.errors": (
        "ConfigError",
        "RaftlogError",
    ),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> Any:
    home = _HOME_OF.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(home), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
