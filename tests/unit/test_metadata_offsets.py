"""The table of committed offsets: its snapshots, made in steps, and commits as bytes."""

from __future__ import annotations

import cbor2
import pytest

from raftlog.errors import InvalidInput, NewerFormat
from raftlog.metadata import image
from raftlog.metadata.codec import array_head
from raftlog.metadata.commands import decode_command, encode_command
from raftlog.metadata.image import decode_catalog
from raftlog.metadata.offset_table import CommittedOffset, Offsets
from raftlog.metadata.offsets import (
    CommitOffsets,
    DeleteGroup,
    DeleteOffsets,
    GroupCommit,
    OffsetCommit,
    encode_commit,
    encode_commits,
    join_commits,
)
from raftlog.metadata.state import MetadataState
from raftlog.metadata.topics import CreateTopic, DeleteTopic
from raftlog.types import BrokerId, RaftIndex
from tests.unit.test_metadata_state import ORDERS, REFUNDS, Log, create, log

__all__ = ["log"]


def commit(group: str, *offsets: tuple[str, int, int]) -> GroupCommit:
    return GroupCommit(group, 7, tuple(OffsetCommit(topic, p, at, 5, "é") for topic, p, at in offsets))


@pytest.mark.parametrize("count", [0, 1, 23, 24, 255, 256, 65536])
def test_commits_that_were_encoded_one_by_one_or_together_are_the_command(count: int) -> None:
    some = [commit(f"g{number}", ("orders", number, 2**40)) for number in range(min(count, 23))]
    commits = (*some, *[GroupCommit("", 0, ())] * (count - len(some)))  # the array's length is the point
    joined = join_commits([encode_commit(one) for one in commits])
    assert joined == encode_commits(commits) == encode_command(CommitOffsets(commits=commits))
    assert decode_command(joined) == CommitOffsets(commits=commits)


def test_an_array_has_a_largest_length() -> None:
    assert cbor2.loads(array_head(0)) == []
    with pytest.raises(ValueError, match="array"):
        array_head(2**32)


def busy(log: Log, groups: int = 50) -> None:
    log.apply(create())
    log.apply(create("refunds", REFUNDS))
    for number in range(groups):
        offsets = (("orders", 0, number), ("orders", 1, number), ("refunds", 0, number))
        log.apply(CommitOffsets(commits=(commit(f"g{number}", *offsets),)))


def restored(image: bytes) -> MetadataState:
    state = MetadataState()
    state.restore(image)
    return state


def test_an_image_in_steps_is_of_the_moment_when_it_was_begun(log: Log) -> None:
    busy(log)
    then, index = log.state.digest(), log.catalog.applied_index
    imaging = log.state.imaging
    imaging.begin()
    assert imaging.step(5) is None and imaging.is_under_way
    log.apply(CommitOffsets(commits=(commit("g1", ("orders", 0, 99)), commit("new", ("orders", 0, 1)))))
    assert imaging.step(5) is None
    log.apply(DeleteGroup(group="g2"))
    log.apply(DeleteOffsets(group="g3", partitions=(("orders", 0), ("orders", 1), ("refunds", 0))))
    log.apply(DeleteTopic(topic_id=REFUNDS))
    log.apply(create("refunds", b"again".ljust(16)))
    log.apply(CommitOffsets(commits=(commit("g4", ("refunds", 0, 77)),)))
    image, steps = None, 0
    while image is None:
        image, steps = imaging.step(5), steps + 1
    assert steps > 5
    assert not imaging.is_under_way
    of_then = restored(image)
    assert of_then.digest() == then
    assert of_then.catalog.applied_index == index
    assert restored(log.state.to_bytes()).digest() == log.state.digest() != then


def test_a_second_image_of_what_did_not_change_is_the_same(log: Log) -> None:
    busy(log)
    again = restored(log.state.to_bytes())
    assert again.digest() == log.state.digest()
    assert again.catalog == log.catalog
    again.apply(DeleteTopic(topic_id=ORDERS), RaftIndex(again.catalog.applied_index + 1))
    assert list(again.catalog.group_offsets.topics("g1")) == ["refunds"]
    assert again.catalog.group_offsets.of("g1") == {("refunds", 0): CommittedOffset(1, 5, "é", 7)}
    assert restored(again.to_bytes()).digest() == again.digest()


