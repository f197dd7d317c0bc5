"""Transactions in a scripted cluster: every request fails in every way, and all or nothing is read."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio
from trio.testing import MockClock

import raftlog
from raftlog import Client, Consumer, Producer, Transaction
from raftlog.client.transactional import CANCELLED_END_SECONDS_MAX
from raftlog.protocol.api import ApiKey
from raftlog.protocol.errors import ErrorCode
from raftlog.records.batch import iter_headers
from raftlog.records.record import NewRecord, decode_batch, encode_batch
from tests.memory.client_fakes import FakeCluster, FakeLog, Fault

T, U = ("t", 0), ("u", 0)
REQUESTS = (
    ApiKey.FIND_COORDINATOR, ApiKey.INIT_PRODUCER_ID, ApiKey.ADD_PARTITIONS_TO_TXN, ApiKey.PRODUCE,
    ApiKey.ADD_OFFSETS_TO_TXN, ApiKey.TXN_OFFSET_COMMIT, ApiKey.END_TXN,
)  # fmt: skip
PASSING = (
    Fault.CUT_BEFORE, Fault.CUT_AFTER, ErrorCode.COORDINATOR_NOT_AVAILABLE, ErrorCode.NOT_COORDINATOR,
    ErrorCode.COORDINATOR_LOAD_IN_PROGRESS, ErrorCode.CONCURRENT_TRANSACTIONS, ErrorCode.REQUEST_TIMED_OUT,
)  # fmt: skip


@asynccontextmanager
async def world(size: int = 1, **options: Any) -> AsyncIterator[tuple[FakeCluster, Client]]:
    """A cluster with the topics t and u, and a client."""
    async with trio.open_nursery() as nursery:
        cluster = FakeCluster(nursery, size)
        cluster.logs = {T: FakeLog(leader=1), U: FakeLog(leader=size)}
        cluster.topics["u"] = b"u" * 16
        try:
            async with raftlog.open_client("b1:9092", open_socket=cluster.open_socket, **options) as client:
                yield cluster, client
        finally:
            nursery.cancel_scope.cancel()


def committed(log: FakeLog) -> list[bytes | None]:
    """What a read_committed consumer is to read of a log, by another way than the client's: each batch is
    looked up among the ranges that were aborted."""
    values: list[bytes | None] = []
    for position, header in iter_headers(log.data):
        hidden = any(
            header.producer_id == producer and first <= header.base_offset < marker
            for producer, first, marker in log.aborted
        )
        if not header.is_control and not hidden and header.base_offset < log.stable:
            values += [record.value for record in decode_batch(bytes(log.data), position)]
    return values


async def read(client: Client, count: int, topic: str = "t") -> list[bytes]:
    """The first records that a read_committed consumer gets; there must not be more."""
    values: list[bytes] = []
    async with client.consumer(
        topic, auto_offset_reset="earliest", isolation_level="read_committed"
    ) as consumer:
        with trio.fail_after(60):
            while len(values) < count:
                values += [record.value for record in await consumer.poll()]
        values += [record.value for record in await consumer.poll()]
    return values


def reader(client: Client) -> Any:
    return client.consumer(
        "u", group="g", auto_offset_reset="earliest", enable_auto_commit=False, heartbeat_interval_ms=500
    )


def fill(cluster: FakeCluster, count: int) -> None:
    for number in range(count):
        cluster.logs[U].append(encode_batch([NewRecord(0, value=b"%d" % number)]))


async def polled(consumer: Consumer, count: int) -> list[raftlog.Record]:
    with trio.fail_after(60):
        while not (records := await consumer.poll(count)):
            pass
    return records


# -- faults


@pytest.mark.parametrize("fault", PASSING)
@pytest.mark.parametrize("api", REQUESTS)
async def test_what_passes_is_repeated_and_nothing_is_twice(
    autojump_clock: MockClock, api: ApiKey, fault: Fault | ErrorCode
) -> None:
    if api is ApiKey.PRODUCE and fault in (ErrorCode.COORDINATOR_NOT_AVAILABLE, ErrorCode.NOT_COORDINATOR):
        pytest.skip("no partition's leader says so")
    async with world() as (cluster, client):
        fill(cluster, 2)
        async with reader(client) as consumer:
            await polled(consumer, 2)
            metadata = consumer.group_metadata()
            cluster.script[api] += [fault, fault]
            async with client.producer(transactional_id="tx") as producer:
                for number in range(3):
                    async with producer.transaction() as transaction:
                        await producer.send("t", b"%d" % number)
                        await transaction.send_offsets({raftlog.TopicPartition("u", 0): number}, metadata)
                    assert transaction.outcome == "committed"
        assert committed(cluster.logs[T]) == [b"0", b"1", b"2"] == await read(client, 3)
        assert cluster.committed == {U: 2}


@pytest.mark.parametrize("api", [ApiKey.END_TXN, ApiKey.TXN_OFFSET_COMMIT])
async def test_a_request_without_an_answer_takes_its_epoch_with_it(
    autojump_clock: MockClock, api: ApiKey
) -> None:
    """It may arrive in the next transaction, and would end it, or commit offsets of before."""
    async with world() as (cluster, client), reader(client) as consumer:
        fill(cluster, 1)
        await polled(consumer, 1)
        async with client.producer(transactional_id="tx") as producer:
            epochs = []
            for number in range(3):
                async with producer.transaction() as transaction:
                    epochs.append(cluster.transactions["tx"].epoch)
                    await producer.send("t", b"%d" % number)
                    if number == 0:
                        cluster.script[api].append(Fault.CUT_BEFORE)
                    await transaction.send_offsets(
                        {raftlog.TopicPartition("u", 0): 1}, consumer.group_metadata()
                    )
        assert epochs == [0, 1, 1]


async def test_a_coordinator_that_moves_and_one_that_is_silent(autojump_clock: MockClock) -> None:
    async with world(2) as (cluster, client), client.producer(transactional_id="tx") as producer:
        async with producer.transaction():
            await producer.send("t", b"one")
            cluster.coordinator = 2
        async with producer.transaction():
            await producer.send("t", b"two")
            cluster.coordinator = 1
            cluster.silent = {2}
            cluster.move("u", 0, 1)
        assert committed(cluster.logs[T]) == [b"one", b"two"]


ENDING = {
    (ApiKey.ADD_PARTITIONS_TO_TXN, ErrorCode.TOPIC_AUTHORIZATION_FAILED): raftlog.TransactionAborted,
    (ApiKey.ADD_PARTITIONS_TO_TXN, ErrorCode.INVALID_TXN_STATE): raftlog.ProducerFailed,
    (ApiKey.PRODUCE, ErrorCode.TRANSACTION_ABORTABLE): raftlog.TransactionAborted,
    (ApiKey.PRODUCE, ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER): raftlog.TransactionAborted,
    (ApiKey.PRODUCE, ErrorCode.INVALID_PRODUCER_EPOCH): raftlog.TransactionAborted,
    (ApiKey.PRODUCE, ErrorCode.INVALID_PRODUCER_ID_MAPPING): raftlog.ProducerFailed,
    (ApiKey.END_TXN, ErrorCode.PRODUCER_FENCED): raftlog.ProducerFenced,
    (ApiKey.END_TXN, ErrorCode.UNKNOWN_SERVER_ERROR): raftlog.ProducerFailed,
}


@pytest.mark.parametrize(("api", "code"), ENDING)
async def test_what_does_not_pass_aborts_or_fails_and_no_later_commit_hides_it(
    autojump_clock: MockClock, api: ApiKey, code: ErrorCode
) -> None:
    async with world() as (cluster, client), client.producer(transactional_id="tx") as producer:
        cluster.script[api].append(code)
        with pytest.raises(ENDING[api, code]):
            async with producer.transaction():
                await producer.send_soon("t", b"lost")
        if ENDING[api, code] is raftlog.TransactionAborted:
            for number in range(2):
                async with producer.transaction():
                    await producer.send("t", b"%d" % number)
            assert committed(cluster.logs[T]) == [b"0", b"1"] == await read(client, 2)
            assert cluster.logs[T].open == {}
        else:
            with pytest.raises(raftlog.ProducerFailed):
                async with producer.transaction():
                    pass
            async with client.producer(transactional_id="tx") as another, another.transaction():
                await another.send("t", b"again")
            assert committed(cluster.logs[T]) == [b"again"]


async def test_a_send_that_is_waited_for_fails_when_its_transaction_is_doomed(
    autojump_clock: MockClock,
) -> None:
    """Nothing may wait for a record that will never be sent."""
    async with world() as (cluster, client), client.producer(transactional_id="tx") as producer:
        cluster.script[ApiKey.ADD_PARTITIONS_TO_TXN].append(ErrorCode.TOPIC_AUTHORIZATION_FAILED)
        with trio.fail_after(5), pytest.raises(raftlog.DeliveryError, match="TOPIC_AUTHORIZATION_FAILED"):
            async with producer.transaction() as transaction:
                await producer.send("t", b"x")
        assert transaction.outcome == "aborted"


async def test_records_that_fail_unseen_abort_the_transaction(autojump_clock: MockClock) -> None:
    """aiokafka's later commit succeeds without the record."""
    async with world() as (cluster, client), client.producer(transactional_id="tx") as producer:
        cluster.script[ApiKey.PRODUCE].append(ErrorCode.INVALID_RECORD)
        with pytest.raises(raftlog.TransactionAborted, match="INVALID_RECORD"):
            async with producer.transaction():
                try:
                    await producer.send("t", b"lost")
                except raftlog.DeliveryError:
                    pass
                await producer.send_soon("u", b"beside")
        assert (committed(cluster.logs[T]), committed(cluster.logs[U])) == ([], [])


