"""What handlers rely on, of the real parts of a broker and of the fake alike."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import trio

from raftlog.broker.backend import Backend, Partition
from raftlog.broker.server import Broker
from raftlog.cluster.admin import AdminError, AdminFailure, NewTopic
from raftlog.cluster.groups import CommitCheck, GroupError, GroupState
from raftlog.cluster.metadata_group import ProposalFailed
from raftlog.config import BrokerConfig
from raftlog.metadata.catalog import Topic
from raftlog.metadata.noun import Refused
from raftlog.metadata.offsets import DeleteGroup, GroupCommit, OffsetCommit, OffsetsCommitted, OffsetsDeleted
from raftlog.partition.values import PartitionError, ProduceResult
from raftlog.records.record import NewRecord, decode_batch, encode_batch
from tests.memory.broker_fakes import FakeNode
from tests.steps import run

NOW_MS = 1_700_000_000_000


@pytest.fixture(params=["fake", "real"])
async def backend(
    request: pytest.FixtureRequest, tmp_path: Path, nursery: trio.Nursery
) -> AsyncIterator[Backend]:
    if request.param == "fake":
        yield FakeNode().backend
        return
    settings = {
        "listeners": "PLAINTEXT://127.0.0.1:0",
        "log.dirs": str(tmp_path / "data"),
        "raftlog.durability": "os",
    }
    real = Broker.open(BrokerConfig.of(settings), rng=random.Random(1))
    scope, ended = trio.CancelScope(), trio.Event()

    async def run(*, task_status: trio.TaskStatus[None]) -> None:
        try:
            with scope:
                await real.run(task_status=task_status)
        finally:
            ended.set()

    await nursery.start(run)
    yield real.backend
    scope.cancel()
    await ended.wait()
    real.close()


async def create(backend: Backend, name: str = "orders", partitions: int = 2) -> Topic:
    topic = await backend.admin.create_topic(NewTopic(name=name, partitions=partitions), timeout=5)
    assert isinstance(topic, Topic), topic
    return topic


async def produce(partition: Partition, *values: bytes) -> ProduceResult:
    batch = memoryview(bytearray(encode_batch([NewRecord(NOW_MS, None, value, ()) for value in values])))
    results: list[ProduceResult] = []
    done = trio.Event()

    def on_done(result: ProduceResult) -> None:
        results.append(result)
        done.set()

    partition.producing.produce(batch, now=trio.current_time(), now_ms=NOW_MS, on_done=on_done)
    with trio.fail_after(5):
        await done.wait()
    (result,) = results
    return result


async def delete_before(partition: Partition, offset: int) -> tuple[PartitionError | None, int]:
    results: list[tuple[PartitionError | None, int]] = []
    done = trio.Event()

    def on_done(error: PartitionError | None, start: int) -> None:
        results.append((error, start))
        done.set()

    partition.delete_before(offset, now=trio.current_time(), on_done=on_done)
    with trio.fail_after(5):
        await done.wait()
    (result,) = results
    return result


async def test_the_catalog_names_this_broker_and_the_cluster(backend: Backend) -> None:
    assert backend.cluster_id
    assert backend.broker_id in backend.catalog.brokers
    assert backend.coordination.coordinator_id == backend.broker_id
    assert backend.coordination.is_coordinator


async def test_a_topic_that_was_created_has_leaders_and_takes_records(backend: Backend) -> None:
    topic = await create(backend)
    assert backend.catalog.topic("orders") == backend.catalog.topic(topic.topic_id) == topic
    for index in (0, 1):
        leader, epoch = backend.leaders.leader_of(topic, index)
        assert leader == backend.broker_id
        partition = backend.replicas.partition("orders", index)
        assert partition is not None
        assert partition is backend.replicas.partition_by_id(topic.topic_id, index)
        assert partition.is_leader
        assert partition.leader_epoch == epoch
        assert (await produce(partition, b"a", b"b")).base_offset == 0
    assert backend.replicas.partition("orders", 2) is None
    assert backend.replicas.partition("none", 0) is None
    assert backend.replicas.partition_by_id(bytes(16), 0) is None


async def test_what_is_acknowledged_is_fetched(backend: Backend) -> None:
    topic = await create(backend)
    partition = backend.replicas.partition("orders", 0)
    assert partition is not None
    assert [(await produce(partition, b"a", b"b")).base_offset for _ in range(3)] == [0, 2, 4]
    assert partition.high_watermark == 6
    found = partition.reading.fetch(3, 1 << 20)
    assert found.error is None and found.slice is not None
    data = found.slice.read()
    assert len(data) == found.slice.length
    assert [record.offset for record in decode_batch(data)][:2] == [2, 3]
    whole = partition.reading.fetch(0, 1)
    assert whole.slice is not None and len(decode_batch(whole.slice.read())) == 2
    at_end = partition.reading.fetch(6, 1 << 20)
    assert (at_end.error, at_end.slice) == (None, None)
    for offset in (-1, 7, 2**62):
        assert partition.reading.fetch(offset, 1).error is PartitionError.OFFSET_OUT_OF_RANGE
    _, epoch = backend.leaders.leader_of(topic, 0)
    assert partition.reading.fetch(0, 1, leader_epoch=epoch).error is None
    assert partition.reading.fetch(0, 1, leader_epoch=epoch + 1).error is PartitionError.UNKNOWN_LEADER_EPOCH
    assert run(partition.reading.find_offset_steps(-1)).offset == 6
    assert run(partition.reading.find_offset_steps(-2)).offset == 0
    assert partition.reading.end_of_epoch(epoch)[2] == 6
    assert (await delete_before(partition, 7))[0] is PartitionError.OFFSET_OUT_OF_RANGE
    assert await delete_before(partition, -1) == (None, 6)
    assert await delete_before(partition, 3) == (None, 6)
    assert partition.log_start_offset == 6


async def test_bytes_that_are_no_batch_are_refused(backend: Backend) -> None:
    await create(backend)
    partition = backend.replicas.partition("orders", 0)
    assert partition is not None
    batch = bytearray(encode_batch([NewRecord(NOW_MS, None, b"x", ())]))
    for wrong, error in (
        (bytearray(), PartitionError.INVALID_RECORD),
        (batch[:-1], PartitionError.INVALID_RECORD),
        (batch[:-1] + b"!", PartitionError.CORRUPT_BATCH),
    ):
        results: list[ProduceResult] = []
        partition.producing.produce(
            memoryview(wrong), now=trio.current_time(), now_ms=NOW_MS, on_done=results.append
        )
        assert [result.error for result in results] == [error]


async def test_waiters_hear_of_what_is_committed(backend: Backend) -> None:
    await create(backend)
    partition = backend.replicas.partition("orders", 0)
    assert partition is not None
    heard: list[int] = []

    def waiter() -> None:
        heard.append(1)

    partition.waiters.add(waiter)
    await produce(partition, b"x")
    assert heard
    partition.waiters.remove(waiter)
    heard.clear()
    await produce(partition, b"x")
    assert not heard


async def test_administrators_are_refused_with_a_reason(backend: Backend) -> None:
    topic = await create(backend)
    admin = backend.admin

    async def refused(outcome: Topic | AdminFailure) -> AdminError:
        assert isinstance(outcome, AdminFailure)
        assert outcome.message
        return outcome.error

    errors = [
        await refused(await admin.create_topic(NewTopic(name="orders"), timeout=5)),
        await refused(await admin.create_topic(NewTopic(name="a/b"), timeout=5)),
        await refused(await admin.create_topic(NewTopic(name="c", configs={"retention": "1"}), timeout=5)),
        await refused(await admin.create_partitions("orders", 2, timeout=5)),
        await refused(await admin.create_partitions("none", 2, timeout=5)),
        await refused(await admin.alter_topic_config("orders", {"retention.ms": "x"}, timeout=5)),
        await refused(await admin.delete_topic("none", timeout=5)),
        await refused(await admin.delete_topic(bytes(16), timeout=5)),
    ]
    assert errors == [
        AdminError.TOPIC_EXISTS,
        AdminError.INVALID_TOPIC,
        AdminError.INVALID_CONFIG,
        AdminError.INVALID_PARTITIONS,
        AdminError.UNKNOWN_TOPIC,
        AdminError.INVALID_CONFIG,
        AdminError.UNKNOWN_TOPIC,
        AdminError.UNKNOWN_TOPIC_ID,
    ]
    grown = await admin.create_partitions("orders", 3, timeout=5)
    assert isinstance(grown, Topic) and len(grown.partitions) == 3
    assert backend.replicas.partition("orders", 2) is not None
    altered = await admin.alter_topic_config("orders", {"retention.ms": "5"}, timeout=5)
    assert isinstance(altered, Topic) and altered.configs == {"retention.ms": "5"}
    altered = await admin.alter_topic_config("orders", {}, ["retention.ms"], timeout=5)
    assert isinstance(altered, Topic) and altered.configs == {}
    preview = await admin.create_topic(NewTopic(name="later"), timeout=5, validate_only=True)
    assert isinstance(preview, Topic) and backend.catalog.topic("later") is None
    assert isinstance(await admin.delete_topic(topic.topic_id, timeout=5), Topic)
    assert backend.catalog.topic("orders") is None
    assert backend.replicas.partition("orders", 0) is None


async def test_producer_ids_are_new(backend: Backend) -> None:
    ids = [await backend.producer_ids.allocate() for _ in range(5)]
    assert not any(isinstance(one, ProposalFailed) for one in ids)
    assert len(set(ids)) == 5


async def test_offsets_are_committed_by_callback(backend: Backend) -> None:
    await create(backend)
    backend.coordination.groups_changed()
    check = CommitCheck(group_id="g")
    assert backend.groups.check_commit(check, trio.current_time()) is GroupError.NONE
    results: list[OffsetsCommitted | Refused | ProposalFailed] = []
    done = trio.Event()

    def on_done(result: OffsetsCommitted | Refused | ProposalFailed) -> None:
        results.append(result)
        done.set()

    offsets = (OffsetCommit("orders", 0, 7, 1, "note"), OffsetCommit("orders", 9, 7))
    backend.offsets.commit(GroupCommit("g", NOW_MS, offsets), on_done)
    with trio.fail_after(5):
        await done.wait()
    assert results == [OffsetsCommitted((("g", "orders", 9),))]
    committed = backend.catalog.group_offsets.of("g")
    assert {key: (each.offset, each.metadata) for key, each in committed.items()} == {
        ("orders", 0): (7, "note")
    }
    described = backend.groups.describe("g")
    assert not isinstance(described, GroupError) and described.state is GroupState.EMPTY
    listed = backend.groups.list_groups()
    assert not isinstance(listed, GroupError) and [each.group_id for each in listed] == ["g"]
    assert backend.groups.delete("g", trio.current_time()) is GroupError.NONE
    assert isinstance(await backend.proposer.propose(DeleteGroup(group="g")), OffsetsDeleted)
    assert "g" not in backend.catalog.group_offsets


async def test_the_metadata_group_of_one_has_all_it_committed(backend: Backend) -> None:
    await backend.proposer.propose(DeleteGroup(group="none"))
    state = await backend.quorum.describe()
    assert state is not None
    (member,) = state.members
    assert (member.broker, member.is_voter, member.silent_ms) == (backend.broker_id, True, 0)
    assert state.leader == backend.broker_id and state.term > 0
    assert member.last_index == state.commit_index > 0
