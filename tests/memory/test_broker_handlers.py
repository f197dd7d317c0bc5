"""Every API in every version that is served, through a listener, against a fake node."""

from __future__ import annotations

import gc
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from raftlog.broker import routing
from raftlog.broker import speakers as speakers_module
from raftlog.broker.call import Call
from raftlog.broker.handlers import describe_producers
from raftlog.broker.handlers import fetch as handlers_fetch
from raftlog.broker.handlers.sasl_handshake import NO_LOGIN
from raftlog.broker.origin import Origin
from raftlog.broker.outbox import Slot
from raftlog.broker.registry import Api, served
from raftlog.broker.speakers import Speakers
from raftlog.broker.traffic import Traffic
from raftlog.metadata.catalog import METADATA_LEVEL, Topic
from raftlog.metadata.transaction_steps import completed
from raftlog.metadata.transaction_table import TransactionalId, TransactionState
from raftlog.metadata.users import USERS_LEVEL
from raftlog.partition.markers import BY_HAND, Marker
from raftlog.partition.values import PartitionError
from raftlog.protocol.api import VERSIONS, ApiKey
from raftlog.protocol.codec import RequestHeader, decode_request_header, decode_response, encode_request
from raftlog.protocol.schema import Struct, message_struct
from raftlog.records.record import NewRecord, decode_batch, encode_batch
from raftlog.rights import Operation
from raftlog.types import BrokerId
from tests.memory.broker_fakes import OTHER, FakeNode, Peer, Served


@pytest.fixture
async def broker(nursery: trio.Nursery) -> AsyncIterator[Served]:
    node = FakeNode()
    node.add_topic("t", 2)
    served = Served(node, nursery)
    yield served
    await served.aclose()


@pytest.fixture
async def peer(broker: Served) -> Peer:
    return await broker.connect()


def batch(*values: bytes) -> bytes:
    return bytes(encode_batch([NewRecord(1000, None, value, ()) for value in values]))


def topic_id(node: FakeNode, name: str = "t") -> bytes:
    return node.catalog.topics[name].topic_id


def produce(
    records: bytes | None,
    *,
    acks: int = -1,
    topic: str = "t",
    partition: int = 0,
    id_: bytes = bytes(16),
) -> dict[str, Any]:
    written = [{"index": partition, "records": records}]
    return {
        "acks": acks,
        "timeout": 30_000,
        "topic_data": [{"name": topic, "topic_id": id_, "partition_data": written}],
    }


def fetch(*wanted: tuple[int, int], name: str = "t", id_: bytes = bytes(16), **more: Any) -> dict[str, Any]:
    return {
        "max_wait": 0,
        "min_bytes": 1,
        "max_bytes": 1 << 20,
        "topics": [
            {
                "topic": name,
                "topic_id": id_,
                "partitions": [
                    {"partition": index, "fetch_offset": offset, "partition_max_bytes": 1 << 20}
                    for index, offset in wanted
                ],
            }
        ],
        "forgotten_topics_data": [],
        **more,
    }


ONE_ACL = {
    "resource_type": 2,
    "resource_name": "t",
    "resource_pattern_type": 3,
    "principal": "User:somebody",
    "host": "*",
    "operation": 3,
    "permission_type": 3,
}
IN_TRANSACTION = {"transactional_id": "tx", "producer_id": 7, "producer_epoch": 0}
UPSERT = {
    "name": "alice",
    "mechanism": 2,
    "iterations": 4096,
    "salt": bytes(16),
    "salted_password": bytes(64),
}
ANY_ACL = {
    "resource_type_filter": 2,
    "resource_name_filter": None,
    "pattern_type_filter": 3,
    "principal_filter": None,
    "host_filter": None,
    "operation": 1,
    "permission_type": 1,
}


def hanging(**changed: object) -> dict[str, Any]:
    """An abort of what a partition says is open."""
    topics = [{"name": "t", "partition_indexes": [0, 99]}]
    said = {"producer_id": 7, "producer_epoch": 0, "transaction_result": False, "coordinator_epoch": 2}
    return {"topics": topics, **said, **changed}


def superset_request(node: FakeNode, api: ApiKey) -> dict[str, Any]:
    """A request that does something, in the fields of all versions."""
    id_ = topic_id(node)
    requests: dict[ApiKey, dict[str, Any]] = {
        ApiKey.PRODUCE: produce(batch(b"a", b"b"), id_=id_),
        ApiKey.FETCH: fetch((0, 0), id_=id_),
        ApiKey.LIST_OFFSETS: {
            "replica_id": -1,
            "isolation_level": 0,
            "timeout": 1000,
            "topics": [
                {"name": "t", "partitions": [{"partition_index": 0, "timestamp": t} for t in (-1, -2, -5)]}
            ],
        },
        ApiKey.METADATA: {
            "topics": [{"name": "t", "topic_id": bytes(16)}, {"name": "new", "topic_id": bytes(16)}],
            "allow_auto_topic_creation": True,
            "include_cluster_authorized_operations": False,
            "include_topic_authorized_operations": False,
        },
        ApiKey.OFFSET_COMMIT: {
            "group_id": "g",
            "generation_id_or_member_epoch": -1,
            "member_id": "",
            "topics": [
                {
                    "name": "t",
                    "partitions": [
                        {"partition_index": 0, "committed_offset": 7, "committed_metadata": "x"},
                        {"partition_index": 9, "committed_offset": 7, "committed_metadata": "x"},
                        {"partition_index": 1, "committed_offset": 7, "committed_metadata": "x" * 9999},
                    ],
                }
            ],
        },
        ApiKey.OFFSET_FETCH: {
            "group_id": "g",
            "topics": [{"name": "t", "partition_indexes": [0, 1]}],
            "groups": [{"group_id": "g", "topics": [{"name": "t", "partition_indexes": [0, 1]}]}],
        },
        ApiKey.FIND_COORDINATOR: {"key": "g", "key_type": 0, "coordinator_keys": ["g", "h"]},
        ApiKey.JOIN_GROUP: {
            "group_id": "g",
            "session_timeout": 10_000,
            "rebalance_timeout": 10_000,
            "member_id": "",
            "protocol_type": "consumer",
            "protocols": [{"name": "range", "metadata": b"m"}],
        },
        ApiKey.HEARTBEAT: {"group_id": "g", "generation_id": 1, "member_id": "nobody"},
        ApiKey.LEAVE_GROUP: {"group_id": "g", "member_id": "nobody", "members": [{"member_id": "nobody"}]},
        ApiKey.SYNC_GROUP: {
            "group_id": "g",
            "generation_id": 1,
            "member_id": "nobody",
            "protocol_type": "consumer",
            "protocol_name": "range",
            "assignments": [],
        },
        ApiKey.DESCRIBE_GROUPS: {"groups": ["g", "none"], "include_authorized_operations": False},
        ApiKey.LIST_GROUPS: {},
        ApiKey.SASL_HANDSHAKE: {"mechanism": "PLAIN"},
        ApiKey.SASL_AUTHENTICATE: {"auth_bytes": b"\0user\0password"},
        ApiKey.DESCRIBE_USER_SCRAM_CREDENTIALS: {"users": [{"name": "alice"}]},
        ApiKey.ALTER_USER_SCRAM_CREDENTIALS: {
            "deletions": [{"name": "bob", "mechanism": 1}],
            "upsertions": [UPSERT],
        },
        ApiKey.DESCRIBE_ACLS: ANY_ACL,
        ApiKey.CREATE_ACLS: {"creations": [ONE_ACL, ONE_ACL]},
        ApiKey.DELETE_ACLS: {"filters": [ANY_ACL]},
        ApiKey.API_VERSIONS: {"client_software_name": "test", "client_software_version": "1.0"},
        ApiKey.CREATE_TOPICS: {
            "topics": [
                {
                    "name": "made",
                    "num_partitions": 2,
                    "replication_factor": 1,
                    "assignments": [],
                    "configs": [{"name": "retention.ms", "value": "1000"}],
                }
            ],
            "validate_only": False,
        },
        ApiKey.DELETE_TOPICS: {
            "topics": [{"name": None, "topic_id": id_}],
            "topic_names": ["t"],
            "timeout": 1000,
        },
        ApiKey.DELETE_RECORDS: {
            "topics": [{"name": "t", "partitions": [{"partition_index": 0, "offset": -1}]}],
            "timeout": 1000,
        },
        ApiKey.INIT_PRODUCER_ID: {
            "transactional_id": None,
            "transaction_timeout": 1000,
            "producer_id": -1,
            "producer_epoch": -1,
        },
        ApiKey.ADD_PARTITIONS_TO_TXN: {
            "v3_and_below_transactional_id": "tx",
            "v3_and_below_producer_id": 7,
            "v3_and_below_producer_epoch": 0,
            "v3_and_below_topics": [{"name": "t", "partitions": [0, 1]}],
        },
        ApiKey.ADD_OFFSETS_TO_TXN: {**IN_TRANSACTION, "group_id": "g"},
        ApiKey.END_TXN: {**IN_TRANSACTION, "committed": True},
        ApiKey.TXN_OFFSET_COMMIT: {
            **IN_TRANSACTION,
            "group_id": "g",
            "topics": [
                {
                    "name": "t",
                    "partitions": [{"partition_index": 0, "committed_offset": 7, "committed_metadata": "x"}],
                }
            ],
        },
        ApiKey.WRITE_TXN_MARKERS: {"markers": [hanging()]},
        ApiKey.UPDATE_FEATURES: {
            "feature_updates": [
                {
                    "feature": "transaction.version",
                    "max_version_level": 2,
                    "allow_downgrade": False,
                    "upgrade_type": 1,
                }
            ],
            "validate_only": False,
        },
        ApiKey.DESCRIBE_TRANSACTIONS: {"transactional_ids": ["tx", "none"]},
        ApiKey.LIST_TRANSACTIONS: {"state_filters": ["Ongoing", "None"], "producer_id_filters": []},
        ApiKey.DESCRIBE_PRODUCERS: {"topics": [{"name": "t", "partition_indexes": [0, 99]}]},
        ApiKey.OFFSET_FOR_LEADER_EPOCH: {
            "topics": [{"topic": "t", "partitions": [{"partition": 0, "leader_epoch": 3}]}]
        },
        ApiKey.DESCRIBE_CONFIGS: {
            "resources": [
                {"resource_type": 2, "resource_name": "t", "configuration_keys": None},
                {"resource_type": 4, "resource_name": "1", "configuration_keys": ["node.id"]},
                {"resource_type": 99, "resource_name": "x", "configuration_keys": None},
            ],
            "include_synonyms": True,
            "include_documentation": True,
        },
        ApiKey.ALTER_CONFIGS: {
            "resources": [
                {
                    "resource_type": 2,
                    "resource_name": "t",
                    "configs": [{"name": "retention.ms", "value": "5"}],
                }
            ],
            "validate_only": False,
        },
        ApiKey.CREATE_PARTITIONS: {
            "topics": [{"name": "t", "count": 5, "assignments": None}],
            "timeout": 1000,
            "validate_only": False,
        },
        ApiKey.DELETE_GROUPS: {"groups_names": ["none"]},
        ApiKey.DESCRIBE_LOG_DIRS: {"topics": None},
        ApiKey.ELECT_LEADERS: {
            "election_type": 0,
            "topic_partitions": [{"topic": "t", "partitions": [0, 99]}],
            "timeout": 1000,
        },
        ApiKey.ALTER_PARTITION_REASSIGNMENTS: {
            "topics": [
                {
                    "name": "t",
                    "partitions": [
                        {"partition_index": 0, "replicas": [1]},
                        {"partition_index": 0, "replicas": None},
                        {"partition_index": 0, "replicas": [7, 8]},
                    ],
                }
            ],
            "timeout": 1000,
        },
        ApiKey.LIST_PARTITION_REASSIGNMENTS: {"topics": None, "timeout": 1000},
        ApiKey.UNREGISTER_BROKER: {"broker_id": 77},
        ApiKey.DESCRIBE_CLIENT_QUOTAS: {
            "components": [{"entity_type": "user", "match_type": 0, "match": "u"}],
            "strict": False,
        },
        ApiKey.ALTER_CLIENT_QUOTAS: {
            "entries": [
                {
                    "entity": [{"entity_type": "user", "entity_name": "u"}],
                    "ops": [{"key": "producer_byte_rate", "value": 1e6, "remove": False}],
                }
            ],
            "validate_only": False,
        },
        ApiKey.INCREMENTAL_ALTER_CONFIGS: {
            "resources": [
                {
                    "resource_type": 4,
                    "resource_name": "4",
                    "configs": [
                        {"name": "raftlog.peer.advertise", "config_operation": 0, "value": "h:1"},
                        {"name": "raftlog.draining", "config_operation": 0, "value": "true"},
                    ],
                },
                {
                    "resource_type": 2,
                    "resource_name": "t",
                    "configs": [{"name": "retention.ms", "config_operation": 0, "value": "5"}],
                },
            ],
            "validate_only": False,
        },
        ApiKey.OFFSET_DELETE: {
            "group_id": "none",
            "topics": [{"name": "t", "partitions": [{"partition_index": 0}]}],
        },
        ApiKey.DESCRIBE_QUORUM: {
            "topics": [
                {"topic_name": "__cluster_metadata", "partitions": [{"partition_index": i} for i in (0, 1)]}
            ]
        },
        ApiKey.DESCRIBE_CLUSTER: {
            "include_cluster_authorized_operations": False,
            "include_fenced_brokers": False,
        },
    }
    return requests[api]