# -- what may be done when


async def test_an_empty_transaction_asks_nothing(autojump_clock: MockClock) -> None:
    async with world() as (cluster, client), client.producer(transactional_id="tx") as producer:
        before = len(cluster.seen)
        async with producer.transaction() as transaction:
            pass
        assert transaction.outcome == "committed"
        assert len(cluster.seen) == before


async def test_partitions_that_are_written_to_together_are_added_together(autojump_clock: MockClock) -> None:
    async with (
        world() as (cluster, client),
        client.producer(transactional_id="tx", linger_ms=1000) as producer,
    ):
        assert [await producer.partitions(topic) for topic in ("t", "u")] == [1, 1]
        for _ in range(2):
            async with producer.transaction():
                for topic in ("t", "u", "t"):
                    await producer.send_soon(topic, b"x")
        assert len(cluster.requests(ApiKey.ADD_PARTITIONS_TO_TXN)) == 2
        versions = [seen.message for seen in cluster.requests(ApiKey.PRODUCE)]
        assert all(message.transactional_id == "tx" for message in versions)


async def test_records_are_taken_inside_of_a_transaction_alone(autojump_clock: MockClock) -> None:
    async with world() as (_, client), client.producer(transactional_id="tx") as producer:
        with pytest.raises(raftlog.NoTransaction, match="inside of"):
            await producer.send("t", b"x")
        async with producer.transaction() as transaction:
            with pytest.raises(trio.BusyResourceError):
                async with producer.transaction():
                    pass
        with pytest.raises(raftlog.NoTransaction):
            await producer.send_soon("t", b"x")
        metadata: Any = object()
        with pytest.raises(TypeError, match="GroupMetadata"):
            await transaction.send_offsets({}, metadata)


