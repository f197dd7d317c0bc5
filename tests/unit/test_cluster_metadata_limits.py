"""What enters the metadata group's log, and what happens to entries that should never have."""

from __future__ import annotations

import random

import cbor2
import pytest

from raftlog.cluster import metadata_group
from raftlog.cluster.metadata_group import MetadataGroup, ProposalFailed
from raftlog.errors import NewerFormat
from raftlog.metadata.brokers import RegisterBroker
from raftlog.metadata.catalog import METADATA_LEVEL
from raftlog.metadata.commands import APPLIED_BYTES_MAX, PROPOSED_BYTES_MAX, encode_command
from raftlog.metadata.features import FeatureSet, SetFeature
from raftlog.metadata.noun import Refusal, Refused
from raftlog.metadata.offsets import CommitOffsets, GroupCommit, OffsetCommit
from raftlog.metadata.state import MetadataState
from raftlog.metadata.topics import AlterTopicConfig, CreateTopic
from raftlog.raft.driver import Driver
from raftlog.raft.group import RaftGroup
from raftlog.raft.values import RaftTiming
from raftlog.records.batch import stamp
from raftlog.records.record import NewRecord, encode_batch
from raftlog.storage.entry import EntryKind
from raftlog.storage.store import Store, StoreSettings
from raftlog.types import METADATA_GROUP, BrokerId, RaftIndex
from tests.sim.virtual_disk import VirtualDisk

B1 = BrokerId(1)


class Leader:
    """A broker alone, which leads the metadata group."""

    def __init__(self) -> None:
        self.disk = VirtualDisk(random.Random(1))
        self.now = 0.0
        self.open()

    def open(self) -> None:
        self.store = Store.open(self.disk, "/data", StoreSettings(node_id=B1, wal_file_bytes=16 << 20))
        log = self.store.logs.get(METADATA_GROUP)
        log = log or self.store.create_log(METADATA_GROUP, "__cluster_metadata-0")
        group = RaftGroup(
            METADATA_GROUP, B1, log, frozenset({B1}), timing=RaftTiming(), rng=random.Random(1), now=self.now
        )
        self.metadata = MetadataGroup(group, MetadataState(), lambda: None)
        self.driver = Driver(self.store, send=lambda to, messages: None)
        self.driver.add(group, self.metadata)
        self.turn()

    def turn(self) -> None:
        for _ in range(4):
            self.now += 5.0
            self.driver.turn(self.now)

    def propose(self, data: bytes, *, checked: bool = True) -> RaftIndex | ProposalFailed:
        outcomes: list[RaftIndex | ProposalFailed] = []
        propose = self.metadata.propose_checked if checked else self.metadata.propose
        propose(data, now_ms=1, on_done=outcomes.append)
        self.turn()
        (outcome,) = outcomes
        return outcome

    def write(self, data: bytes) -> RaftIndex:
        """As a build wrote that looked at nothing."""
        batch = encode_batch([NewRecord(1, None, data, ())])
        stamp(batch, self.metadata.group.log.log_end_offset, self.metadata.group.term)
        entry = self.metadata.group.leading.propose(
            EntryKind.BATCH, memoryview(batch), 1, lambda outcome, entry: None
        )
        self.turn()
        assert hasattr(entry, "index")
        return RaftIndex(entry.index)


@pytest.fixture
def leader() -> Leader:
    return Leader()