@pytest.mark.parametrize("api", list(served()), ids=lambda api: api.key.name)
async def test_every_served_version_is_answered(broker: Served, api: Api) -> None:
    for version in range(max(api.first, VERSIONS[api.key].first), api.last + 1):
        if "t" not in broker.node.catalog.topics:
            broker.node.add_topic("t", 2)
        peer = await broker.connect()
        request = superset_request(broker.node, api.key)
        if api.key is ApiKey.JOIN_GROUP:  # who joined before would have to join again
            request["group_id"] = f"group of version {version}"
        with trio.fail_after(30):  # the first of a version loads its schema, on a machine that may be busy
            assert await peer.ask(api.key, version, **request) is not None


ROWS = 19_900
"""What a request may have (`guard.ELEMENTS_MAX`); of plain numbers four times as many."""


def a_long_request(api: ApiKey) -> dict[str, Any]:
    match api:
        case ApiKey.METADATA:
            topics = [{"name": f"absent-{number}", "topic_id": bytes(16)} for number in range(ROWS)]
            return {
                "topics": topics,
                "allow_auto_topic_creation": False,
                "include_topic_authorized_operations": False,
            }
        case ApiKey.OFFSET_COMMIT:
            offset = {"committed_offset": 1, "committed_leader_epoch": -1, "committed_metadata": None}
            rows = [{"partition_index": number, **offset} for number in range(ROWS)]
            return {
                "group_id": "g",
                "member_id": "",
                "group_instance_id": None,
                "generation_id_or_member_epoch": -1,
                "topics": [{"name": "t", "partitions": rows}],
            }
        case ApiKey.OFFSET_FETCH:
            return {"group_id": "g", "topics": [{"name": "t", "partition_indexes": range(4 * ROWS)}]}
        case _:
            rows = [{"partition_index": number, "timestamp": -1} for number in range(ROWS)]
            return {"replica_id": -1, "isolation_level": 0, "topics": [{"name": "t", "partitions": rows}]}


@pytest.mark.parametrize(
    ("api", "version"),
    [
        (ApiKey.METADATA, 12),
        (ApiKey.OFFSET_COMMIT, 8),
        (ApiKey.OFFSET_FETCH, 7),
        (ApiKey.LIST_OFFSETS, 7),
    ],
    ids=lambda value: getattr(value, "name", str(value)),
)
async def test_a_request_of_very_many_rows_holds_nobody_up(broker: Served, api: ApiKey, version: int) -> None:
    """Each took 30 to 250 ms of the loop at once: mostly to encode the answer."""
    peer = await broker.connect()
    await peer.ask(api, version, **{**a_long_request(api), "topics": []})  # loads what it takes
    request = b"".join(encode_request(api, version, 1, "me", a_long_request(api)))
    stretches = [0.0]

    async def watch() -> None:
        since = time.thread_time()
        while True:
            await trio.lowlevel.checkpoint()
            stretches.append(time.thread_time() - since)
            since = time.thread_time()

    gc.disable()  # a look at all that tests have made takes as long
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(watch)
            await peer.stream.send_all(request)
            assert len(await peer.frame()) > 5 * ROWS
            nursery.cancel_scope.cancel()
    finally:
        gc.enable()
    assert max(stretches) < 0.05, sorted(stretches)[-5:]


class _Recorded(Exception):
    def __init__(self, fields: Any) -> None:
        self.fields = fields


class _RecordingCall(Call):
    """Keeps what a handler answers instead of encoding it."""

    fields: Any = None

    def reply(self, fields: Any) -> None:
        self.fields = fields

    def reply_chunks(self, chunks: Any) -> None:
        self.fields = {}


@pytest.mark.parametrize("api", list(served()), ids=lambda api: api.key.name)
async def test_answers_name_only_fields_that_some_version_has(broker: Served, api: Api) -> None:
    """A name that is misspelt would silently be left out by the encoder."""
    node: Any = broker.node
    frame = bytearray(
        b"".join(encode_request(api.key, api.last, 1, "me", superset_request(node, api.key)))[4:]
    )
    header: RequestHeader = decode_request_header(frame)
    nothing: Any = None
    call = _RecordingCall(
        node.backend, api.key, header, Origin("here", "INTERNAL"), nothing, Slot(0), Traffic(), nothing
    )
    answer = api.handle(call, api.decode(frame, header))
    if answer is not None and not isinstance(answer, dict):
        answer = await answer
    fields = call.fields if answer is None else answer
    versions = VERSIONS[api.key]
    layouts = [message_struct(api.key, v, "response") for v in range(versions.first, versions.last + 1)]
    assert unknown_names(fields, layouts) == []


def unknown_names(value: Any, layouts: list[Struct]) -> list[str]:
    fields = [field for layout in layouts for field in (*layout.fields, *layout.tagged.values())]
    known = {field.name for field in fields}
    wrong = [name for name in value if name not in known]
    for name, inner in value.items():
        nested = [field.struct for field in fields if field.name == name and field.struct is not None]
        for one in inner if isinstance(inner, list | tuple) else [inner]:
            if isinstance(one, dict):
                wrong += unknown_names(one, nested)
    return wrong


async def test_unknown_names_are_found() -> None:
    layouts = [message_struct(ApiKey.METADATA, 12, "response")]
    assert unknown_names({"topics": [{"nmae": "x"}], "clusterid": 1}, layouts) == ["clusterid", "nmae"]


# ApiVersions


async def test_api_versions_lists_exactly_what_is_served(peer: Peer) -> None:
    answer = await peer.ask(ApiKey.API_VERSIONS, 0)
    listed = {(each.api_key, each.min_version, each.max_version) for each in answer.api_keys}
    assert listed == {(api.key, api.first, api.last) for api in served()}


@pytest.mark.parametrize("version", [5, 99, 32767])
async def test_api_versions_of_the_future_get_version_0_with_the_range(peer: Peer, version: int) -> None:
    body = b"\x05test\x041.0\0"
    request = ApiKey.API_VERSIONS.to_bytes(2, "big") + version.to_bytes(2, "big") + b"\0\0\0\x09\xff\xff\0"
    await peer.stream.send_all((len(request + body)).to_bytes(4, "big") + request + body)
    correlation_id, answer = decode_response(ApiKey.API_VERSIONS, 0, await peer.frame())
    assert (correlation_id, answer.error_code) == (9, 35)
    assert [tuple(vars_of(each)) for each in answer.api_keys] == [(18, 0, 4)]


def vars_of(entity: Any) -> list[Any]:
    return [entity.api_key, entity.min_version, entity.max_version]


# Produce


@pytest.mark.parametrize("version", range(3, 12))
async def test_produced_records_are_fetched(broker: Served, peer: Peer, version: int) -> None:
    for expected in (0, 2):
        answer = await peer.ask(ApiKey.PRODUCE, version, **produce(batch(b"a", b"b")))
        (one,) = answer.responses[0].partition_responses
        assert (one.error_code, one.base_offset) == (0, expected)
    fetched = await peer.ask(ApiKey.FETCH, 12, **fetch((0, 3)))
    (found,) = fetched.responses[0].partitions
    records = decode_batch(found.records)
    assert [(record.offset, record.value) for record in records] == [(2, b"a"), (3, b"b")]
    assert found.high_watermark == found.last_stable_offset == 4


async def test_what_is_written_down_has_the_brokers_time(broker: Served, peer: Peer) -> None:
    """Offsets stamped by a wall clock that was set back by ten days were forgotten as soon as a group had no
    members: expiry goes by the broker's time."""
    request = superset_request(broker.node, ApiKey.OFFSET_COMMIT)
    await peer.ask(ApiKey.OFFSET_COMMIT, 8, **request)
    rows = broker.node.catalog.group_offsets.rows("g", "t")
    assert [row.commit_timestamp_ms for row in rows.values()] == [broker.node.now_ms()]


async def test_a_version_that_nobody_should_send_is_refused_politely(peer: Peer) -> None:
    """Produce v0: acks, time-out, topics; the answer has no throttle time."""
    name = b"\0\x01t"
    request = b"\0\0\0\0\0\0\0\x05\xff\xff" + b"\xff\xff\0\0\0\x64" + b"\0\0\0\x01" + name
    request += b"\0\0\0\x01" + b"\0\0\0\0" + b"\0\0\0\x03abc"
    await peer.stream.send_all(len(request).to_bytes(4, "big") + request)
    frame = await peer.frame()
    assert frame == (
        b"\0\0\0\x05" + b"\0\0\0\x01" + name + b"\0\0\0\x01" + b"\0\0\0\0" + b"\0\x23" + b"\xff" * 8
    )


@pytest.mark.parametrize(
    ("request_", "error"),
    [
        (produce(batch(b"x"), topic="none"), "unknown_topic_or_partition"),
        (produce(batch(b"x"), partition=7), "unknown_topic_or_partition"),
        (produce(batch(b"x"), partition=-1), "unknown_topic_or_partition"),
        (produce(batch(b"x"), acks=2), "invalid_required_acks"),
        (produce(None), "invalid_record"),
        (produce(b""), "invalid_record"),
        (produce(batch(b"x")[:-1] + b"!"), "corrupt_message"),
    ],
)
async def test_produce_errors(peer: Peer, request_: dict[str, Any], error: str) -> None:
    answer = await peer.ask(ApiKey.PRODUCE, 9, **request_)
    (one,) = answer.responses[0].partition_responses
    assert (one.error_code.name, one.base_offset) == (error, -1)


def expecting(*offsets: int, acks: int = -1) -> dict[str, Any]:
    """A batch for each partition, that must get the offset."""
    data = [
        {"index": index, "records": batch(b"x"), "expected_offset": offset}
        for index, offset in enumerate(offsets)
    ]
    topics = [{"name": "t", "topic_id": bytes(16), "partition_data": data}]
    return {"acks": acks, "timeout": 30_000, "topic_data": topics}


@pytest.mark.parametrize("version", [9, 12])
async def test_a_batch_that_does_not_get_the_offset_it_expects_is_told_the_end(
    peer: Peer, version: int
) -> None:
    for expected, code, offset in ((0, "none", 0), (0, "offset_out_of_range", 1), (1, "none", 1)):
        answer = await peer.ask(ApiKey.PRODUCE, version, **expecting(expected))
        (one,) = answer.responses[0].partition_responses
        assert (one.error_code.name, one.base_offset) == (code, offset)
        assert (one.error_message is None) == (code == "none")


@pytest.mark.parametrize("request_", [expecting(0, 0), expecting(0, -1)])
async def test_a_batch_that_expects_an_offset_is_alone_in_its_request(
    broker: Served, peer: Peer, request_: dict[str, Any]
) -> None:
    answer = await peer.ask(ApiKey.PRODUCE, 9, **request_)
    for one in answer.responses[0].partition_responses:
        assert one.error_code.name == "invalid_request" and "alone" in one.error_message
    assert broker.node.partitions["t", 0].log_end_offset == 0