async def test_a_record_that_waited_for_room_is_not_of_the_next_transaction(
    autojump_clock: MockClock,
) -> None:
    async with world() as (cluster, client):
        async with client.producer(transactional_id="tx", buffer_memory=1000) as producer:
            gate = cluster.gates[ApiKey.PRODUCE] = trio.Event()
            raised: list[Exception] = []

            async def late() -> None:
                try:
                    await producer.send_soon("t", b"late")
                except raftlog.ClientError as error:
                    raised.append(error)

            async with trio.open_nursery() as nursery:
                async with producer.transaction():
                    await producer.send_soon("t", b"x" * 2000)
                    nursery.start_soon(late)
                    await trio.testing.wait_all_tasks_blocked()
                    gate.set()
                async with producer.transaction():
                    await producer.send("t", b"of the second")
            assert isinstance(raised[0], raftlog.NoTransaction)
        assert committed(cluster.logs[T]) == [b"x" * 2000, b"of the second"]


async def test_a_plain_producer_has_no_transactions(autojump_clock: MockClock) -> None:
    async with world() as (_, client), client.producer() as producer:
        with pytest.raises(raftlog.ConfigError, match="transactional_id"):
            producer.transaction()


# -- fences and doubt


async def test_a_transaction_that_is_open_for_too_long_says_so(autojump_clock: MockClock) -> None:
    async with world() as (cluster, client):
        async with client.producer(transactional_id="tx", transaction_timeout_ms=1000) as producer:
            with pytest.raises(raftlog.ProducerFenced, match=r"open for 2\.\d s, and transaction_timeout_ms"):
                async with producer.transaction() as transaction:
                    await producer.send("t", b"x")
                    await trio.sleep(2)
                    cluster.fence("tx")
            assert transaction.outcome == "aborted"
        assert committed(cluster.logs[T]) == []


