"""A client without any right: the walk over the registry, so that an API that is added is in it.

Each request is sent to a broker on which what it names exists, and to one on which nothing does. Both answer
with the same bytes, refuse, and change nothing.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from dataclasses import fields
from typing import Any, Final

import pytest
import trio
import trio.testing

from raftlog.broker.registry import Api, served
from raftlog.config.table import STANDARD_AUTHORIZER
from raftlog.metadata.acl_table import AclBinding
from raftlog.metadata.acls import CreateAcls
from raftlog.metadata.noun import Command, Refused
from raftlog.metadata.offsets import CommitOffsets, GroupCommit, OffsetCommit
from raftlog.metadata.transactions import InitProducer
from raftlog.protocol.api import ApiKey
from raftlog.protocol.codec import decode_response
from raftlog.protocol.schema import Field, Struct, message_struct
from raftlog.records.record import NewRecord, encode_batch
from raftlog.rights import Operation, ResourceKind
from raftlog.types import RaftIndex
from tests.memory.broker_fakes import FakeNode, Peer, Served

TOPIC, CLUSTER = ResourceKind.TOPIC, ResourceKind.CLUSTER
READ, WRITE, CREATE, DESCRIBE = Operation.READ, Operation.WRITE, Operation.CREATE, Operation.DESCRIBE
REAL: Final = "real"
REFUSED: Final = {29, 30, 31, 53, 100}
"""Of topics, groups, the cluster, transactional ids; 100 for an id that nobody has, which is no secret."""
NOT_ATTEMPTED: Final = 55
SILENT: Final = {ApiKey.LIST_GROUPS, ApiKey.LIST_TRANSACTIONS, ApiKey.DESCRIBE_CLUSTER}
"""They leave out what may not be seen, and refuse nothing."""
ANSWER_S: Final = 20.0

SHAPES: Final = ("named", "empty", "null")
PLAUSIBLE: Final[dict[str, Any]] = {
    "acks": -1,
    "resource_type": 2,
    "resource_type_filter": 2,
    "pattern_type_filter": 3,
    "resource_pattern_type": 3,
    "operation": 3,
    "permission_type": 3,
    "endpoint_type": 1,
    "principal": "User:eve",
    "host": "*",
    "num_partitions": 1,
    "replication_factor": 1,
    "count": 7,
    "timeout": 100,
    "generation_id_or_member_epoch": -1,
    "session_id": 0,
}


def request_of(layout: Struct, shape: str) -> dict[str, Any]:
    return {field.name: _value(field, shape) for field in layout.fields}


def _value(field: Field, shape: str) -> Any:
    if field.array:
        if shape == "null" and field.nullable:
            return None
        return [] if shape != "named" else [_element(field, shape)]
    return _element(field, shape)


def _element(field: Field, shape: str) -> Any:
    if field.struct:
        return request_of(field.struct, shape)
    if field.name in PLAUSIBLE:
        return PLAUSIBLE[field.name]
    match field.kind:
        case "string":
            return None if shape == "null" and field.nullable else REAL
        case "bytes" | "records":
            return None if field.nullable else b""
        case "uuid":
            return bytes(16)
        case "bool":
            return True
        case _:
            return 0


def history() -> Iterator[Command]:
    """Whatever the requests may name."""
    offset = OffsetCommit(REAL, 0, 5)
    yield CommitOffsets(commits=(GroupCommit(REAL, 1, (offset,)),))
    yield InitProducer(transactional_id=REAL, timeout_ms=1000, producer_id=-1, epoch=-1, at_ms=1)


class World:
    """A broker, with what is named or without."""

    def __init__(self, *, has_it: bool, nursery: trio.Nursery) -> None:
        self.node = FakeNode(authorizer_class_name=STANDARD_AUTHORIZER, super_users="User:admin")
        if has_it:
            self.node.add_topic(REAL, 2)
            for index, command in enumerate(history(), 10):
                self.node.state.apply(command, RaftIndex(index))
        self.served = Served(self.node, nursery)
        self.before = self.digest()

    def digest(self) -> object:
        ends = [partition.log_end_offset for partition in self.node.partitions.values()]
        return self.node.state.digest(), ends, self.node.groups.list_groups()


@pytest.fixture
async def worlds(nursery: trio.Nursery) -> AsyncIterator[list[World]]:
    both = [World(has_it=True, nursery=nursery), World(has_it=False, nursery=nursery)]
    yield both
    for world in both:
        await world.served.aclose()


def codes_in(answer: Any) -> Iterator[int]:
    for field in fields(answer):
        value = getattr(answer, field.name)
        if field.name.endswith("error_code"):
            yield int(value)
        for one in value if isinstance(value, tuple) else (value,):
            if hasattr(one, "__dataclass_fields__"):
                yield from codes_in(one)


async def raw_answer(peer: Peer, api: Api, version: int, request: dict[str, Any]) -> bytes:
    with trio.fail_after(ANSWER_S):
        await peer.send(api.key, version, **request)
        return await peer.frame()


@pytest.mark.parametrize("api", [each for each in served() if each.rule], ids=lambda api: api.key.name)
async def test_without_a_right_what_is_there_and_what_is_not_answer_alike(
    worlds: list[World], api: Api
) -> None:
    """Scenario 40."""
    peers = [await world.served.connect() for world in worlds]
    for version in range(3 if api.key is ApiKey.PRODUCE else api.first, api.last + 1):
        for shape in SHAPES:
            request = request_of(message_struct(api.key, version, "request"), shape)
            there, absent = [await raw_answer(peer, api, version, request) for peer in peers]
            assert there == absent, f"{api.key.name} v{version}, {shape}: {there!r} and {absent!r}"
            _, answer = decode_response(api.key, version, there)
            codes = set(codes_in(answer))
            assert codes <= {0, NOT_ATTEMPTED, *REFUSED}, f"v{version}, {shape}: {answer!r}"
            has_code = api.key is not ApiKey.DESCRIBE_LOG_DIRS or version >= 3
            if shape == "named" and api.key not in SILENT and has_code:
                assert codes & REFUSED, f"v{version}: {answer!r}"
    for world in worlds:
        assert world.digest() == world.before


# What single APIs say


def allow(node: FakeNode, *rules: tuple[int, str, int], permission: int = 3, host: str = "*") -> None:
    """(kind, name, operation) to everybody."""
    rows = tuple(AclBinding(kind, 3, name, "User:*", host, op, permission) for kind, name, op in rules)
    index = RaftIndex(node.catalog.applied_index + 1)
    assert not isinstance(node.state.apply(CreateAcls(bindings=rows), index), Refused)


@pytest.fixture
async def world(worlds: list[World]) -> World:
    return worlds[0]


def metadata(*names: str | None, topic_id: bytes = bytes(16), create: bool = True) -> dict[str, Any]:
    return {
        "topics": [{"topic_id": topic_id, "name": name} for name in names] if names else None,
        "allow_auto_topic_creation": create,
        "include_topic_authorized_operations": True,
        "include_cluster_authorized_operations": True,
    }


async def test_metadata_shows_what_may_be_described(world: World) -> None:
    """Scenarios 41 and 43: all topics, one by id, and what may be done with them (KIP-430)."""
    node, peer = world.node, await world.served.connect()
    node.add_topic("other", 1)
    topic_id = node.catalog.topics["other"].topic_id
    answer = await peer.ask(ApiKey.METADATA, 10, **metadata())
    assert answer.topics == () and len(answer.brokers) == 1
    assert answer.cluster_authorized_operations == 0
    by_id = await peer.ask(ApiKey.METADATA, 12, **metadata(None, topic_id=topic_id))
    assert [(one.error_code, one.name) for one in by_id.topics] == [(29, None)]
    allow(node, (TOPIC, "other", READ), (CLUSTER, "kafka-cluster", DESCRIBE))
    answer = await peer.ask(ApiKey.METADATA, 10, **metadata())
    assert [(one.name, one.topic_authorized_operations) for one in answer.topics] == [("other", 264)]
    assert answer.cluster_authorized_operations == 1 << DESCRIBE
    by_id = await peer.ask(ApiKey.METADATA, 12, **metadata(None, topic_id=topic_id))
    assert [(one.error_code, one.name) for one in by_id.topics] == [(0, "other")]


async def test_a_topic_is_not_created_by_who_may_only_write(world: World) -> None:
    """Scenario 42."""
    node, peer = world.node, await world.served.connect()
    allow(node, (TOPIC, "new", WRITE))
    answer = await peer.ask(ApiKey.METADATA, 12, **metadata("new"))
    assert answer.topics[0].error_code == 29 and "new" not in node.catalog.topics
    allow(node, (TOPIC, "new", CREATE))
    answer = await peer.ask(ApiKey.METADATA, 12, **metadata("new"))
    assert answer.topics[0].error_code == 0 and "new" in node.catalog.topics


async def test_a_fetch_that_waits_is_judged_again(world: World) -> None:
    """Scenario 36: a record that came after the deny goes to nobody."""
    node, peer = world.node, await world.served.connect()
    allow(node, (TOPIC, REAL, READ), (TOPIC, REAL, WRITE))
    writer = await world.served.connect()
    await peer.send(ApiKey.FETCH, 12, **fetch(REAL, max_wait=60_000))
    await trio.testing.wait_all_tasks_blocked()
    allow(node, (TOPIC, REAL, READ), permission=2)
    answer = await writer.ask(ApiKey.PRODUCE, 9, **produce(REAL))
    assert answer.responses[0].partition_responses[0].error_code == 0
    with trio.fail_after(ANSWER_S):
        _, fetched = await peer.receive(ApiKey.FETCH, 12)
    partition = fetched.responses[0].partitions[0]
    assert (partition.error_code, partition.records) == (29, None) or not partition.records
    assert partition.error_code == 29


async def test_a_broker_that_may_not_decide_serves_nobody(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Scenarios 32 and 33, on the broker that has lost its lease."""
    monkeypatch.setattr("raftlog.broker.judging.PATIENCE_S", 0.1)
    node, peer = world.node, await world.served.connect()
    allow(node, (TOPIC, REAL, READ), (TOPIC, REAL, WRITE), (TOPIC, REAL, DESCRIBE))
    node.is_current = False
    answer = await peer.ask(ApiKey.PRODUCE, 9, **produce(REAL))
    assert answer.responses[0].partition_responses[0].error_code == 6
    answer = await peer.ask(ApiKey.FETCH, 12, **fetch(REAL))
    assert answer.responses[0].partitions[0].error_code == 6
    other = await world.served.connect()
    await other.send(ApiKey.METADATA, 12, **metadata(REAL))
    with trio.fail_after(ANSWER_S):
        assert await other.is_closed()


def produce(topic: str) -> dict[str, Any]:
    records = bytes(encode_batch([NewRecord(1000, None, b"v", ())]))
    rows = [{"name": topic, "partition_data": [{"index": 0, "records": records}]}]
    return {"transactional_id": None, "acks": -1, "timeout": 5000, "topic_data": rows}


def fetch(topic: str, *, max_wait: int = 0) -> dict[str, Any]:
    partition = {
        "partition": 0,
        "current_leader_epoch": -1,
        "fetch_offset": 0,
        "last_fetched_epoch": -1,
        "log_start_offset": -1,
        "partition_max_bytes": 1 << 20,
    }
    return {
        "max_wait": max_wait,
        "min_bytes": 1,
        "max_bytes": 1 << 20,
        "isolation_level": 0,
        "session_id": 0,
        "session_epoch": -1,
        "topics": [{"topic": topic, "topic_id": bytes(16), "partitions": [partition]}],
        "forgotten_topics_data": [],
        "rack_id": "",
    }