async def test_who_expects_an_offset_wants_an_answer(broker: Served, peer: Peer) -> None:
    await peer.send(ApiKey.PRODUCE, 9, **expecting(0, acks=0))
    assert await peer.is_closed()
    assert broker.node.partitions["t", 0].log_end_offset == 0


async def test_a_produce_of_nothing_is_answered(peer: Peer) -> None:
    answer = await peer.ask(ApiKey.PRODUCE, 9, acks=-1, timeout=1, topic_data=[])
    assert answer.responses == ()


async def test_partitions_fail_one_by_one_and_name_the_leader(broker: Served, peer: Peer) -> None:
    broker.node.partitions["t", 1].is_leader = False
    data = [{"index": index, "records": batch(b"x")} for index in (0, 1)]
    request = {"acks": -1, "timeout": 1, "topic_data": [{"name": "t", "partition_data": data}]}
    answer = await peer.ask(ApiKey.PRODUCE, 10, **request)
    good, bad = answer.responses[0].partition_responses
    assert good.error_code == 0
    assert bad.error_code.name == "not_leader_or_follower"
    assert (bad.current_leader.leader_id, bad.current_leader.leader_epoch) == (2, 3)


@pytest.mark.parametrize("error", list(PartitionError))
async def test_no_error_of_a_partition_is_fatal_to_a_producer(
    broker: Served, peer: Peer, error: PartitionError
) -> None:
    broker.node.partitions["t", 0].failure = error
    answer = await peer.ask(ApiKey.PRODUCE, 9, **produce(batch(b"x")))
    (one,) = answer.responses[0].partition_responses
    assert one.error_code != 0
    assert one.error_code.name != "unknown_server_error"


# Fetch


async def test_a_fetch_waits_for_records_and_no_longer(broker: Served, peer: Peer) -> None:
    await peer.send(ApiKey.FETCH, 12, **fetch((0, 0), max_wait=60_000))
    writer = await broker.connect()
    with trio.move_on_after(0.1):
        await peer.frame()
        pytest.fail("there was nothing to answer yet")
    await writer.ask(ApiKey.PRODUCE, 9, **produce(batch(b"x")))
    with trio.fail_after(5):
        _, answer = await peer.receive(ApiKey.FETCH, 12)
    assert decode_batch(answer.responses[0].partitions[0].records)[0].value == b"x"
    assert not len(broker.node.partitions["t", 0].waiters)


async def test_a_fetch_waits_for_min_bytes(broker: Served, peer: Peer) -> None:
    await peer.send(ApiKey.FETCH, 12, **fetch((0, 0), max_wait=60_000, min_bytes=150))
    writer = await broker.connect()
    for _ in range(3):
        await writer.ask(ApiKey.PRODUCE, 9, **produce(batch(b"x")))
    _, answer = await peer.receive(ApiKey.FETCH, 12)
    assert len(answer.responses[0].partitions[0].records) >= 150


async def test_an_empty_answer_has_empty_records(clock: MockClock, peer: Peer) -> None:
    for version in range(4, 13):
        answer = await peer.ask(ApiKey.FETCH, version, **fetch((0, 0), max_wait=300))
        assert answer.responses[0].partitions[0].records == b""


@pytest.fixture
def clock() -> MockClock:
    return MockClock(autojump_threshold=0.02)


async def test_errors_and_empty_fetches_do_not_wait(broker: Served, peer: Peer) -> None:
    with trio.fail_after(5):
        for wanted in ((0, 5), (0, -5), (0, 2**63 - 1), (9, 0)):
            answer = await peer.ask(ApiKey.FETCH, 12, **fetch(wanted, max_wait=60_000))
            assert answer.responses[0].partitions[0].error_code != 0
        nothing = await peer.ask(ApiKey.FETCH, 12, **fetch(max_wait=60_000) | {"topics": []})
        assert nothing.responses == ()
        session = await peer.ask(ApiKey.FETCH, 12, **fetch((0, 0)), session_id=5, session_epoch=1)
        assert session.error_code.name == "fetch_session_id_not_found"


@pytest.mark.parametrize("version", [7, 11, 13])
async def test_only_a_fetch_that_goes_on_with_a_session_needs_it(
    broker: Served, peer: Peer, version: int
) -> None:
    """Epochs 0 and -1 name everything wanted, whatever the id: a client may ask for a session anew, or end
    one that the broker has forgotten (KIP-227)."""
    await peer.ask(ApiKey.PRODUCE, 9, **produce(batch(b"a")))
    id_ = topic_id(broker.node)
    for session, epoch in ((0, -1), (0, 0), (4711, 0), (4711, -1)):
        request = fetch((0, 0), id_=id_, session_id=session, session_epoch=epoch)
        answer = await peer.ask(ApiKey.FETCH, version, **request)
        assert (answer.error_code, answer.session_id) == (0, 0)
        assert answer.responses[0].partitions[0].records
    for session, epoch in ((4711, 1), (0, 1), (4711, -2)):
        request = fetch((0, 0), id_=id_, session_id=session, session_epoch=epoch)
        answer = await peer.ask(ApiKey.FETCH, version, **request)
        assert (answer.error_code.name, answer.responses) == ("fetch_session_id_not_found", ())


async def test_a_fetch_by_id_and_by_an_id_that_nobody_knows(broker: Served, peer: Peer) -> None:
    await peer.ask(ApiKey.PRODUCE, 9, **produce(batch(b"x")))
    for version in range(13, 18):
        answer = await peer.ask(ApiKey.FETCH, version, **fetch((0, 0), id_=topic_id(broker.node)))
        assert answer.responses[0].topic_id.bytes == topic_id(broker.node)
        assert answer.responses[0].partitions[0].records
        answer = await peer.ask(ApiKey.FETCH, version, **fetch((0, 0), id_=b"x" * 16))
        assert answer.responses[0].partitions[0].error_code.name == "unknown_topic_id"


async def test_the_first_batch_is_whole_whatever_the_limits_are(broker: Served, peer: Peer) -> None:
    for partition in (0, 1):
        for _ in range(3):
            await peer.ask(ApiKey.PRODUCE, 9, **produce(batch(b"x" * 1000), partition=partition))
    wanted = [{"partition": index, "fetch_offset": 0, "partition_max_bytes": 1} for index in (0, 1)]
    request = fetch(max_bytes=1) | {"topics": [{"topic": "t", "partitions": wanted}]}
    answer = await peer.ask(ApiKey.FETCH, 12, **request)
    first, second = answer.responses[0].partitions
    assert len(decode_batch(first.records)) == 1
    assert second.records == b""
    assert second.error_code == 0


async def test_large_ranges_come_as_they_are_stored(broker: Served, peer: Peer) -> None:
    await peer.ask(ApiKey.PRODUCE, 9, **produce(batch(bytes(100_000))))
    await peer.ask(ApiKey.PRODUCE, 9, **produce(batch(b"small"), partition=1))
    answer = await peer.ask(ApiKey.FETCH, 12, **fetch((0, 0), (1, 0)))
    large, small = answer.responses[0].partitions
    assert decode_batch(large.records)[0].value == bytes(100_000)
    assert decode_batch(small.records)[0].value == b"small"


async def test_epochs_that_are_old_or_too_new_are_fenced(broker: Served, peer: Peer) -> None:
    for epoch, error in ((2, "fenced_leader_epoch"), (4, "unknown_leader_epoch"), (3, "none")):
        wanted = {
            "partition": 0,
            "fetch_offset": 0,
            "partition_max_bytes": 1,
            "current_leader_epoch": epoch,
        }
        request = fetch() | {"topics": [{"topic": "t", "partitions": [wanted]}]}
        answer = await peer.ask(ApiKey.FETCH, 12, **request)
        assert answer.responses[0].partitions[0].error_code.name == error


# Metadata


def metadata(*names: str | None, create: bool = True, **more: Any) -> dict[str, Any]:
    return {
        "topics": [{"name": name, "topic_id": bytes(16)} for name in names],
        "allow_auto_topic_creation": create,
        "include_cluster_authorized_operations": False,
        "include_topic_authorized_operations": False,
        **more,
    }


async def test_metadata_names_what_clients_need(broker: Served, peer: Peer) -> None:
    answer = await peer.ask(ApiKey.METADATA, 12, **metadata("t"))
    assert answer.cluster_id
    assert answer.controller_id in [each.node_id for each in answer.brokers]
    (topic,) = answer.topics
    assert topic.topic_id.bytes == topic_id(broker.node)
    assert [(p.leader_id, p.leader_epoch, p.error_code) for p in topic.partitions] == [(1, 3, 0)] * 2


async def test_a_broker_that_leads_is_listed_although_the_metadata_leader_has_not_heard_it(
    broker: Served, peer: Peer
) -> None:
    """A client cannot connect to a leader that the answer does not list: it produces nothing for good."""
    node = broker.node
    node.add_broker(1, fenced=True)
    node.add_broker(2, fenced=True)
    node.add_broker(3, fenced=True)
    node.partitions["t", 1].is_leader = False
    answer = await peer.ask(ApiKey.METADATA, 12, **metadata("t"))
    assert [each.leader_id for each in answer.topics[0].partitions] == [1, 2]
    assert [each.node_id for each in answer.brokers] == [1, 2]
    assert answer.controller_id in (1, 2)
    described = await peer.ask(
        ApiKey.DESCRIBE_CLUSTER,
        1,
        include_cluster_authorized_operations=False,
        endpoint_type=1,
    )
    assert [each.broker_id for each in described.brokers] == [1, 2]