async def test_a_commit_without_an_answer_is_unknown_until_it_is_settled(autojump_clock: MockClock) -> None:
    async with world() as (cluster, client):
        async with client.producer(transactional_id="tx", max_block_ms=4000) as producer:
            with pytest.raises(raftlog.CommitUnknown, match="may be committed"):
                async with producer.transaction() as transaction:
                    await producer.send("t", b"x")
                    cluster.silent = {1}
            assert transaction.outcome == "unknown"
            with pytest.raises(raftlog.CommitUnknown):
                await transaction.settle()
            cluster.silent = set()
            cluster.kill(1)
            cluster.alive = {1}
            await transaction.settle()
            assert str(transaction.outcome) == "committed"
            await transaction.settle()
            async with producer.transaction():
                await producer.send("t", b"y")
        assert committed(cluster.logs[T]) == [b"x", b"y"]


async def test_a_doubtful_commit_that_somebody_fenced_stays_unknown(autojump_clock: MockClock) -> None:
    async with world() as (cluster, client):
        async with client.producer(transactional_id="tx", max_block_ms=4000) as producer:
            with pytest.raises(raftlog.CommitUnknown):
                async with producer.transaction() as transaction:
                    await producer.send("t", b"x")
                    cluster.script[ApiKey.END_TXN] += [Fault.CUT_AFTER]
                    cluster.gates[ApiKey.FIND_COORDINATOR] = trio.Event()
            cluster.gates.pop(ApiKey.FIND_COORDINATOR).set()
            async with client.producer(transactional_id="tx"):
                pass
            with pytest.raises(raftlog.ProducerFenced):
                await transaction.settle()
            assert transaction.outcome == "unknown", "it was committed, and the producer cannot know"
        assert committed(cluster.logs[T]) == [b"x"]


# -- cancellation


class CancelAtStep(trio.abc.Instrument):
    """Cancels `scope` when `task` has awaited for the n-th time."""

    def __init__(self, n: int, task: trio.lowlevel.Task, scope: trio.CancelScope) -> None:
        self._left = n
        self._task = task
        self._scope = scope

    def after_task_step(self, task: trio.lowlevel.Task) -> None:
        if task is self._task:
            self._left -= 1
            if self._left == 0:
                self._scope.cancel()


async def work(producer: Producer, consumer: Consumer, made: list[Transaction]) -> None:
    async with producer.transaction() as transaction:
        made.append(transaction)
        await producer.send("t", b"x")
        await producer.send_soon("u", b"x")
        await transaction.send_offsets({raftlog.TopicPartition("u", 0): 1}, consumer.group_metadata())


