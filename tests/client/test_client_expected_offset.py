"""Compare-and-append: a record goes where it is expected to, or nowhere."""

from __future__ import annotations

import os
from collections.abc import Callable

import pytest
import trio

import raftlog
from raftlog import Client, ConfigError, OffsetMismatch
from raftlog.client.errors import ClientError, Disconnected
from raftlog.client.sending import Sender
from tests import secured

only_ours = pytest.mark.skipif(
    "RAFTLOG_TEST_BOOTSTRAP" in os.environ, reason="brokers of others do not compare offsets"
)


async def values(client: Client, topic: str) -> list[bytes | None]:
    """All that a topic of one partition holds."""
    async with client.consumer(topic, auto_offset_reset="earliest") as consumer:
        key = raftlog.TopicPartition(topic, 0)
        end = (await client.admin.end_offsets(topic))[key]
        found: list[bytes | None] = []
        with trio.fail_after(60):
            while len(found) < end:
                found += [record.value for record in await consumer.poll(max_records=end - len(found))]
        return found


def losing_answers(monkeypatch: pytest.MonkeyPatch, count: int = 1) -> list[object]:
    """The first answers to Produce are lost, after the broker has done what was asked; they are collected."""
    answered, lost = Sender._answered, list[object]()

    def lose(self: Sender, leader: int, batches: list[object], answer: object) -> None:
        if len(lost) < count and not isinstance(answer, ClientError):
            lost.append(answer)
            answer = Disconnected("as the test wants it")
        answered(self, leader, batches, answer)  # type: ignore[arg-type]

    monkeypatch.setattr(Sender, "_answered", lose)
    return lost


@only_ours
async def test_of_two_writers_who_expect_the_same_one_appends_and_the_other_learns_the_end(
    client: Client, topic: str
) -> None:
    outcomes: list[object] = []

    async def write(producer: raftlog.Producer, value: bytes) -> None:
        try:
            outcomes.append(await producer.send(topic, value, partition=0, expected_offset=1))
        except OffsetMismatch as error:
            outcomes.append(error)

    async with client.producer() as one, client.producer() as other:
        await one.send(topic, b"first", partition=0)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(write, one, b"one")
            nursery.start_soon(write, other, b"other")
        (won,) = [each for each in outcomes if isinstance(each, raftlog.RecordMetadata)]
        (lost,) = [each for each in outcomes if isinstance(each, OffsetMismatch)]
        assert won.offset == 1
        assert (lost.end, lost.expected, lost.may_be_written) == (2, 1, False)
        assert (lost.topic, lost.partition) == (topic, 0) and "ends at 2, not at 1" in str(lost)
        again = await one.send(topic, b"third", partition=0, expected_offset=lost.end)
        assert again.offset == 2
        assert (await other.send(topic, b"fourth", partition=0)).offset == 3, "the loser goes on"
    found = await values(client, topic)
    assert found[0] == b"first" and found[2:] == [b"third", b"fourth"] and found[1] in (b"one", b"other")


