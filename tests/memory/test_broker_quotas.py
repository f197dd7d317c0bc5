"""Clients above their quotas: told, and not read from until they are below."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from raftlog.metadata.quota_table import Entity
from raftlog.metadata.quotas import AlterQuotas, QuotaChange
from raftlog.protocol.api import ApiKey
from raftlog.records.record import NewRecord, encode_batch
from raftlog.types import RaftIndex
from tests.clocks import thread_clock
from tests.memory.broker_fakes import FakeNode, Served
from tests.memory.test_broker_authorized import fetch

ANONYMOUS: Entity = (("user", "ANONYMOUS"),)


def limit(node: FakeNode, entity: Entity = ANONYMOUS, **values: str) -> None:
    index = RaftIndex(node.catalog.applied_index + 1)
    node.state.apply(AlterQuotas(changes=(QuotaChange(entity=entity, values=values),)), index)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> MockClock:
    return thread_clock(monkeypatch)


@pytest.fixture
async def broker(nursery: trio.Nursery) -> AsyncIterator[Served]:
    node = FakeNode()
    node.add_topic("t", 1)
    served = Served(node, nursery)
    yield served
    await served.aclose()


def produce(size: int, *, acks: int = -1) -> dict[str, Any]:
    records = bytes(encode_batch([NewRecord(1000, None, b"x" * size, ())]))
    rows = [{"name": "t", "partition_data": [{"index": 0, "records": records}]}]
    return {"transactional_id": None, "acks": acks, "timeout": 5000, "topic_data": rows}


async def test_who_produces_too_much_is_told_and_waits(clock: MockClock, broker: Served) -> None:
    limit(broker.node, producer_byte_rate="10000")
    peer = await broker.connect()
    answer = await peer.ask(ApiKey.PRODUCE, 9, **produce(10_000))
    assert answer.throttle_time.total_seconds() == 0
    begun = trio.current_time()
    answer = await peer.ask(ApiKey.PRODUCE, 9, **produce(34_000))
    told = answer.throttle_time.total_seconds()
    assert 0.5 < told < 2.5
    await peer.ask(ApiKey.API_VERSIONS, 3, client_software_name="c", client_software_version="1")
    assert trio.current_time() - begun >= told - 0.02
    other = await broker.connect()  # another connection of the user shares the measure
    answer = await other.ask(ApiKey.PRODUCE, 9, **produce(10_000))
    assert answer.throttle_time.total_seconds() > 0


async def test_acks_0_is_slowed_down_too(clock: MockClock, broker: Served) -> None:
    """Scenario 58."""
    limit(broker.node, producer_byte_rate="10000")
    peer = await broker.connect()
    begun = trio.current_time()
    for _ in range(3):
        await peer.send(ApiKey.PRODUCE, 9, **produce(14_000, acks=0))
    await peer.ask(ApiKey.API_VERSIONS, 3, client_software_name="c", client_software_version="1")
    assert trio.current_time() - begun >= 0.6


async def test_who_fetches_too_much_is_told_and_given_nothing(clock: MockClock, broker: Served) -> None:
    peer = await broker.connect()
    await peer.ask(ApiKey.PRODUCE, 9, **produce(34_000))
    limit(broker.node, consumer_byte_rate="10000")
    answer = await peer.ask(ApiKey.FETCH, 12, **fetch("t"))
    assert len(answer.responses[0].partitions[0].records) > 34_000
    assert 0.5 < answer.throttle_time.total_seconds() < 1.5
    other = await broker.connect()
    answer = await other.ask(ApiKey.FETCH, 12, **fetch("t"))
    assert answer.responses == () and answer.throttle_time.total_seconds() > 0
    answer = await peer.ask(ApiKey.FETCH, 12, **fetch("t"))  # after its pause
    assert answer.responses != ()


async def test_partitions_are_created_at_a_rate(broker: Served) -> None:
    limit(broker.node, controller_mutation_rate="0.1")
    peer = await broker.connect()

    def topics(*names: str) -> dict[str, Any]:
        rows = [
            {"name": name, "num_partitions": 2, "replication_factor": 1, "assignments": [], "configs": []}
            for name in names
        ]
        return {"topics": rows, "timeout": 5000, "validate_only": False}

    answer = await peer.ask(ApiKey.CREATE_TOPICS, 7, **topics("a", "b"))
    assert sorted(row.error_code for row in answer.topics) == [0, 89]
    assert answer.throttle_time.total_seconds() > 0
    old = await broker.connect()
    answer = await old.ask(ApiKey.CREATE_TOPICS, 5, **topics("c"))
    assert [row.error_code for row in answer.topics] == [0]
    assert answer.throttle_time.total_seconds() > 0


async def test_quotas_are_set_described_and_removed(broker: Served) -> None:
    peer = await broker.connect()

    async def alter(key: str, value: float, *, remove: bool = False, kind: str = "user") -> Any:
        entry = {
            "entity": [{"entity_type": kind, "entity_name": "u"}],
            "ops": [{"key": key, "value": value, "remove": remove}],
        }
        answer = await peer.ask(ApiKey.ALTER_CLIENT_QUOTAS, 1, entries=[entry], validate_only=False)
        return answer.entries[0].error_code

    async def described(match_type: int, match: str | None, *, strict: bool = False) -> list[Any]:
        component = {"entity_type": "user", "match_type": match_type, "match": match}
        answer = await peer.ask(ApiKey.DESCRIBE_CLIENT_QUOTAS, 1, components=[component], strict=strict)
        assert answer.error_code == 0
        return [(row.entity[0].entity_name, row.values[0].key, row.values[0].value) for row in answer.entries]

    assert await alter("producer_byte_rate", 1024.5) == 0
    assert await alter("producer_byte_rate", -1) == 42
    assert await alter("speed", 1) == 42
    assert await alter("producer_byte_rate", 1, kind="planet") == 42
    row = ("u", "producer_byte_rate", 1024.5)
    assert await described(0, "u") == [row] == await described(2, None, strict=True)
    assert await described(1, None) == [] == await described(0, "v")
    assert await alter("producer_byte_rate", 0, remove=True) == 0
    assert await described(2, None) == []


async def test_connections_of_an_address_come_at_a_rate(clock: MockClock, broker: Served) -> None:
    limit(broker.node, (("ip", "127.0.0.1"),), connection_creation_rate="2")
    begun = trio.current_time()
    for _ in range(6):
        peer = await broker.connect()
        await peer.ask(ApiKey.API_VERSIONS, 3, client_software_name="c", client_software_version="1")
    assert trio.current_time() - begun >= 0.8