@pytest.mark.parametrize("breaks", [False, True])
async def test_cancelled_anywhere_it_is_all_or_nothing_and_the_next_works(
    autojump_clock: MockClock, breaks: bool
) -> None:
    outcomes = set()
    for step in range(1, 200):
        async with world() as (cluster, client), reader(client) as consumer:
            fill(cluster, 1)
            await polled(consumer, 1)
            async with client.producer(transactional_id="tx") as producer:
                if breaks:
                    for api in REQUESTS[2:]:
                        cluster.script[api].append(Fault.CUT_AFTER)
                made: list[Transaction] = []
                with trio.CancelScope() as scope:
                    instrument = CancelAtStep(step, trio.lowlevel.current_task(), scope)
                    trio.lowlevel.add_instrument(instrument)
                    try:
                        await work(producer, consumer, made)
                    finally:
                        trio.lowlevel.remove_instrument(instrument)
                for script in cluster.script.values():
                    script.clear()
                outcome = made[0].outcome if made else "aborted"
                whole = (committed(cluster.logs[T]), committed(cluster.logs[U])[1:], cluster.committed)
                assert whole == (([b"x"], [b"x"], {U: 1}) if outcome == "committed" else ([], [], {}))
                assert cluster.logs[T].open == {} == cluster.logs[U].open, "nothing is left open"
                outcomes.add(outcome)
                with trio.fail_after(60):
                    async with producer.transaction():
                        await producer.send("t", b"after")
                assert committed(cluster.logs[T])[-1] == b"after"
        if not scope.cancelled_caught:
            break
    else:
        raise AssertionError("it has more awaits than that")
    assert outcomes == {"committed", "aborted"}


async def test_a_cancelled_end_is_bounded_and_the_next_transaction_finishes_it(
    autojump_clock: MockClock,
) -> None:
    async with world() as (cluster, client), client.producer(transactional_id="tx") as producer:
        with trio.CancelScope() as scope:
            async with producer.transaction() as transaction:
                await producer.send("t", b"lost")
                cluster.gates[ApiKey.END_TXN] = trio.Event()
                before = trio.current_time()
                scope.cancel()
                await trio.sleep_forever()
        assert trio.current_time() - before == pytest.approx(CANCELLED_END_SECONDS_MAX)
        assert transaction.outcome == "aborted"
        assert cluster.logs[T].open, "it holds up readers until its time is over"
        cluster.gates.pop(ApiKey.END_TXN).set()
        async with producer.transaction():
            await producer.send("t", b"kept")
        assert committed(cluster.logs[T]) == [b"kept"]


# -- exactly once


@asynccontextmanager
async def copying(cluster: FakeCluster, client: Client, **options: Any) -> AsyncIterator[raftlog.ExactlyOnce]:
    async with reader(client) as consumer, client.producer(transactional_id="tx", **options) as producer:
        loop = raftlog.exactly_once(consumer, producer, max_records=3, max_wait_ms=100)
        loop.__dict__["producer"] = producer
        yield loop


async def copy(loop: raftlog.ExactlyOnce, cluster: FakeCluster, count: int) -> None:
    """Until all is copied."""
    producer: Producer = loop.__dict__["producer"]
    with trio.fail_after(300):
        async for batch in loop:
            async with batch as records:
                for record in records:
                    await producer.send_soon("t", record.value)
            if cluster.committed.get(U) == count:
                return


@pytest.mark.parametrize("fault", [*PASSING, Fault.SILENCE])
@pytest.mark.parametrize("api", [*REQUESTS, ApiKey.FETCH, ApiKey.OFFSET_FETCH, ApiKey.HEARTBEAT])
async def test_each_input_has_one_output_whatever_fails(
    autojump_clock: MockClock, api: ApiKey, fault: Fault | ErrorCode
) -> None:
    async with world() as (cluster, client):
        fill(cluster, 10)
        async with copying(cluster, client, delivery_timeout_ms=20_000) as loop:
            cluster.script[api] += [fault, fault]
            await copy(loop, cluster, 10)
        assert committed(cluster.logs[T]) == [b"%d" % number for number in range(10)]