@only_ours
async def test_a_retry_of_the_winner_is_told_where_it_is(
    client: Client, topic: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    lost = losing_answers(monkeypatch)
    async with client.producer() as producer:
        assert (await producer.send(topic, b"mine", partition=0, expected_offset=0)).offset == 0
        assert len(lost) == 1 and producer.statistics().retries >= 1
    assert await values(client, topic) == [b"mine"]


@only_ours
async def test_a_mismatch_whose_answer_was_lost_is_said_again(
    client: Client, topic: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with client.producer() as one, client.producer() as other:
        await one.send(topic, b"mine", partition=0, expected_offset=0)
        lost = losing_answers(monkeypatch)
        with pytest.raises(OffsetMismatch) as caught:
            await other.send(topic, b"theirs", partition=0, expected_offset=0)
        assert caught.value.end == 1 and not caught.value.may_be_written and len(lost) == 1
    assert await values(client, topic) == [b"mine"]


@only_ours
async def test_it_keeps_its_place_among_what_is_sent_before_and_behind_it(client: Client, topic: str) -> None:
    """What was handed over before is answered first, and what comes later goes when its fate is known: also
    when that is not to be appended."""
    async with client.producer(linger_ms=50) as producer:
        before = [await producer.send_soon(topic, b"before", partition=0) for _ in range(3)]
        fits = await producer.send_soon(topic, b"fits", partition=0, expected_offset=3)
        between = await producer.send_soon(topic, b"between", partition=0)
        fails = await producer.send_soon(topic, b"fails", partition=0, expected_offset=3)
        behind = [await producer.send_soon(topic, b"behind", partition=0) for _ in range(2)]
        assert [(await each).offset for each in before] == [0, 1, 2]
        assert (await fits).offset == 3
        assert (await between).offset == 4
        with pytest.raises(OffsetMismatch) as caught:
            await fails
        assert caught.value.end == 5
        assert [(await each).offset for each in behind] == [5, 6]


@only_ours
async def test_a_mismatch_that_nobody_awaits_comes_out_at_the_end(client: Client, topic: str) -> None:
    with pytest.raises(OffsetMismatch):
        async with client.producer() as producer:
            await producer.send_soon(topic, b"x", partition=0, expected_offset=5)


@only_ours
async def test_many_mismatches_leave_the_producer_as_it_was(client: Client, topic: str) -> None:
    async with client.producer() as producer:
        for number in range(50):
            with pytest.raises(OffsetMismatch) as caught:
                await producer.send(topic, b"no", partition=0, expected_offset=number + 1)
            assert caught.value.end == number
            assert (await producer.send(topic, b"%d" % number, partition=0)).offset == number


Send = Callable[[raftlog.Producer, str], object]


@pytest.mark.parametrize(
    ("settings", "more", "error", "said"),
    [
        ({}, {"expected_offset": 0}, ValueError, "give partition, too"),
        ({}, {"expected_offset": -1, "partition": 0}, ValueError, "from 0 on, not -1"),
        ({}, {"expected_offset": "1", "partition": 0}, TypeError, "expected_offset must be"),
        (
            {"enable_idempotence": False},
            {"expected_offset": 0, "partition": 0},
            ConfigError,
            "enable_idempotence=True",
        ),
    ],
)
async def test_what_makes_no_sense_is_refused_where_it_is_given(
    client: Client,
    topic: str,
    settings: dict[str, bool],
    more: dict[str, int],
    error: type[Exception],
    said: str,
) -> None:
    async with client.producer(**settings) as producer:
        with pytest.raises(error, match=said):
            await producer.send(topic, b"x", **more)


@only_ours
async def test_not_in_a_transaction(client: Client, topic: str) -> None:
    async with client.producer(transactional_id=f"{topic}-tx") as producer:
        with pytest.raises(ConfigError, match="without transactional_id"):
            async with producer.transaction():
                await producer.send(topic, b"x", partition=0, expected_offset=0)


@only_ours
@pytest.mark.slow
async def test_a_retry_says_what_happened_when_the_leader_is_gone_with_the_answer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Scenario 49: the one that was appended and not answered is found in the next leader's log, and one that
    was refused and not answered is refused by the next leader."""
    answered, lost = Sender._answered, list[object]()
    gone, came = trio.Event(), trio.Event()

    with secured.running(3) as cluster:
        await trio.to_thread.run_sync(lambda: cluster.create_topic("ledger", partitions=1))
        async with secured.open_client(cluster.bootstrap) as client, client.producer() as producer:
            await producer.send("ledger", b"0", partition=0, expected_offset=0)
            held: list[Callable[[], None]] = []

            def hold(self: Sender, leader: int, batches: list[object], answer: object) -> None:
                if not gone.is_set() and not lost:
                    lost.append(answer)
                    came.set()
                    held.append(lambda: answered(self, leader, batches, Disconnected("lost")))  # type: ignore[arg-type]
                    return
                answered(self, leader, batches, answer)  # type: ignore[arg-type]

            monkeypatch.setattr(Sender, "_answered", hold)
            for expected, fits in ((1, True), (1, False), (2, True)):
                gone, came, lost[:], held[:] = trio.Event(), trio.Event(), [], []
                delivery = await producer.send_soon(
                    "ledger", b"%d" % expected, partition=0, expected_offset=expected
                )
                with trio.fail_after(60):
                    await came.wait()
                broker = await trio.to_thread.run_sync(lambda: cluster.faults.kill_leader("ledger"))
                gone.set()
                held[0]()
                if fits:
                    assert (await delivery).offset == expected
                else:
                    with pytest.raises(OffsetMismatch) as caught:
                        await delivery
                    assert caught.value.end == 2 and not caught.value.may_be_written
                await trio.to_thread.run_sync(lambda broker=broker: cluster.faults.restart(broker))  # type: ignore[misc]
            monkeypatch.undo()
            assert await values(client, "ledger") == [b"0", b"1", b"2"]