async def test_a_broker_that_is_cut_off_names_all_brokers_and_sends_clients_on(
    broker: Served, peer: Peer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Found by chaos, twice: clients that were told of the broker that was cut off alone stayed with it,
    while two others served; librdkafka stayed with it also when it was told of all, and of no leader."""
    node = broker.node
    node.add_broker(2)
    node.add_broker(3)
    node.add_topic("spread", 2, others=(2, 3))
    node.partitions["t", 1].is_leader = node.partitions["spread", 1].is_leader = False
    monkeypatch.setattr(node, "is_alive", lambda one: one.id == 1)
    node.has_metadata_leader, node.is_cut_off = False, True
    for pick, leader in ((0, 2), (1, 3), (2, 2)):  # not another in each answer: after a while
        monkeypatch.setattr(routing, "SAME_S", trio.current_time() / (pick + 0.5))
        answer = await peer.ask(ApiKey.METADATA, 12, **metadata("t", "spread"))
        assert [each.node_id for each in answer.brokers] == [1, 2, 3]
        here, spread = answer.topics
        assert [each.leader_id for each in here.partitions] == [1, -1]
        assert spread.partitions[0].leader_id == 1
        named = spread.partitions[1]
        assert (named.error_code.name, named.leader_id, named.leader_epoch) == ("none", leader, -1)
    node.coordinator_id = None
    found = await peer.ask(ApiKey.FIND_COORDINATOR, 3, key="group", key_type=0)
    assert (found.error_code.name, found.node_id in (2, 3)) == ("none", True)
    node.has_metadata_leader, node.is_cut_off = True, False
    answer = await peer.ask(ApiKey.METADATA, 12, **metadata("spread"))
    assert [each.node_id for each in answer.brokers] == [1]
    assert [each.leader_id for each in answer.topics[0].partitions] == [1, -1]


async def test_a_leader_that_is_no_broker_of_the_cluster_is_not_named(broker: Served, peer: Peer) -> None:
    """It was removed, and the partition's next leader has not said so yet."""
    broker.node.partitions["t", 0].is_leader = False
    answer = await peer.ask(ApiKey.METADATA, 12, **metadata("t"))
    first, second = answer.topics[0].partitions
    assert (first.error_code.name, first.leader_id) == ("leader_not_available", -1)
    assert second.leader_id == 1


async def test_all_topics_and_none(peer: Peer) -> None:
    everything = await peer.ask(ApiKey.METADATA, 12, **metadata() | {"topics": None})
    assert [topic.name for topic in everything.topics] == ["t"]
    assert (await peer.ask(ApiKey.METADATA, 12, **metadata())).topics == ()
    oldest = await peer.ask(ApiKey.METADATA, 0, topics=[])
    assert [topic.name for topic in oldest.topics] == ["t"]


async def test_a_topic_that_is_asked_for_twice_is_told_once(broker: Served, peer: Peer) -> None:
    """As Kafka does. A request of 24 MB was answered with 235, and nothing else went on meanwhile."""
    answer = await peer.ask(ApiKey.METADATA, 12, **metadata("t", "gone", "t", "gone", create=False))
    assert [topic.name for topic in answer.topics] == ["t", "gone"]
    wanted = [{"name": None, "topic_id": topic_id(broker.node)}] * 3
    answer = await peer.ask(ApiKey.METADATA, 12, **metadata() | {"topics": wanted})
    assert [topic.name for topic in answer.topics] == ["t"]


async def test_trailing_bytes_of_librdkafka_are_ignored(peer: Peer) -> None:
    """All topics as a zero of four bytes where one is meant (librdkafka 2.12 to 2.16)."""
    request = b"\0\x03\0\x0c\0\0\0\x07\xff\xff\0" + b"\0\0\0\0" + b"\x01\0\0\0"
    await peer.stream.send_all(len(request).to_bytes(4, "big") + request)
    assert (await peer.receive(ApiKey.METADATA, 12))[0] == 7


async def test_a_topic_is_created_when_it_is_asked_for(broker: Served, peer: Peer) -> None:
    answer = await peer.ask(ApiKey.METADATA, 12, **metadata("new", "new", create=False))
    assert [topic.error_code.name for topic in answer.topics] == ["unknown_topic_or_partition"]
    answer = await peer.ask(ApiKey.METADATA, 12, **metadata("new", "new"))
    assert [topic.error_code for topic in answer.topics] == [0]
    assert answer.topics[0].partitions[0].leader_id == 1
    assert "new" in broker.node.catalog.topics


@pytest.mark.parametrize("name", ["", ".", "..", "../../etc/passwd", "a/b", "nul\0", "x" * 250, "ü"])
@pytest.mark.parametrize("create", [True, False])
async def test_names_that_no_topic_can_have(peer: Peer, name: str, create: bool) -> None:
    answer = await peer.ask(ApiKey.METADATA, 12, **metadata(name, create=create))
    assert answer.topics[0].error_code.name == "invalid_topic_exception"


async def test_topics_by_id(broker: Served, peer: Peer) -> None:
    wanted = [
        {"name": None, "topic_id": topic_id(broker.node)},
        {"name": None, "topic_id": b"x" * 16},
        {"name": None, "topic_id": bytes(16)},
    ]
    answer = await peer.ask(ApiKey.METADATA, 12, **metadata() | {"topics": wanted})
    assert [topic.name for topic in answer.topics] == ["t", None, None]
    assert [topic.error_code for topic in answer.topics] == [0, 100, 100]


async def test_a_topic_of_many_partitions_is_shown_as_it_is_now(broker: Served, peer: Peer) -> None:
    """Its part of the answer is kept, and made again when the leaders, the brokers or the topic change."""
    node = broker.node
    node.add_topic("wide", 100)

    async def shown(version: int) -> Any:
        answer = await peer.ask(ApiKey.METADATA, version, **metadata("t", "wide"))
        wide = answer.topics[1]
        assert [each.partition_index for each in wide.partitions] == list(range(len(wide.partitions)))
        return wide

    for version in (1, 9, 12, 9, 12):
        assert {(each.leader_id, each.error_code) for each in (await shown(version)).partitions} == {(1, 0)}
    node.partitions["wide", 50].leader_epoch = 9
    assert (await shown(12)).partitions[50].leader_epoch == 9
    node.partitions["wide", 50].is_leader = False
    node.add_broker(2)
    assert (await shown(12)).partitions[50].leader_id == 2
    await node.create_partitions("wide", 101, timeout=1)
    assert len((await shown(12)).partitions) == 101
    node.catalog.brokers.clear()
    assert (await shown(12)).partitions[0].offline_replicas == (1,)


async def test_a_partition_without_a_leader_says_so(broker: Served, peer: Peer) -> None:
    broker.node.no_leader = True
    answer = await peer.ask(ApiKey.METADATA, 12, **metadata("t"))
    (first, _) = answer.topics[0].partitions
    assert (first.error_code.name, first.leader_id) == ("leader_not_available", -1)


# Producer ids and coordinators


async def test_producer_ids_are_given_once(clock: MockClock, broker: Served, peer: Peer) -> None:
    request = superset_request(broker.node, ApiKey.INIT_PRODUCER_ID)
    broker.node.proposals_fail = 3  # an election, say
    ids = {(await peer.ask(ApiKey.INIT_PRODUCER_ID, 4, **request)).producer_id for _ in range(5)}
    assert len(ids) == 5
    broker.node.proposals_fail = 1000
    late = await peer.ask(ApiKey.INIT_PRODUCER_ID, 4, **request)
    assert late.error_code.name == "coordinator_load_in_progress"


async def test_the_coordinator_is_waited_for_a_little(clock: MockClock, broker: Served, peer: Peer) -> None:
    broker.node.coordinator_id = None
    before = trio.current_time()
    answer = await peer.ask(ApiKey.FIND_COORDINATOR, 2, key="g", key_type=0)
    assert answer.error_code.name == "coordinator_not_available"
    assert 0.9 < trio.current_time() - before < 2
    broker.node.coordinator_id = broker.node.broker_id
    answer = await peer.ask(ApiKey.FIND_COORDINATOR, 2, key="g", key_type=0)
    assert (answer.error_code, answer.node_id, answer.port) == (0, 1, 9092)
    found = await peer.ask(ApiKey.FIND_COORDINATOR, 2, key="tx", key_type=1)
    assert (found.error_code, found.node_id) == (0, 1)
    broker.node.add_broker(2)  # one of an older build
    refused = await peer.ask(ApiKey.FIND_COORDINATOR, 2, key="tx", key_type=1)
    assert refused.error_code.name == "transactional_id_authorization_failed"
    assert refused.error_message == "a broker of an older version is in the cluster", "what users are shown"


# Transactions: what each version says. What a step comes to is in tests/unit/test_metadata_transactions.py.


class Transactional:
    """A producer by hand, with the version of each API that a test wants."""

    def __init__(self, peer: Peer, producer_id: int, epoch: int) -> None:
        self.peer = peer
        self.id = {"transactional_id": "tx", "producer_id": producer_id, "producer_epoch": epoch}

    @classmethod
    async def start(cls, peer: Peer, **changed: int) -> Transactional:
        answer = await cls.init(peer, **changed)
        assert answer.error_code == 0
        return cls(peer, answer.producer_id, answer.producer_epoch)

    @staticmethod
    async def init(peer: Peer, version: int = 4, **changed: object) -> Any:
        asked = {
            "transactional_id": "tx",
            "transaction_timeout": 1000,
            "producer_id": -1,
            "producer_epoch": -1,
        }
        return await peer.ask(ApiKey.INIT_PRODUCER_ID, version, **asked | changed)

    async def add(self, *topics: str, version: int = 3) -> list[str]:
        named = {f"v3_and_below_{name}": value for name, value in self.id.items()}
        answer = await self.peer.ask(
            ApiKey.ADD_PARTITIONS_TO_TXN,
            version,
            **named,
            v3_and_below_topics=[{"name": topic, "partitions": [0]} for topic in topics],
        )
        rows = [row for topic in answer.results_by_topic_v3_and_below for row in topic.results_by_partition]
        return [row.partition_error_code.name for row in rows]

    async def add_group(self, version: int = 3) -> str:
        answer = await self.peer.ask(ApiKey.ADD_OFFSETS_TO_TXN, version, **self.id, group_id="g")
        return str(answer.error_code.name)

    async def commit_offset(self, version: int = 3, **member: object) -> str:
        at = {"partition_index": 0, "committed_offset": 9, "committed_metadata": ""}
        answer = await self.peer.ask(
            ApiKey.TXN_OFFSET_COMMIT,
            version,
            **self.id,
            **{"group_id": "g", "topics": [{"name": "t", "partitions": [at]}], **member},
        )
        return str(answer.topics[0].partitions[0].error_code.name)

    async def end(self, *, commit: bool, version: int = 3) -> str:
        answer = await self.peer.ask(ApiKey.END_TXN, version, **self.id, committed=commit)
        return str(answer.error_code.name)


def fetch_offset(stable: bool) -> dict[str, Any]:
    topics = [{"name": "t", "partition_indexes": [0, 1]}]
    return {"groups": [{"group_id": "g", "topics": topics}], "require_stable": stable}


async def test_what_a_fenced_producer_is_told_depends_on_the_version(peer: Peer) -> None:
    old = await Transactional.start(peer)
    await Transactional.start(peer)
    for version, code in ((1, "invalid_producer_epoch"), (2, "producer_fenced")):
        assert await old.add("t", version=version) == [code]
        assert await old.add_group(version) == code
        assert await old.end(commit=True, version=version) == code
    assert await old.commit_offset() == "invalid_producer_epoch"
    own = {"producer_id": old.id["producer_id"], "producer_epoch": 0}
    assert (await Transactional.init(peer, 3, **own)).error_code.name == "invalid_producer_epoch"
    assert (await Transactional.init(peer, 4, **own)).error_code.name == "producer_fenced"


async def test_a_coordinator_that_was_replaced_ends_no_producer(
    broker: Served, peer: Peer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was paused, takes itself for the coordinator still, and has not seen what its successor did."""
    producer = await Transactional.start(peer)
    assert await producer.commit_offset() == "invalid_txn_state"

    async def is_replaced() -> bool:
        return False

    monkeypatch.setattr(broker.node, "confirm_coordinator", is_replaced)
    assert await producer.commit_offset() == "not_coordinator"
    producer.id["producer_epoch"] = 1  # as the successor gave it
    assert await producer.commit_offset() == "not_coordinator"
    producer.id["transactional_id"] = "another"
    assert await producer.commit_offset() == "not_coordinator"


@pytest.mark.parametrize(
    ("changed", "code"),
    [
        ({"transactional_id": ""}, "invalid_request"),
        ({"transactional_id": "é" * 513}, "invalid_request"),
        ({"producer_id": 5}, "invalid_request"),
        ({"producer_epoch": 5}, "invalid_request"),
        ({"transaction_timeout": 0}, "invalid_transaction_timeout"),
        ({"transaction_timeout": 900_001}, "invalid_transaction_timeout"),
    ],
)
async def test_a_producer_that_asks_for_what_there_is_not(
    peer: Peer, changed: dict[str, object], code: str
) -> None:
    assert (await Transactional.init(peer, **changed)).error_code.name == code


async def test_scenario_17_an_unknown_topic_keeps_all_out(broker: Served, peer: Peer) -> None:
    producer = await Transactional.start(peer)
    assert await producer.add("t", "none") == ["operation_not_attempted", "unknown_topic_or_partition"]
    value = broker.node.catalog.transactions.get("tx")
    assert value is not None and value.state.value == "Empty"
    assert await producer.add("t") == ["none"]


async def test_scenario_41_an_offset_that_is_about_to_move_is_not_stable(peer: Peer) -> None:
    producer = await Transactional.start(peer)
    assert await producer.commit_offset(3) == "invalid_txn_state"
    assert await producer.commit_offset(4) == "transaction_abortable"
    assert await producer.add_group() == "none"
    assert await producer.commit_offset() == "none"

    async def seen(stable: bool) -> list[tuple[int, str]]:
        answer = await peer.ask(ApiKey.OFFSET_FETCH, 8, **fetch_offset(stable))
        rows = answer.groups[0].topics[0].partitions
        return [(row.committed_offset, row.error_code.name) for row in rows]

    assert await seen(True) == [(-1, "unstable_offset_commit"), (-1, "none")]
    assert await seen(False) == [(-1, "none"), (-1, "none")]
    assert await producer.end(commit=True) == "none"
    assert await seen(True) == [(9, "none"), (-1, "none")]


async def test_scenario_43_and_45_whose_offsets_a_group_takes(broker: Served, peer: Peer) -> None:
    producer = await Transactional.start(peer)
    await producer.add_group()
    assert await producer.commit_offset(generation_id=4) == "illegal_generation"
    named = {"generation_id": 4, "member_id": "nobody"}
    assert await producer.commit_offset(**named) == "unknown_member_id"
    value = broker.node.catalog.transactions.get("tx")
    assert value is not None and not value.staged, "nothing is pending"
    assert await producer.commit_offset(2) == "none"


async def test_scenario_5_the_second_protocol_names_no_partition_and_ends_with_its_epoch(
    broker: Served, peer: Peer
) -> None:
    """Produce v13, TxnOffsetCommit v5, EndTxn v5: nothing else is sent (KIP-890)."""
    producer = await Transactional.start(peer)
    own = producer.id["producer_id"], producer.id["producer_epoch"]
    values = [NewRecord(1000, None, b"a", ())]
    records = bytes(
        encode_batch(values, producer_id=own[0], producer_epoch=own[1], base_sequence=0, transactional=True)
    )
    by_id = {"topic_id": topic_id(broker.node), "partition_data": [{"index": 0, "records": records}]}
    asked = {"transactional_id": "tx", "acks": -1, "timeout": 1000, "topic_data": [by_id]}
    answer = await peer.ask(ApiKey.PRODUCE, 13, **asked)
    assert answer.responses[0].topic_id.bytes == by_id["topic_id"]
    assert await producer.commit_offset(5) == "none"
    value = broker.node.catalog.transactions.get("tx")
    assert value is not None and value.state.value == "Ongoing" and value.groups == ("g",)
    for _ in range(2):  # the answer was lost
        ended = await peer.ask(ApiKey.END_TXN, 5, **producer.id, committed=True)
        assert (ended.error_code, ended.producer_id, ended.producer_epoch) == (0, own[0], own[1] + 1)
    assert await producer.commit_offset(5) == "invalid_producer_epoch", "the transaction is over"
    assert await producer.commit_offset(4) == "invalid_producer_epoch"
    assert await producer.end(commit=True, version=4) == "producer_fenced"
    answer = await peer.ask(ApiKey.OFFSET_FETCH, 8, **fetch_offset(True))
    assert answer.groups[0].topics[0].partitions[0].committed_offset == 9


async def test_scenario_39_a_transaction_that_hangs_is_ended_and_no_other(broker: Served, peer: Peer) -> None:
    replica = broker.node.partitions["t", 0]

    async def abort(**changed: object) -> str:
        answer = await peer.ask(ApiKey.WRITE_TXN_MARKERS, 1, markers=[hanging(**changed)])
        first, unknown = answer.markers[0].topics[0].partitions
        assert answer.markers[0].producer_id == 7
        assert unknown.error_code.name in ("unknown_topic_or_partition", "invalid_request")
        return str(first.error_code.name)

    assert await abort(transaction_result=True) == "invalid_request", "nobody knows that it was committed"
    table = broker.node.catalog.transactions
    open_here = TransactionalId(
        producer_id=7,
        epoch=0,
        timeout_ms=1,
        updated_ms=0,
        state=TransactionState.ONGOING,
        partitions={(topic_id(broker.node), 0): None},
    )
    table.put("its", open_here)
    assert await abort() == "invalid_txn_state", "other partitions of it may come to be committed"
    table.put("its", replace(open_here, partitions={(topic_id(broker.node), 1): None}))
    assert not replica.markers
    replica.is_leader = False
    assert await abort() == "not_leader_or_follower"
    replica.is_leader, replica.markers = True, []
    assert await abort() == "none"
    assert replica.markers == [Marker(7, 0, False, 2, BY_HAND)]


async def test_scenario_30_what_comes_late_by_an_old_connection_does_nothing(broker: Served) -> None:
    """Its client gave it up, and has begun the next transaction at the same epoch."""
    old = [await broker.connect() for _ in range(3)]
    producer = await Transactional.start(old[0])
    producer.peer = await broker.connect()

    def transaction() -> TransactionalId:
        value = broker.node.catalog.transactions.get("tx")
        assert value is not None
        return value

    assert await producer.add("t") == ["none"]
    assert await producer.end(commit=True) == "none"
    broker.node.catalog.transactions.put("tx", completed(transaction(), 1000))
    assert await producer.add("t") == ["none"]
    before = transaction()
    late = [Transactional(peer, before.producer_id, before.epoch) for peer in old]
    for step in (late[0].end(commit=False), late[1].add("t"), late[2].add_group()):
        with pytest.raises(EOFError):
            await step
    assert transaction() == before, "the later transaction is untouched"
    assert await producer.end(commit=True) == "none"


async def test_offsets_that_come_late_by_an_old_connection_do_not_set_a_later_transaction_back(
    broker: Served,
) -> None:
    """The group would begin again with what the transaction before has dealt with."""
    old = await broker.connect()
    producer = await Transactional.start(await broker.connect())
    assert await producer.add_group() == "none"
    producer.peer = await broker.connect()  # a connection for the offsets alone stops no other step
    assert await producer.commit_offset() == "none"
    before = broker.node.catalog.transactions.get("tx")
    assert before is not None and before.staged
    with pytest.raises(EOFError):
        await Transactional(old, before.producer_id, before.epoch).commit_offset()
    assert broker.node.catalog.transactions.get("tx") == before
    assert await producer.end(commit=True) == "none"


def test_of_the_newest_connections_a_bounded_number_is_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(speakers_module, "REMEMBERED_MAX", 2)
    speakers = Speakers()
    for name in ("a", "b", "c"):
        assert not speakers.is_late(name, 1, 0, 7)
    assert speakers.is_late("b", 1, 0, 6) and speakers.is_late("c", 1, 0, 6)
    assert not speakers.is_late("b", 1, 1, 6), "another epoch is told apart by itself"
    assert not speakers.is_late("a", 1, 0, 6), "forgotten"


async def test_transactions_are_listed_and_described(broker: Served, peer: Peer) -> None:
    producer = await Transactional.start(peer)
    await producer.add("t")
    described = await peer.ask(ApiKey.DESCRIBE_TRANSACTIONS, 0, transactional_ids=["tx", "none"])
    known, unknown = described.transaction_states
    assert unknown.error_code.name == "transactional_id_not_found"
    assert (known.transaction_state, known.topics[0].topic) == ("Ongoing", "t")
    asked: dict[str, Any] = {"state_filters": [], "producer_id_filters": [], "duration_filter": -1}
    for changed, count in (
        ({}, 1),
        ({"state_filters": ["Ongoing"]}, 1),
        ({"state_filters": ["Empty", "None"]}, 0),
        ({"producer_id_filters": [10**6]}, 0),
        ({"duration_filter": 10**15}, 0),
    ):
        listed = await peer.ask(ApiKey.LIST_TRANSACTIONS, 1, **asked | changed)
        assert len(listed.transaction_states) == count
    listed = await peer.ask(ApiKey.LIST_TRANSACTIONS, 1, **asked | {"state_filters": ["None"]})
    assert listed.unknown_state_filters == ("None",)
    described = await peer.ask(ApiKey.DESCRIBE_TRANSACTIONS, 0, transactional_ids=["tx", "none", "tx", "tx"])
    assert [each.transactional_id for each in described.transaction_states] == ["tx", "none"]
    broker.node.is_coordinator, broker.node.coordinator_id = False, OTHER
    described = await peer.ask(ApiKey.DESCRIBE_TRANSACTIONS, 0, transactional_ids=["tx"])
    assert described.transaction_states[0].error_code.name == "not_coordinator"
    listed = await peer.ask(ApiKey.LIST_TRANSACTIONS, 1, **asked)
    assert (listed.error_code.name, listed.transaction_states) == ("none", ())


@pytest.mark.parametrize("coordinator", [None, BrokerId(1)])
async def test_nobody_says_that_there_are_no_transactions_while_there_is_no_coordinator(
    broker: Served, peer: Peer, coordinator: BrokerId | None
) -> None:
    """Brokers that had just started said so: nobody led the metadata yet. Or this one leads it, and has not
    applied what was committed before."""
    await Transactional.start(peer)
    broker.node.is_coordinator, broker.node.coordinator_id = False, coordinator
    listed = await peer.ask(
        ApiKey.LIST_TRANSACTIONS, 1, state_filters=[], producer_id_filters=[], duration_filter=-1
    )
    assert (listed.error_code.name, listed.transaction_states) == ("coordinator_load_in_progress", ())
    described = await peer.ask(ApiKey.DESCRIBE_TRANSACTIONS, 0, transactional_ids=["tx"])
    assert described.transaction_states[0].error_code.name == "coordinator_load_in_progress"


async def test_a_list_of_transactions_with_many_filters_takes_no_longer(broker: Served, peer: Peer) -> None:
    """20,000 ids, each held against 20,000 filters one by one, would be ten seconds of the loop."""
    for number in range(20_000):
        value = TransactionalId(producer_id=10**6 + number, epoch=0, timeout_ms=1, updated_ms=0)
        broker.node.catalog.transactions.put(f"tx-{number}", value)
    begun = time.process_time()
    listed = await peer.ask(
        ApiKey.LIST_TRANSACTIONS,
        1,
        state_filters=[],
        producer_id_filters=list(range(20_000)),
        duration_filter=-1,
    )
    assert [each for each in listed.transaction_states if each.transactional_id.startswith("tx-")] == []
    assert time.process_time() - begun < 2


async def test_an_answer_about_producers_has_a_bound(
    broker: Served, peer: Peer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(describe_producers, "PRODUCERS_MAX", 1)
    asked = {"topics": [{"name": "t", "partition_indexes": [0, 99]}]}
    answer = await peer.ask(ApiKey.DESCRIBE_PRODUCERS, 0, **asked)
    whole, refused = answer.topics[0].partitions
    assert (len(whole.active_producers), whole.error_code) == (1, 0)
    assert refused.error_code.name == "invalid_request"
    assert (refused.error_message, refused.active_producers) == ("ask for fewer partitions", ())


async def test_producers_of_a_partition_are_described(broker: Served, peer: Peer) -> None:
    asked = {"topics": [{"name": "t", "partition_indexes": [0, 99]}]}
    answer = await peer.ask(ApiKey.DESCRIBE_PRODUCERS, 0, **asked)
    known, unknown = answer.topics[0].partitions
    assert (known.active_producers[0].producer_id, known.active_producers[0].current_txn_start_offset) == (
        7,
        5,
    )
    assert unknown.error_code.name == "unknown_topic_or_partition"
    again = {
        "topics": [{"name": "t", "partition_indexes": [0, 0, 99]}, {"name": "t", "partition_indexes": [0]}]
    }
    assert await peer.ask(ApiKey.DESCRIBE_PRODUCERS, 0, **again) == answer
    broker.node.partitions["t", 0].is_leader = False
    answer = await peer.ask(ApiKey.DESCRIBE_PRODUCERS, 0, **asked)
    assert answer.topics[0].partitions[0].error_code.name == "not_leader_or_follower"


# Groups


async def test_a_member_joins_commits_and_leaves(broker: Served, peer: Peer) -> None:
    join = superset_request(broker.node, ApiKey.JOIN_GROUP)
    first = await peer.ask(ApiKey.JOIN_GROUP, 7, **join)
    assert first.error_code.name == "member_id_required"
    joined = await peer.ask(ApiKey.JOIN_GROUP, 7, **join | {"member_id": first.member_id})
    assert (joined.error_code, joined.leader, joined.generation_id) == (0, first.member_id, 1)
    member = {"group_id": "g", "member_id": first.member_id, "generation_id": 1}
    synced = await peer.ask(
        ApiKey.SYNC_GROUP,
        5,
        **member,
        protocol_type="consumer",
        protocol_name="range",
        assignments=[{"member_id": first.member_id, "assignment": b"all"}],
    )
    assert (synced.assignment, synced.protocol_type, synced.protocol_name) == (b"all", "consumer", "range")
    for version in range(5):
        assert (await peer.ask(ApiKey.HEARTBEAT, version, **member)).error_code == 0
    commit = superset_request(broker.node, ApiKey.OFFSET_COMMIT)
    stranger = await peer.ask(ApiKey.OFFSET_COMMIT, 8, **commit)
    assert stranger.topics[0].partitions[0].error_code.name == "unknown_member_id"
    mine = commit | {"member_id": first.member_id, "generation_id_or_member_epoch": 1}
    committed = await peer.ask(ApiKey.OFFSET_COMMIT, 8, **mine)
    assert [each.error_code.name for each in committed.topics[0].partitions] == [
        "none",
        "unknown_topic_or_partition",
        "offset_metadata_too_large",
    ]
    described = await peer.ask(ApiKey.DESCRIBE_GROUPS, 5, groups=["g"], include_authorized_operations=False)
    assert described.groups[0].group_state == "Stable"
    assert described.groups[0].members[0].client_host == "/127.0.0.1"
    busy = await peer.ask(ApiKey.DELETE_GROUPS, 2, groups_names=["g"])
    assert busy.results[0].error_code.name == "non_empty_group"
    left = await peer.ask(ApiKey.LEAVE_GROUP, 2, group_id="g", member_id=first.member_id)
    assert left.error_code == 0
    gone = await peer.ask(ApiKey.DELETE_GROUPS, 2, groups_names=["g"])
    assert gone.results[0].error_code == 0


async def test_offsets_of_partitions_that_there_are_not_are_not_deleted(broker: Served, peer: Peer) -> None:
    """36,000 partitions of a topic that does not exist made a command that no broker survived."""
    committed = superset_request(broker.node, ApiKey.OFFSET_COMMIT)
    await peer.ask(ApiKey.OFFSET_COMMIT, 7, **committed)
    many = [{"partition_index": number} for number in range(2000)]
    named = [{"name": "t", "partitions": many[:3]}, {"name": "x" * 249, "partitions": many}]
    answer = await peer.ask(ApiKey.OFFSET_DELETE, 0, group_id="g", topics=named)
    assert answer.error_code == 0
    codes = [[each.error_code.name for each in topic.partitions] for topic in answer.topics]
    unknown = "unknown_topic_or_partition"
    assert codes == [["none", "none", unknown], [unknown] * 2000]
    assert broker.node.catalog.committed_offset("g", "t", 0) is None


async def test_nobody_writes_topics_that_are_named_as_kafkas_own(broker: Served, peer: Peer) -> None:
    broker.node.add_topic("__consumer_offsets")
    request = superset_request(broker.node, ApiKey.PRODUCE)
    request["topic_data"][0]["name"] = "__consumer_offsets"
    answer = await peer.ask(ApiKey.PRODUCE, 9, **request)
    assert answer.responses[0].partition_responses[0].error_code.name == "invalid_topic_exception"


@pytest.mark.parametrize("version", range(1, 10))
async def test_offsets_are_fetched_as_they_were_committed(broker: Served, peer: Peer, version: int) -> None:
    await peer.ask(ApiKey.OFFSET_COMMIT, 7, **superset_request(broker.node, ApiKey.OFFSET_COMMIT))
    request = superset_request(broker.node, ApiKey.OFFSET_FETCH)
    answer = await peer.ask(ApiKey.OFFSET_FETCH, version, **request)
    topics = answer.groups[0].topics if version >= 8 else answer.topics
    assert [(p.committed_offset, p.metadata) for p in topics[0].partitions] == [(7, "x"), (-1, "")]
    if version >= 2:
        everything = {"group_id": "g", "topics": None, "groups": [{"group_id": "g", "topics": None}]}
        answer = await peer.ask(ApiKey.OFFSET_FETCH, version, **everything)
        topics = answer.groups[0].topics if version >= 8 else answer.topics
        assert [p.partition_index for p in topics[0].partitions] == [0]
    broker.node.is_coordinator = False
    answer = await peer.ask(ApiKey.OFFSET_FETCH, version, **request)
    error = answer.groups[0].error_code if version >= 8 else getattr(answer, "error_code", None)
    if version == 1:
        error = answer.topics[0].partitions[0].error_code
    assert error is not None and error.name == "not_coordinator"


async def test_negative_offsets_are_kept_for_the_client_that_gave_them_a_meaning(
    broker: Served, peer: Peer
) -> None:
    """kafkajs commits -2 for the beginning and -1 for the end (admin.resetOffsets), and Kafka takes both."""
    for offset in (-2, -1):
        row = {"partition_index": 0, "committed_offset": offset, "committed_metadata": None}
        request = superset_request(broker.node, ApiKey.OFFSET_COMMIT)
        request["topics"] = [{"name": "t", "partitions": [row]}]
        answer = await peer.ask(ApiKey.OFFSET_COMMIT, 5, **request)
        assert answer.topics[0].partitions[0].error_code == 0
        fetched = await peer.ask(ApiKey.OFFSET_FETCH, 4, **superset_request(broker.node, ApiKey.OFFSET_FETCH))
        assert fetched.topics[0].partitions[0].committed_offset == offset


async def test_groups_that_nobody_knows_are_dead(peer: Peer) -> None:
    old = await peer.ask(ApiKey.DESCRIBE_GROUPS, 5, groups=["none"], include_authorized_operations=False)
    assert (old.groups[0].error_code, old.groups[0].group_state) == (0, "Dead")
    new = await peer.ask(ApiKey.DESCRIBE_GROUPS, 6, groups=["none"], include_authorized_operations=False)
    assert new.groups[0].error_code.name == "group_id_not_found"


async def test_groups_are_listed(broker: Served, peer: Peer) -> None:
    await peer.ask(ApiKey.OFFSET_COMMIT, 7, **superset_request(broker.node, ApiKey.OFFSET_COMMIT))
    listed = await peer.ask(ApiKey.LIST_GROUPS, 5, states_filter=[], types_filter=[])
    assert [(group.group_id, group.group_state) for group in listed.groups] == [("g", "Empty")]
    broker.node.proposals_fail = 1
    failed = await peer.ask(ApiKey.OFFSET_COMMIT, 7, **superset_request(broker.node, ApiKey.OFFSET_COMMIT))
    assert failed.topics[0].partitions[0].error_code.name == "coordinator_not_available"


# Administration


async def test_topics_are_created_grown_and_deleted(broker: Served, peer: Peer) -> None:
    create = superset_request(broker.node, ApiKey.CREATE_TOPICS)
    made = await peer.ask(ApiKey.CREATE_TOPICS, 7, **create | {"validate_only": True})
    assert made.topics[0].error_code == 0
    assert "made" not in broker.node.catalog.topics
    made = await peer.ask(ApiKey.CREATE_TOPICS, 7, **create)
    assert (made.topics[0].error_code, made.topics[0].num_partitions) == (0, 2)
    again = await peer.ask(ApiKey.CREATE_TOPICS, 7, **create)
    assert again.topics[0].error_code.name == "topic_already_exists"
    twice = await peer.ask(ApiKey.CREATE_TOPICS, 7, **create | {"topics": create["topics"] * 2})
    assert [topic.error_code.name for topic in twice.topics] == ["invalid_request"] * 2
    grow = {"topics": [{"name": "made", "count": 3, "assignments": None}], "timeout": 1}
    grown = await peer.ask(ApiKey.CREATE_PARTITIONS, 3, **grow, validate_only=False)
    assert grown.results[0].error_code == 0
    assert len(broker.node.catalog.topics["made"].partitions) == 3
    deleted = await peer.ask(ApiKey.DELETE_TOPICS, 5, topic_names=["made", "none"], timeout=1)
    assert [each.error_code.name for each in deleted.responses] == ["none", "unknown_topic_or_partition"]
    wanted = [{"name": None, "topic_id": topic_id(broker.node)}, {"name": None, "topic_id": bytes(16)}]
    deleted = await peer.ask(ApiKey.DELETE_TOPICS, 6, topics=wanted, timeout=1)
    assert [(each.name, each.error_code.name) for each in deleted.responses] == [
        ("t", "none"),
        (None, "invalid_request"),
    ]


def setting(name: str, value: str | None, operation: int = 0) -> dict[str, Any]:
    return {"name": name, "value": value, "config_operation": operation}


def alter(*configs: dict[str, Any], kind: int = 2, name: str = "t") -> dict[str, Any]:
    resource = {"resource_type": kind, "resource_name": name, "configs": list(configs)}
    return {"resources": [resource], "validate_only": False}


async def test_settings_are_changed_one_by_one(broker: Served, peer: Peer) -> None:
    ask: Callable[..., Any] = lambda request: peer.ask(ApiKey.INCREMENTAL_ALTER_CONFIGS, 1, **request)  # noqa: E731
    configs = lambda: broker.node.catalog.topics["t"].configs  # noqa: E731
    assert (await ask(alter(setting("retention.ms", "5")))).responses[0].error_code == 0
    assert configs() == {"retention.ms": "5"}
    appended = alter(setting("cleanup.policy", "delete", 2), setting("retention.ms", None, 1))
    assert (await ask(appended)).responses[0].error_code == 0
    assert configs() == {"cleanup.policy": "delete"}
    assert (await ask(alter(setting("cleanup.policy", "compact", 3)))).responses[0].error_code == 0
    assert configs() == {"cleanup.policy": "delete"}
    wrong = {
        "invalid_config": alter(setting("retention.ms", "soon")),
        "invalid_request": alter(setting("retention.ms", "x", 2)),
        "unknown_topic_or_partition": alter(setting("retention.ms", "5"), name="none"),
    }
    for error, request in wrong.items():
        assert (await ask(request)).responses[0].error_code.name == error
    broker_wide = (await ask(alter(setting("node.id", "5"), kind=4, name="1"))).responses[0]
    assert broker_wide.error_code.name == "invalid_config"


async def test_a_setting_that_is_not_set_can_be_removed(broker: Served, peer: Peer) -> None:
    """kafka-reassign-partitions removes its throttles from topics and brokers, whether it set any or not."""
    throttles = [setting(f"{side}.replication.throttled.rate", None, 1) for side in ("leader", "follower")]
    for kind, name in ((4, "1"), (4, ""), (2, "t")):
        answer = await peer.ask(
            ApiKey.INCREMENTAL_ALTER_CONFIGS, 1, **alter(*throttles, kind=kind, name=name)
        )
        assert (answer.responses[0].error_code, answer.responses[0].error_message) == (0, None)
    address = alter(setting("raftlog.peer.advertise", None, 1), kind=4, name="1")
    answer = await peer.ask(ApiKey.INCREMENTAL_ALTER_CONFIGS, 1, **address)
    assert answer.responses[0].error_code.name == "invalid_config"


@pytest.mark.parametrize(
    ("change", "name", "message"),
    [
        (setting("raftlog.draining", "true", 2), "1", "only be set or removed"),
        (setting("log.retention.ms", "5"), "", "no defaults for all brokers"),
        (setting("log.retention.ms", "5"), "one", "'one' is no broker id"),
        (setting("log.retention.ms", "5"), "1", "log.retention.ms = '5': only"),
    ],
)
async def test_what_brokers_are_refused_says_why(
    peer: Peer, change: dict[str, Any], name: str, message: str
) -> None:
    answer = await peer.ask(ApiKey.INCREMENTAL_ALTER_CONFIGS, 1, **alter(change, kind=4, name=name))
    assert answer.responses[0].error_code != 0
    assert message in answer.responses[0].error_message


@pytest.mark.parametrize("version", [0, 1, 2])
async def test_settings_are_replaced_altogether(broker: Served, peer: Peer, version: int) -> None:
    first = alter(setting("retention.ms", "5"), setting("segment.bytes", "100000"))
    await peer.ask(ApiKey.ALTER_CONFIGS, version, **first)
    await peer.ask(ApiKey.ALTER_CONFIGS, version, **alter(setting("retention.ms", "6")))
    assert broker.node.catalog.topics["t"].configs == {"retention.ms": "6"}


async def test_settings_are_replaced_by_a_client_that_leaves_out_the_last_byte(
    broker: Served, peer: Peer
) -> None:
    """Sarama does, in the flexible version: the number of tagged fields of the whole."""
    frame = b"".join(
        encode_request(ApiKey.ALTER_CONFIGS, 2, 5, "sarama", alter(setting("retention.ms", "6")))
    )
    assert frame[-1:] == b"\0"
    await peer.stream.send_all((len(frame) - 5).to_bytes(4, "big") + frame[4:-1])
    correlation_id, answer = decode_response(ApiKey.ALTER_CONFIGS, 2, await peer.frame())
    assert (correlation_id, answer.responses[0].error_code) == (5, 0)
    assert broker.node.catalog.topics["t"].configs == {"retention.ms": "6"}


async def test_replicas_of_a_topic_are_described_as_how_many_they_are(broker: Served, peer: Peer) -> None:
    resource = {
        "resource_type": 4,
        "resource_name": "1",
        "configuration_keys": ["default.replication.factor"],
    }
    for brokers, shown in ((1, "1"), (2, "2"), (3, "3"), (4, "3")):
        broker.node.add_broker(brokers)
        answer = await peer.ask(
            ApiKey.DESCRIBE_CONFIGS,
            4,
            resources=[resource],
            include_synonyms=True,
            include_documentation=False,
        )
        assert [each.value for each in answer.results[0].configs] == [shown]


# Listeners


@pytest.mark.parametrize(("listener", "port"), [("INTERNAL", 1), ("EXTERNAL", 2)])
async def test_brokers_are_where_the_listener_of_the_question_is(
    broker: Served, listener: str, port: int
) -> None:
    node = broker.node
    for number in (1, 2):
        node.add_broker(number)
        node.name_listeners(number, INTERNAL=1, EXTERNAL=2)
    node.add_broker(3)  # it has one listener: that is where everybody finds it
    node.partitions["t", 1].is_leader = False  # 2 leads
    peer = await broker.connect(listener)
    operations = {f"include_{which}_authorized_operations": False for which in ("cluster", "topic")}
    metadata = await peer.ask(ApiKey.METADATA, 9, topics=[], allow_auto_topic_creation=False, **operations)
    described = await peer.ask(ApiKey.DESCRIBE_CLUSTER, 1, include_cluster_authorized_operations=False)
    expected = [(f"{listener}.1", port), (f"{listener}.2", port), ("b3", 9092)]
    assert [(each.host, each.port) for each in metadata.brokers] == expected
    assert [(each.host, each.port) for each in described.brokers] == expected
    found = await peer.ask(ApiKey.FIND_COORDINATOR, 4, key_type=0, coordinator_keys=["g"])
    assert [(each.host, each.port) for each in found.coordinators] == expected[:1]
    fetched = await peer.ask(ApiKey.FETCH, 16, **fetch((1, 0), id_=topic_id(node)))
    assert [(each.host, each.port) for each in fetched.node_endpoints] == expected[1:2]
    produced = await peer.ask(ApiKey.PRODUCE, 10, **produce(batch(b"a"), partition=1))
    assert [(each.host, each.port) for each in produced.node_endpoints] == expected[1:2]


# What clients may do

TOPIC_OPERATIONS = {3, 4, 5, 6, 7, 8, 10, 11}
GROUP_OPERATIONS = {3, 6, 8, 10, 11}
CLUSTER_OPERATIONS = {5, 7, 8, 9, 10, 11, 12}
UNKNOWN = {31}
"""As Kafka 4.1 without an authorizer, by the numbers of its ACLs."""


def bits(field: int) -> set[int]:
    return {bit for bit in range(32) if field & (1 << bit)}


@pytest.mark.parametrize("partitions", [2, 40], ids=["encoded each time", "kept encoded"])
@pytest.mark.parametrize("version", range(8, 14))
async def test_metadata_tells_the_operations_of_topics_and_cluster_to_who_asks(
    broker: Served, peer: Peer, version: int, partitions: int
) -> None:
    """kafka-python 2's admin client asks, and fails on an answer that says "unknown"."""
    broker.node.add_topic("kept", partitions)
    for asks in (True, False, True):
        request = metadata(
            "kept",
            "absent",
            create=False,
            include_topic_authorized_operations=asks,
            include_cluster_authorized_operations=asks,
        )
        answer = await peer.ask(ApiKey.METADATA, version, **request)
        told = [bits(topic.topic_authorized_operations) for topic in answer.topics]
        assert told == [TOPIC_OPERATIONS if asks else UNKNOWN] * 2
        if version <= 10:
            assert bits(answer.cluster_authorized_operations) == (CLUSTER_OPERATIONS if asks else UNKNOWN)


@pytest.mark.parametrize("version", range(3))
async def test_describe_cluster_tells_the_operations_to_who_asks(peer: Peer, version: int) -> None:
    for asks in (True, False):
        answer = await peer.ask(
            ApiKey.DESCRIBE_CLUSTER,
            version,
            include_cluster_authorized_operations=asks,
            endpoint_type=1,
            include_fenced_brokers=False,
        )
        assert bits(answer.cluster_authorized_operations) == (CLUSTER_OPERATIONS if asks else UNKNOWN)


@pytest.mark.parametrize("version", range(3, 7))
async def test_describe_groups_tells_the_operations_to_who_asks(
    broker: Served, peer: Peer, version: int
) -> None:
    await peer.ask(ApiKey.OFFSET_COMMIT, 7, **superset_request(broker.node, ApiKey.OFFSET_COMMIT))
    for asks in (True, False):
        answer = await peer.ask(
            ApiKey.DESCRIBE_GROUPS, version, groups=["g", "none"], include_authorized_operations=asks
        )
        for group in answer.groups:
            tells = asks and not group.error_code
            assert bits(group.authorized_operations) == (GROUP_OPERATIONS if tells else UNKNOWN)


# Users


def upsert(**changed: object) -> dict[str, object]:
    return UPSERT | changed


@pytest.mark.parametrize(
    ("changed", "code"),
    [
        ({}, "none"),
        ({"iterations": 1}, "unacceptable_credential"),
        ({"iterations": 4095}, "unacceptable_credential"),
        ({"iterations": 16384}, "none"),
        ({"iterations": 16385}, "unacceptable_credential"),
        ({"iterations": 2**31 - 1}, "unacceptable_credential"),
        ({"salt": b"short"}, "unacceptable_credential"),
        ({"salt": bytes(257)}, "unacceptable_credential"),
        ({"salted_password": bytes(32)}, "unacceptable_credential"),
        ({"mechanism": 0}, "unsupported_sasl_mechanism"),
        ({"mechanism": 3}, "unsupported_sasl_mechanism"),
        ({"name": ""}, "unacceptable_credential"),
        ({"name": "x" * 256}, "unacceptable_credential"),
        ({"name": "a\x00b"}, "unacceptable_credential"),
    ],
)
async def test_a_credential_is_taken_within_kafkas_bounds(
    broker: Served, peer: Peer, changed: dict[str, object], code: str
) -> None:
    """Security scenario 20."""
    answer = await peer.ask(
        ApiKey.ALTER_USER_SCRAM_CREDENTIALS, 0, upsertions=[upsert(**changed)], deletions=[]
    )
    assert [result.error_code.name for result in answer.results] == [code]
    assert len(broker.node.catalog.users) == (code == "none")


async def test_a_user_with_a_fault_changes_nothing_and_the_others_do(broker: Served, peer: Peer) -> None:
    answer = await peer.ask(
        ApiKey.ALTER_USER_SCRAM_CREDENTIALS,
        0,
        upsertions=[
            upsert(),
            upsert(mechanism=1, salted_password=bytes(32)),
            upsert(name="bob"),
            upsert(name="bob", mechanism=1),
            upsert(name="carol"),
            upsert(name="carol"),
        ],
        deletions=[{"name": "dave", "mechanism": 2}, {"name": "erin", "mechanism": 9}],
    )
    codes = {result.user: result.error_code.name for result in answer.results}
    assert codes == {
        "alice": "none",
        "bob": "unacceptable_credential",
        "carol": "duplicate_resource",
        "dave": "resource_not_found",
        "erin": "unsupported_sasl_mechanism",
    }
    assert list(broker.node.catalog.users) == ["alice"]
    assert set(broker.node.catalog.users.of("alice")) == {"SCRAM-SHA-256", "SCRAM-SHA-512"}


@pytest.mark.parametrize("asked", [None, [], [{"name": "alice"}, {"name": "bob"}, {"name": "bob"}]])
async def test_users_are_described_without_keys(peer: Peer, asked: list[dict[str, str]] | None) -> None:
    await peer.ask(ApiKey.ALTER_USER_SCRAM_CREDENTIALS, 0, upsertions=[upsert()], deletions=[])
    answer = await peer.ask(ApiKey.DESCRIBE_USER_SCRAM_CREDENTIALS, 0, users=asked)
    found = {result.user: result for result in answer.results}
    assert [(i.mechanism, i.iterations) for i in found["alice"].credential_infos] == [(2, 4096)]
    if asked:
        assert found["bob"].error_code.name == "duplicate_resource"
    else:
        assert list(found) == ["alice"]


async def test_two_names_that_look_alike_are_one_user(broker: Served, peer: Peer) -> None:
    """Security scenario 23: SASLprep makes one of them."""
    for name, iterations in (("\u2168", 5000), ("IX", 6000)):
        changed = [upsert(name=name, iterations=iterations)]
        answer = await peer.ask(ApiKey.ALTER_USER_SCRAM_CREDENTIALS, 0, upsertions=changed, deletions=[])
        assert answer.results[0].user == name
    known = broker.node.catalog.users
    assert list(known) == ["IX"] and known.of("IX")["SCRAM-SHA-512"].iterations == 6000


async def test_before_every_broker_knows_users_none_is_proposed(broker: Served, peer: Peer) -> None:
    broker.node.catalog.features[METADATA_LEVEL] = USERS_LEVEL - 1
    answer = await peer.ask(ApiKey.ALTER_USER_SCRAM_CREDENTIALS, 0, upsertions=[upsert()], deletions=[])
    assert answer.results[0].error_code.name == "unsupported_version"
    assert not broker.node.catalog.users


# Rights, which are not built yet


@pytest.mark.parametrize("version", [1, 3])
async def test_rules_are_refused_as_without_an_authorizer(broker: Served, peer: Peer, version: int) -> None:
    described = await peer.ask(ApiKey.DESCRIBE_ACLS, version, **ANY_ACL)
    created = await peer.ask(ApiKey.CREATE_ACLS, version, creations=[ONE_ACL, ONE_ACL])
    deleted = await peer.ask(ApiKey.DELETE_ACLS, version, filters=[ANY_ACL])
    refused = [described, *created.results, *deleted.filter_results]
    assert [each.error_code.name for each in refused] == ["security_disabled"] * 4
    assert {each.error_message for each in refused} == {"No Authorizer is configured."}


async def test_credentials_are_refused_where_none_are_asked_for(peer: Peer) -> None:
    for version in (0, 1):
        answer = await peer.ask(ApiKey.SASL_HANDSHAKE, version, mechanism="PLAIN")
        assert (answer.error_code.name, answer.mechanisms) == ("illegal_sasl_state", (NO_LOGIN,))
    for version in (0, 1, 2):
        answer = await peer.ask(ApiKey.SASL_AUTHENTICATE, version, auth_bytes=b"\0me\0secret")
        assert answer.error_code.name == "illegal_sasl_state"
        assert "listener INTERNAL asks for no login" in answer.error_message


async def test_settings_are_described(broker: Served, peer: Peer) -> None:
    await peer.ask(ApiKey.ALTER_CONFIGS, 1, **alter(setting("retention.ms", "5")))
    request = superset_request(broker.node, ApiKey.DESCRIBE_CONFIGS)
    answer = await peer.ask(ApiKey.DESCRIBE_CONFIGS, 4, **request)
    topic, broker_, unknown = answer.results
    retention = next(each for each in topic.configs if each.name == "retention.ms")
    assert (retention.value, retention.config_source, retention.config_type) == ("5", 1, 5)
    assert retention.synonyms[0].value == "5"
    assert retention.documentation
    assert [each.name for each in broker_.configs] == ["node.id"]
    assert unknown.error_code.name == "invalid_request"


async def test_records_are_deleted_from_the_start(broker: Served, peer: Peer) -> None:
    await peer.ask(ApiKey.PRODUCE, 9, **produce(batch(b"a", b"b")))
    request = superset_request(broker.node, ApiKey.DELETE_RECORDS)
    answer = await peer.ask(ApiKey.DELETE_RECORDS, 2, **request)
    assert answer.topics[0].partitions[0].low_watermark == 2
    fetched = await peer.ask(ApiKey.FETCH, 12, **fetch((0, 0)))
    assert fetched.responses[0].partitions[0].error_code.name == "offset_out_of_range"
    assert fetched.responses[0].partitions[0].log_start_offset == 2


async def test_a_partition_whose_records_are_deleted_twice_is_asked_once(broker: Served, peer: Peer) -> None:
    await peer.ask(ApiKey.PRODUCE, 9, **produce(batch(b"a", b"b")))
    rows = [{"partition_index": 0, "offset": offset} for offset in (2, 1)]
    request = {"topics": [{"name": "t", "partitions": rows}], "timeout": 1000}
    (topic,) = (await peer.ask(ApiKey.DELETE_RECORDS, 2, **request)).topics
    assert [each.low_watermark for each in topic.partitions] == [1]


@pytest.mark.parametrize("wait_ms", [0, 5000])
async def test_a_leader_that_was_replaced_does_not_call_an_offset_out_of_range(
    broker: Served, peer: Peer, wait_ms: int
) -> None:
    """It was paused, and its consumers have read further meanwhile: OFFSET_OUT_OF_RANGE would make them start
    over, NOT_LEADER_OR_FOLLOWER makes them look for its successor."""
    await peer.ask(ApiKey.PRODUCE, 9, **produce(batch(b"a", b"b")))
    replica = broker.node.partitions["t", 0]

    def step_down(now: float, then: Callable[[bool], None]) -> None:
        replica.is_leader = False
        then(False)

    replica.confirm_leadership = step_down  # type: ignore[method-assign]
    fetched = await peer.ask(ApiKey.FETCH, 12, **{**fetch((0, 19)), "max_wait": wait_ms})
    assert fetched.responses[0].partitions[0].error_code.name == "not_leader_or_follower"


async def test_a_leader_that_was_replaced_does_not_say_where_an_epoch_ended(
    broker: Served, peer: Peer
) -> None:
    """Its log is shorter than what its consumers have read meanwhile: they would take that for cut off, and
    start over."""
    await peer.ask(ApiKey.PRODUCE, 9, **produce(batch(b"a", b"b")))
    replica = broker.node.partitions["t", 0]

    def step_down(now: float, then: Callable[[bool], None]) -> None:
        replica.is_leader = False
        then(False)

    replica.confirm_leadership = step_down  # type: ignore[method-assign]
    wanted = {"partition": 0, "current_leader_epoch": -1, "leader_epoch": replica.leader_epoch}
    answer = await peer.ask(
        ApiKey.OFFSET_FOR_LEADER_EPOCH, 4, replica_id=-1, topics=[{"topic": "t", "partitions": [wanted]}]
    )
    assert answer.topics[0].partitions[0].error_code.name == "not_leader_or_follower"


async def test_a_leadership_under_way_is_waited_for_to_name_the_new_leader(
    broker: Served, peer: Peer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A client that is told of nobody asks again, and again, each time after a longer pause."""
    node = broker.node
    node.partitions["t", 0].is_leader = False
    node.no_leader = True

    async def wait_for_leaders(topic: object) -> None:
        await trio.sleep(0.02)
        node.no_leader = False

    monkeypatch.setattr(node, "wait_for_leaders", wait_for_leaders)
    answer = await peer.ask(ApiKey.PRODUCE, 10, **produce(batch(b"a")))
    refused = answer.responses[0].partition_responses[0]
    assert refused.error_code.name == "not_leader_or_follower"
    assert refused.current_leader.leader_id == 2
    assert answer.node_endpoints == ()  # the fake's catalog knows no broker 2


async def test_a_partition_loses_its_leader_while_the_name_of_another_one_s_is_waited_for(
    clock: MockClock, broker: Served, peer: Peer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its topic is added to those without a leader while these are gone through."""
    node = broker.node
    node.add_topic("u", 1)
    node.partitions["t", 0].is_leader = False
    node.partitions["u", 0].hold = True
    node.no_leader = True
    seen = []

    async def wait_for_leaders(topic: Topic) -> None:
        seen.append(topic.name)
        node.partitions["u", 0].failure = PartitionError.NOT_LEADER
        node.partitions["u", 0].refuse_held()
        await trio.sleep(0.01)

    monkeypatch.setattr(node, "wait_for_leaders", wait_for_leaders)
    wanted = produce(batch(b"a"))["topic_data"] + produce(batch(b"a"), topic="u")["topic_data"]
    answer = await peer.ask(ApiKey.PRODUCE, 10, acks=-1, timeout=30_000, topic_data=wanted)
    codes = [each.partition_responses[0].error_code.name for each in answer.responses]
    assert codes == ["not_leader_or_follower"] * 2
    assert seen == ["t"]


async def test_nobody_waits_for_ever_for_the_name_of_a_leader(
    clock: MockClock, broker: Served, peer: Peer, monkeypatch: pytest.MonkeyPatch
) -> None:
    node = broker.node
    node.partitions["t", 0].is_leader = False
    node.no_leader = True

    async def wait_for_leaders(topic: object) -> None:
        await trio.sleep_forever()

    monkeypatch.setattr(node, "wait_for_leaders", wait_for_leaders)
    answer = await peer.ask(ApiKey.PRODUCE, 10, **produce(batch(b"a")))
    assert answer.responses[0].partition_responses[0].error_code.name == "not_leader_or_follower"


@pytest.mark.parametrize(
    ("version", "timestamp", "error"),
    [
        (1, -2, "none"),
        (6, -3, "unsupported_version"),
        (7, -3, "none"),
        (7, -4, "unsupported_version"),
        (8, -4, "none"),
        (8, -5, "unsupported_version"),
        (9, -5, "none"),
        (10, -6, "unsupported_version"),
        (10, -7, "unsupported_version"),
        (10, -100, "unsupported_version"),
    ],
)
async def test_a_special_timestamp_has_a_meaning_from_its_version_on(
    peer: Peer, version: int, timestamp: int, error: str
) -> None:
    """As Apache Kafka 4.1 answers; to take it for a time would be a wrong offset."""
    partition = {"partition_index": 0, "timestamp": timestamp}
    asked = {"topics": [{"name": "t", "partitions": [partition]}], "replica_id": -1, "isolation_level": 0}
    answer = await peer.ask(ApiKey.LIST_OFFSETS, version, **asked, timeout=1000)
    assert answer.topics[0].partitions[0].error_code.name == error


REPEATED: dict[ApiKey, tuple[dict[str, Any], str]] = {
    ApiKey.CREATE_TOPICS: (
        {
            "topics": [
                {
                    "name": "new",
                    "num_partitions": 1,
                    "replication_factor": 1,
                    "assignments": [],
                    "configs": [],
                }
            ],
            "validate_only": False,
        },
        "topics",
    ),
    ApiKey.DELETE_TOPICS: ({"topics": [{"name": "t", "topic_id": None}], "topic_names": ["t"]}, "responses"),
    ApiKey.CREATE_PARTITIONS: (
        {"topics": [{"name": "t", "count": 9, "assignments": None}], "validate_only": False},
        "results",
    ),
    ApiKey.ALTER_CONFIGS: (alter(setting("retention.ms", "5")), "responses"),
    ApiKey.INCREMENTAL_ALTER_CONFIGS: (alter(setting("retention.ms", "5")), "responses"),
    ApiKey.ALTER_PARTITION_REASSIGNMENTS: (
        {
            "topics": [{"name": "t", "partitions": [{"partition_index": 0, "replicas": [1]}]}],
            "allow_replication_factor_change": True,
        },
        "responses.partitions",
    ),
    ApiKey.ELECT_LEADERS: (
        {"topic_partitions": [{"topic": "t", "partitions": [0]}], "election_type": 0},
        "replica_election_results.partition_result",
    ),
}
"""What changes resources that a request names, and where its answer has the codes."""
TAKES_REPEATED_ONCE = {
    ApiKey.ALTER_USER_SCRAM_CREDENTIALS,
    ApiKey.DELETE_RECORDS,
    ApiKey.DELETE_GROUPS,
    ApiKey.OFFSET_DELETE,
    ApiKey.WRITE_TXN_MARKERS,
    ApiKey.ALTER_CLIENT_QUOTAS,
}
CHANGES_NOTHING_NAMED = {ApiKey.CREATE_ACLS, ApiKey.DELETE_ACLS, ApiKey.UNREGISTER_BROKER}
REFUSES_AS_A_WHOLE = {ApiKey.UPDATE_FEATURES}
"""Its newest version has no rows: see `test_broker_features.py`."""
CHANGES = {Operation.CREATE, Operation.DELETE, Operation.ALTER, Operation.ALTER_CONFIGS}


@pytest.mark.parametrize("api", list(served()), ids=lambda api: api.key.name)
async def test_what_is_to_change_is_named_once(broker: Served, peer: Peer, api: Api) -> None:
    """One topic's settings, replaced thirty thousand times in one request, kept a controller for a minute."""
    if api.right is None or api.right.operation not in CHANGES:
        return
    if api.key not in REPEATED:
        assert api.key in TAKES_REPEATED_ONCE | CHANGES_NOTHING_NAMED | REFUSES_AS_A_WHOLE
        return
    request, where = REPEATED[api.key]
    repeated = {name: each * 3 if isinstance(each, list) else each for name, each in request.items()}
    before = dict(broker.node.catalog.topics)
    answer = await peer.ask(api.key, api.last, **repeated, timeout=1000)
    rows = [answer]
    for name in where.split("."):
        rows = [each for row in rows for each in getattr(row, name)]
    assert [row.error_code.name for row in rows] == ["invalid_request"] * 3
    assert broker.node.catalog.topics == before


async def test_what_is_named_again_is_deleted_and_described_once(broker: Served, peer: Peer) -> None:
    answer = await peer.ask(ApiKey.DELETE_GROUPS, 2, groups_names=["g"] * 3)
    assert [row.group_id for row in answer.results] == ["g"]
    topic = {"name": "t", "partitions": [{"partition_index": 0, "offset": 0}]}
    answer = await peer.ask(ApiKey.DELETE_RECORDS, 2, topics=[topic] * 3, timeout=1000)
    assert [[row.partition_index for row in topic.partitions] for topic in answer.topics] == [[0]]
    resource = {"resource_type": 2, "resource_name": "t", "configuration_keys": None}
    asked = {"resources": [resource] * 3, "include_synonyms": False, "include_documentation": False}
    answer = await peer.ask(ApiKey.DESCRIBE_CONFIGS, 4, **asked)
    assert [row.resource_name for row in answer.results] == ["t"]
    asked = {"groups": ["g"] * 3, "include_authorized_operations": False}
    answer = await peer.ask(ApiKey.DESCRIBE_GROUPS, 6, **asked)
    assert [row.group_id for row in answer.groups] == ["g"]


async def test_a_fetch_of_many_partitions_leaves_others_their_turn(
    broker: Served, peer: Peer, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Turns(trio.abc.Instrument):
        count = 0

        def before_io_wait(self, timeout: float) -> None:
            self.count += 1

    turns, seen = Turns(), list[int]()
    resolve, read = handlers_fetch.find_partition, handlers_fetch._read

    def resolving(*wanted: Any) -> Any:
        seen.append(turns.count)
        return resolve(*wanted)

    def reading(*wanted: Any) -> Any:
        seen.append(turns.count)
        return read(*wanted)

    monkeypatch.setattr(handlers_fetch, "find_partition", resolving)
    monkeypatch.setattr(handlers_fetch, "_read", reading)
    trio.lowlevel.add_instrument(turns)
    many = await peer.ask(ApiKey.FETCH, 11, **fetch(*[(0, 0)] * (handlers_fetch.AT_ONCE_MAX + 1)))
    trio.lowlevel.remove_instrument(turns)
    assert len(many.responses[0].partitions) == handlers_fetch.AT_ONCE_MAX + 1
    assert seen[0] == seen[-2] < seen[-1]