@pytest.mark.parametrize(
    ("api", "code"),
    [
        (ApiKey.PRODUCE, ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER),
        (ApiKey.PRODUCE, ErrorCode.TRANSACTION_ABORTABLE),
        (ApiKey.TXN_OFFSET_COMMIT, ErrorCode.ILLEGAL_GENERATION),
        (ApiKey.TXN_OFFSET_COMMIT, ErrorCode.UNKNOWN_MEMBER_ID),
        (ApiKey.TXN_OFFSET_COMMIT, ErrorCode.TRANSACTION_ABORTABLE),
        (ApiKey.HEARTBEAT, ErrorCode.UNKNOWN_MEMBER_ID),
        (ApiKey.HEARTBEAT, ErrorCode.ILLEGAL_GENERATION),
        (ApiKey.HEARTBEAT, ErrorCode.REBALANCE_IN_PROGRESS),
    ],
)
async def test_a_batch_that_is_aborted_comes_again(
    autojump_clock: MockClock, api: ApiKey, code: ErrorCode
) -> None:
    async with world() as (cluster, client):
        fill(cluster, 10)
        async with copying(cluster, client) as loop:
            cluster.script[api] += [code, code]
            await copy(loop, cluster, 10)
        assert committed(cluster.logs[T]) == [b"%d" % number for number in range(10)]


async def test_what_will_never_pass_comes_out(autojump_clock: MockClock) -> None:
    async with world() as (cluster, client):
        fill(cluster, 1)
        async with copying(cluster, client) as loop:
            cluster.script[ApiKey.ADD_PARTITIONS_TO_TXN].append(ErrorCode.TOPIC_AUTHORIZATION_FAILED)
            with pytest.raises(raftlog.TransactionAborted, match="TOPIC_AUTHORIZATION_FAILED"):
                await copy(loop, cluster, 1)
            await copy(loop, cluster, 1)
        assert committed(cluster.logs[T]) == [b"0"]


async def test_partitions_that_are_lost_and_given_back_in_the_middle_are_not_committed(
    autojump_clock: MockClock,
) -> None:
    """Another member may have done the same records in between."""
    async with world() as (cluster, client), reader(client) as consumer:
        fill(cluster, 3)
        await polled(consumer, 3)
        metadata = consumer.group_metadata()
        key = raftlog.TopicPartition("u", 0)
        async with client.producer(transactional_id="tx") as producer:
            with pytest.raises(raftlog.RebalanceNeeded):
                async with producer.transaction() as transaction:
                    await producer.send("t", b"x")
                    cluster.script[ApiKey.HEARTBEAT].append(ErrorCode.UNKNOWN_MEMBER_ID)
                    generation = cluster.generation
                    with trio.fail_after(60):
                        while cluster.generation == generation or key not in consumer.assignment:  # noqa: ASYNC110
                            await trio.sleep(0.1)
                    await transaction.send_offsets({key: 3}, metadata)
        assert (committed(cluster.logs[T]), cluster.committed) == ([], {})


async def test_a_body_that_swallows_the_refusal_of_its_offsets_cannot_commit(
    autojump_clock: MockClock,
) -> None:
    async with world() as (cluster, client), reader(client) as consumer:
        fill(cluster, 3)
        await polled(consumer, 3)
        metadata = consumer.group_metadata()
        async with client.producer(transactional_id="tx") as producer:
            with pytest.raises(raftlog.TransactionAborted, match="ILLEGAL_GENERATION"):
                async with producer.transaction() as transaction:
                    await producer.send("t", b"x")
                    cluster.script[ApiKey.TXN_OFFSET_COMMIT].append(ErrorCode.ILLEGAL_GENERATION)
                    with pytest.raises(raftlog.RebalanceNeeded):
                        await transaction.send_offsets({raftlog.TopicPartition("u", 0): 3}, metadata)
        assert committed(cluster.logs[T]) == []


async def test_exactly_once_refuses_what_cannot_be(autojump_clock: MockClock) -> None:
    async with world() as (_, client):
        async with client.consumer("u", group="g") as eager, client.producer(transactional_id="tx") as tx:
            with pytest.raises(raftlog.ConfigError, match="enable_auto_commit=False"):
                raftlog.exactly_once(eager, tx)
            with pytest.raises(raftlog.ConfigError, match="enable_auto_commit=False"):
                eager.group_metadata()
        async with reader(client) as consumer, client.producer() as plain:
            with pytest.raises(raftlog.ConfigError, match="transactional_id"):
                raftlog.exactly_once(consumer, plain)