GOOD = encode_command(SetFeature(name="f", level=1))


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "not CBOR"),
        (b"\xff" * 10, "not CBOR"),
        (GOOD + b"\0", "follow"),
        (cbor2.dumps([1, "no_such", {}]), "unknown"),
        (cbor2.dumps([2, "set_feature", {"name": "f", "level": 1}]), "version 2"),
        (cbor2.dumps([1, "set_feature", {"name": "f", "level": "1"}]), "expected int"),
        (cbor2.dumps([1, "set_feature", {"name": "f", "level": 2**64}]), "64 bits"),
        (encode_command(SetFeature(name="f" * PROPOSED_BYTES_MAX, level=1)), "is the most"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_a_peer_proposes_is_looked_at_before_it_enters_the_log(
    leader: Leader, data: bytes, words: str
) -> None:
    """It was appended as it came, and every broker died of applying it, again at every start."""
    before = leader.metadata.group.log.last_index
    refused = leader.propose(data)
    assert isinstance(refused, ProposalFailed) and refused.is_final and not refused.may_still_happen
    assert words in str(refused)
    assert leader.metadata.group.log.last_index == before
    assert not isinstance(leader.propose(GOOD), ProposalFailed)


def test_a_kind_that_the_cluster_is_not_ready_for_is_not_proposed(
    leader: Leader, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(CreateTopic, "needs_level", 2)
    create = encode_command(CreateTopic(name="t", topic_id=b"t" * 16, partitions=((B1,),)))
    refused = leader.propose(create)
    assert isinstance(refused, ProposalFailed) and "raftlog.metadata.level 2" in str(refused)
    for level in (1, 2):
        register = RegisterBroker(
            broker_id=B1,
            incarnation=bytes(16),
            host="h",
            port=1,
            peer_host="h",
            peer_port=2,
            metadata_level=level,
        )
        leader.propose(encode_command(register))
        leader.propose(encode_command(SetFeature(name=METADATA_LEVEL, level=2)))
    assert not isinstance(leader.propose(create), ProposalFailed)


@pytest.mark.parametrize(
    "data",
    [
        b"nonsense",
        cbor2.dumps([1, "alter_broker_config", {"broker_id": 1, "set": {}, "remove": []}]),
        cbor2.dumps([1, "delete_group", {}]),
        encode_command(SetFeature(name="f" * APPLIED_BYTES_MAX, level=1)),
        encode_command(
            CommitOffsets(commits=(GroupCommit("g", 1, (OffsetCommit("t", 0, 1, 1, "x" * 4000),) * 2300),))
        ),
    ],
    ids=["nonsense", "retired", "malformed", "huge", "huge commit"],
)
def test_a_log_that_holds_what_is_no_command_starts(leader: Leader, data: bytes) -> None:
    index = leader.write(data)
    result = leader.metadata.result_at(index)
    assert isinstance(result, Refused) and result.reason is Refusal.MALFORMED
    assert not isinstance(leader.propose(GOOD), ProposalFailed)
    digest = leader.metadata.state.digest()
    leader.store.close()
    leader.open()
    assert leader.metadata.catalog.features == {"f": 1}
    assert leader.metadata.state.digest() == digest


def test_a_command_of_a_newer_build_ends_a_broker_that_does_not_know_it(leader: Leader) -> None:
    """To go on without it would be to have another catalog than the others, and to say nothing."""
    with pytest.raises(NewerFormat, match="newer raftlog"):
        leader.write(cbor2.dumps([1, "make_coffee", {}]))


def test_proposals_wait_up_to_so_many_bytes(leader: Leader, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metadata_group, "WAITING_BYTES_MAX", 3 * len(GOOD))
    outcomes: list[RaftIndex | ProposalFailed] = []
    for _ in range(4):
        leader.metadata.propose(GOOD, now_ms=1, on_done=outcomes.append)
    (refused,) = outcomes
    assert isinstance(refused, ProposalFailed) and not refused.is_final
    leader.turn()
    assert len(outcomes) == 4
    assert not isinstance(leader.propose(GOOD), ProposalFailed), "they are not counted any more"


def test_a_snapshot_is_made_in_steps_while_commands_are_applied(
    leader: Leader, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(metadata_group, "SNAPSHOT_AFTER_BYTES", 5_000)
    monkeypatch.setattr(metadata_group, "SNAPSHOT_STEP", 10)
    leader.propose(
        encode_command(
            RegisterBroker(broker_id=B1, incarnation=bytes(16), host="h", port=1, peer_host="h", peer_port=2)
        )
    )
    leader.propose(encode_command(CreateTopic(name="t", topic_id=b"t" * 16, partitions=((B1,),))))
    log = leader.metadata.group.log
    under_way = 0
    for number in range(300):
        commit = GroupCommit(f"g{number}", 1, (OffsetCommit("t", 0, number),))
        leader.propose(encode_command(CommitOffsets(commits=(commit,))), checked=False)
        under_way += leader.metadata.state.imaging.is_under_way
        assert log.saved.index <= leader.metadata.applied_index
    assert under_way > 10, "it takes several turns"
    assert log.saved.index > 100
    digest = leader.metadata.state.digest()
    del leader.metadata
    leader.store.close()
    leader.open()
    assert leader.metadata.state.digest() == digest
    assert isinstance(leader.metadata.result_at(leader.propose(GOOD)), FeatureSet)  # type: ignore[arg-type]


def test_a_setting_as_long_as_a_command_is_refused_at_the_door(leader: Leader) -> None:
    command = AlterTopicConfig(topic_id=b"t" * 16, set={"a": "x" * PROPOSED_BYTES_MAX})
    refused = leader.propose(encode_command(command))
    assert isinstance(refused, ProposalFailed) and refused.is_final