def test_a_step_of_an_image_takes_few_groups_that_have_not_changed() -> None:
    table = Offsets()
    for number in range(100):
        table.change(f"g{number}", "orders")[0] = CommittedOffset(number)
    for _ in range(2):  # the second time all are encoded
        table.begin_image()
        steps = 1
        while not table.encode_some(20):
            steps += 1
        assert 20 <= steps <= 40
        table.take_image()


def test_a_topic_that_is_made_again_has_no_offsets_of_before(log: Log) -> None:
    busy(log, groups=3)
    state = restored(log.state.to_bytes())
    index = state.catalog.applied_index
    state.apply(DeleteTopic(topic_id=ORDERS), RaftIndex(index + 1))
    again = CreateTopic(name="orders", topic_id=b"again".ljust(16), partitions=((BrokerId(1),),) * 2)
    state.apply(again, RaftIndex(index + 2))
    state.apply(CommitOffsets(commits=(commit("g1", ("orders", 1, 5)),)), RaftIndex(index + 3))
    assert list(state.catalog.group_offsets.rows("g1", "orders")) == [1]


def test_a_snapshot_of_the_first_version_opens(log: Log) -> None:
    """As builds wrote it that encoded the whole catalog at once."""
    fields = {
        "cluster_id": "c",
        "brokers": [
            {
                "id": 1,
                "host": "h",
                "port": 9092,
                "peer_host": "h",
                "peer_port": 9192,
                "rack": None,
                "incarnation": bytes(16),
                "registered_index": 1,
                "fenced": False,
                "draining": False,
            }
        ],
        "topics": [["orders", ORDERS, [[[1], [], [], 0]], {"retention.ms": "5"}, 2]],
        "broker_configs": {-1: {"a": "1"}},
        "group_offsets": {"g": [["orders", 0, 10, 5, "note", 100]]},
        "features": {"f": 1},
        "next_producer_id": 1000,
        "deleted_topics": [REFUNDS],
        "applied_index": 9,
        "topology_index": 2,
    }
    catalog = decode_catalog(cbor2.dumps([1, "catalog", fields]))
    assert catalog.committed_offset("g", "orders", 0) == CommittedOffset(10, 5, "note", 100)
    assert catalog.topics["orders"].partitions[0].replicas == (1,)
    assert catalog.topics["orders"].configs == {"retention.ms": "5"}
    assert (catalog.applied_index, catalog.next_producer_id) == (9, 1000)
    assert list(catalog.deleted_topics) == [REFUNDS]


@pytest.mark.parametrize(
    ("topics", "groups"),
    [
        ([], ["g"]),
        ([], [["g", {}]]),
        ([], [["g", {"t": 1}]]),
        ([], [["g", {1: b""}]]),
        ([], {"g": 1}),
        ([["t", b"", [], {}]], []),
        ([["t", b"", [[1]], {}, 1]], []),
        ([["t", b"", [], {"a": 1}, 1]], []),
    ],
)
def test_a_snapshot_with_something_else_in_it_is_refused(log: Log, topics: object, groups: object) -> None:
    fields = cbor2.loads(log.state.to_bytes())[2]
    assert decode_catalog(cbor2.dumps([2, "catalog", fields, [], []])).brokers == log.catalog.brokers
    with pytest.raises(InvalidInput):
        decode_catalog(cbor2.dumps([2, "catalog", fields, topics, groups]))


def test_a_snapshot_of_a_newer_build_is_called_that() -> None:
    with pytest.raises(NewerFormat, match="version 7"):
        decode_catalog(cbor2.dumps([7, "catalog", {}]))


def test_an_image_of_many_offsets_is_put_together_in_short_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """Joined in one go, the 40 MB of a million offsets held the loop for 40 ms."""
    monkeypatch.setattr(image, "TOGETHER_AT_ONCE", 10_000)
    catalog = MetadataState().catalog
    for number in range(2_000):
        row = CommittedOffset(number, 0, "x" * 90, 0)
        catalog.group_offsets.change(f"g{number}", "orders")[0] = row
    imaging, steps = image.Imaging(catalog), 1
    imaging.begin()
    while (made := imaging.step(1 << 30)) is None:
        steps += 1
    assert steps > len(made) // 11_000 > 10 and not imaging.is_under_way
    assert image.canonical(image.decode_catalog(made)) == image.canonical(catalog)