# -- reading


async def test_a_reader_waits_for_pending_offsets(autojump_clock: MockClock) -> None:
    """Or it would read again what the transaction has done (scenario 41)."""
    async with world() as (cluster, client):
        fill(cluster, 3)
        async with client.producer(transactional_id="tx") as producer, reader(client) as first:
            await polled(first, 3)
            async with producer.transaction() as transaction:
                await transaction.send_offsets({raftlog.TopicPartition("u", 0): 2}, first.group_metadata())
                async with client.consumer(
                    group="g", partitions=[("u", 0)], enable_auto_commit=False
                ) as second:
                    assert await second.poll(max_wait_ms=500) == []
                    async with trio.open_nursery() as nursery:

                        async def next_value() -> None:
                            assert (await anext(aiter(second))).value == b"2"

                        nursery.start_soon(next_value)
                        await trio.sleep(1)
                        for name in list(cluster.transactions):
                            one = cluster.transactions[name]
                            cluster.committed.update(one.pending)
                            one.pending.clear()


async def test_the_position_moves_over_what_is_not_handed_out(autojump_clock: MockClock) -> None:
    async with world() as (_, client), client.producer(transactional_id="tx") as producer:
        for number in range(4):
            with pytest.raises(ZeroDivisionError):
                async with producer.transaction():
                    await producer.send("t", b"%d" % number)
                    raise ZeroDivisionError
        async with client.consumer(
            "t", auto_offset_reset="earliest", isolation_level="read_committed"
        ) as consumer:
            assert await consumer.poll(max_wait_ms=1000) == []
            key = raftlog.TopicPartition("t", 0)
            assert (consumer.positions(), consumer.lag()) == ({key: 8}, {key: 0})
            async with producer.transaction():
                await producer.send("t", b"kept")
            assert [record.value for record in await polled(consumer, 1)] == [b"kept"]
            assert consumer.positions() == {key: 10} or await consumer.poll(max_wait_ms=1000) == []
            assert consumer.positions() == {key: 10}


# -- what operators ask


@pytest.mark.parametrize(
    "code", [ErrorCode.COORDINATOR_LOAD_IN_PROGRESS, ErrorCode.COORDINATOR_NOT_AVAILABLE]
)
async def test_a_list_waits_for_a_coordinator(autojump_clock: MockClock, code: ErrorCode) -> None:
    """Right after a start there was none, and there seemed to be no transactional ids."""
    async with world(2) as (cluster, client):
        async with client.producer(transactional_id="tx"):
            pass
        cluster.script[ApiKey.LIST_TRANSACTIONS] += [code] * 3
        listed = await client.admin.operations.transactions.listed()
        assert [one.id for one in listed] == ["tx"]


async def test_a_list_without_a_coordinator_ends_with_its_time(autojump_clock: MockClock) -> None:
    async with world(2, default_api_timeout_ms=5000) as (cluster, client):
        cluster.script[ApiKey.LIST_TRANSACTIONS] += [ErrorCode.COORDINATOR_LOAD_IN_PROGRESS] * 999
        begun = trio.current_time()
        with pytest.raises(raftlog.RequestTimedOut, match=r"COORDINATOR_LOAD_IN_PROGRESS|loading"):
            await client.admin.operations.transactions.listed()
        assert 4.9 < trio.current_time() - begun < 6


@pytest.mark.parametrize("code", [ErrorCode.COORDINATOR_LOAD_IN_PROGRESS, ErrorCode.NOT_COORDINATOR])
async def test_no_id_is_unknown_before_a_coordinator_says_so(
    autojump_clock: MockClock, code: ErrorCode
) -> None:
    async with world(2) as (cluster, client):
        async with client.producer(transactional_id="tx"):
            pass
        transactions = client.admin.operations.transactions
        cluster.script[ApiKey.DESCRIBE_TRANSACTIONS] += [code] * 4
        found = await transactions.describe("tx")
        assert found is not None and (found.id, found.coordinator) == ("tx", 1)
        assert await transactions.describe("another") is None
