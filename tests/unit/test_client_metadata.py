"""The picture of the cluster: what is believed, and what is too old to be."""

from __future__ import annotations

import random
from types import SimpleNamespace as Answer
from uuid import UUID

from raftlog.client.backoff import Backoff
from raftlog.client.metadata import MetadataCache, PartitionView, TopicPartition
from raftlog.protocol.errors import ErrorCode

ID = UUID(int=7)


def partition(index: int, leader: int, epoch: int, error: int = 0) -> Answer:
    return Answer(
        partition_index=index, leader_id=leader, leader_epoch=epoch, error_code=error,
        replica_nodes=(1, 2), isr_nodes=(1,),
    )  # fmt: skip


def topic(name: str | None, *partitions: Answer, error: int = 0, topic_id: UUID | None = ID) -> Answer:
    return Answer(name=name, error_code=error, topic_id=topic_id, is_internal=False, partitions=partitions)


def answer(*topics: Answer) -> Answer:
    brokers = [Answer(node_id=n, host=f"b{n}", port=9092, rack=None) for n in (1, 2)]
    return Answer(brokers=brokers, topics=topics, cluster_id="c", controller_id=1)


def test_an_answer_is_taken_in() -> None:
    cache = MetadataCache()
    cache.update(answer(topic("t", partition(1, 2, 5), partition(0, -1, 4))), 10.0)
    assert cache.leader("t", 1) == 2
    assert cache.leader("t", 0) is None
    assert cache.leader("t", 2) is None
    assert cache.leader("u", 0) is None
    assert cache.topics["t"].available == [1]
    assert cache.topics["t"].partitions[1] == PartitionView(
        partition=1, leader=2, leader_epoch=5, replicas=(1, 2), in_sync=(1,)
    )
    assert cache.brokers[2].host == "b2"
    assert (cache.cluster_id, cache.controller_id, cache.version, cache.updated_at) == ("c", 1, 1, 10.0)
    assert repr(cache) == "<MetadataCache version=1 brokers=[1, 2] topics=1>"


def test_an_older_epoch_is_not_believed() -> None:
    cache = MetadataCache()
    cache.update(answer(topic("t", partition(0, 2, 5))), 0)
    cache.update(answer(topic("t", partition(0, 1, 4))), 0)
    assert cache.leader("t", 0) == 2
    cache.update(answer(topic("t", partition(0, 1, 6))), 0)
    assert cache.leader("t", 0) == 1


def test_unless_the_topic_is_another_one_of_the_same_name() -> None:
    cache = MetadataCache()
    cache.update(answer(topic("t", partition(0, 2, 5))), 0)
    cache.update(answer(topic("t", partition(0, 1, 0), topic_id=UUID(int=8))), 0)
    assert cache.leader("t", 0) == 1


def test_errors_are_kept_until_they_pass() -> None:
    cache = MetadataCache()
    cache.update(answer(topic("t", error=3)), 0)
    assert cache.errors == {"t": ErrorCode.UNKNOWN_TOPIC_OR_PARTITION}
    cache.update(answer(topic("t", error=5)), 0)
    assert cache.errors == {"t": ErrorCode.LEADER_NOT_AVAILABLE}
    assert "t" not in cache.topics
    cache.update(answer(topic("t", partition(0, 1, 0))), 0)
    assert cache.errors == {}
    cache.update(answer(topic("t", error=3)), 0)
    assert "t" not in cache.topics, "it was deleted"


def test_topics_that_are_gone_are_forgotten_when_all_were_asked_for() -> None:
    cache = MetadataCache()
    cache.update(answer(topic("t", partition(0, 1, 0)), topic("u", partition(0, 1, 0), topic_id=None)), 0)
    cache.update(answer(topic("u", partition(0, 1, 0))), 0)
    assert set(cache.topics) == {"t", "u"}
    cache.update(answer(topic("u", partition(0, 1, 0))), 0, every_topic=True)
    assert set(cache.topics) == {"u"}


def test_a_hint_is_believed_when_it_is_news() -> None:
    cache = MetadataCache()
    cache.update(answer(topic("t", partition(0, 1, 5))), 0)
    assert not cache.learn_leader("t", 0, 2, 5)
    assert not cache.learn_leader("t", 0, 9, 6), "nobody knows where broker 9 is"
    assert not cache.learn_leader("u", 0, 2, 6)
    assert cache.learn_leader("t", 0, 2, 6)
    assert cache.leader("t", 0) == 2
    cache.update(answer(topic("t", partition(0, 1, 5))), 0)
    assert cache.leader("t", 0) == 2


def test_a_partition_by_name() -> None:
    assert repr(TopicPartition("orders", 3)) == "orders-3"
    assert TopicPartition("orders", 3) == ("orders", 3)


def test_pauses_double_with_jitter_up_to_the_most() -> None:
    backoff = Backoff(100, 1000, random.Random(1))
    pauses = [backoff.next() for _ in range(8)]
    for pause, expected in zip(pauses, [0.1, 0.2, 0.4, 0.8, 1, 1, 1, 1], strict=True):
        assert expected * 0.8 <= pause <= expected * 1.2
    assert len(set(pauses)) == 8
    backoff.reset()
    assert backoff.next() <= 0.12
