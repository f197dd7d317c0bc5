"""What a coordinator keeps of its groups: proposed, if every broker can keep it and there is room for it."""

from __future__ import annotations

import random

import pytest

from raftlog.cluster import metadata_group
from raftlog.cluster.group_records import GroupRecords
from raftlog.cluster.this_broker import ThisBroker
from raftlog.config import BrokerConfig
from raftlog.metadata import groups
from raftlog.metadata.brokers import RegisterBroker
from raftlog.metadata.catalog import METADATA_LEVEL
from raftlog.metadata.commands import encode_command
from raftlog.metadata.features import SetFeature
from raftlog.metadata.groups import ChangeMembers, ForgetGroup, StoreGroup
from raftlog.types import BrokerId
from tests.clocks import STILL
from tests.unit.test_cluster_metadata_limits import Leader


class Records:
    """A broker that leads the metadata, and what it was told of what it kept."""

    def __init__(self, level: int = StoreGroup.needs_level) -> None:
        self.leader = Leader()
        self.answers: list[bool] = []
        self.woken = 0
        me = ThisBroker.of(BrokerConfig.of({"node.id": "1"}), rng=random.Random(1), clock=STILL)
        self.records = GroupRecords(me, self.leader.metadata, self._woken, now=lambda: self.leader.now)
        register = RegisterBroker(
            broker_id=BrokerId(1),
            incarnation=bytes(16),
            host="h",
            port=1,
            peer_host="h",
            peer_port=2,
            metadata_level=level,
        )
        self.leader.propose(encode_command(register))
        self.leader.propose(encode_command(SetFeature(name=METADATA_LEVEL, level=level)))

    def _woken(self) -> None:
        self.woken += 1

    @property
    def last_index(self) -> int:
        return int(self.leader.metadata.group.log.last_index)

    def keep(self, command: StoreGroup | ChangeMembers | ForgetGroup, *, turn: bool = True) -> list[bool]:
        """The answers that came of it."""
        before = len(self.answers)
        self.records.keep(command, lambda is_kept, now: self.answers.append(is_kept))
        if turn:
            self.leader.turn()
        return self.answers[before:]


def store(generation: int = 1, size: int = 10, group: str = "g") -> StoreGroup:
    return StoreGroup(
        group=group,
        generation=generation,
        protocol="range",
        members=(("m", bytes(size)),),
        leader="m",
        at_ms=1,
    )


def test_it_is_kept_when_it_is_committed() -> None:
    records = Records()
    assert records.keep(store(), turn=False) == [] and records.records.get("g") is None
    records.leader.turn()
    assert records.answers == [True] and records.woken == 1
    kept = records.records.get("g")
    assert kept is not None and dict(kept.members) == {"m": bytes(10)} and list(records.records) == ["g"]
    assert records.keep(ForgetGroup(group="g")) == [True] and list(records.records) == []


def test_nothing_is_proposed_before_every_broker_knows_how() -> None:
    records = Records(level=StoreGroup.needs_level - 1)
    before = records.last_index
    assert not records.records.is_open
    assert records.keep(store(), turn=False) == [True]
    assert records.last_index == before and not list(records.records)


def test_a_group_that_is_not_kept_is_not_changed() -> None:
    records = Records()
    before = records.last_index
    assert records.keep(ChangeMembers(group="g", generation=1, gone=("m",), leader=""), turn=False) == [True]
    assert records.keep(ForgetGroup(group="g"), turn=False) == [True]
    assert records.last_index == before


def test_a_group_that_is_too_large_is_not_kept_and_neither_is_what_it_was_before() -> None:
    records = Records()
    before = records.last_index
    assert records.keep(store(size=groups.GROUP_BYTES_MAX, group="another"), turn=False) == [True]
    assert records.last_index == before
    assert records.keep(store()) == [True]
    assert records.keep(store(2, groups.GROUP_BYTES_MAX)) == [True]
    assert records.records.get("g") is None, "members of generation 1 would be taken for those of 2"
    assert records.keep(store(3)) == [True] and records.records.get("g") is not None


def test_all_groups_have_so_many_bytes_together(monkeypatch: pytest.MonkeyPatch) -> None:
    records = Records()
    monkeypatch.setattr(groups, "GROUPS_BYTES_MAX", 1000)
    for number in range(20):
        records.keep(store(group=f"g{number}", size=100))
    assert 3 < len(list(records.records)) < 10
    assert records.leader.metadata.catalog.groups.bytes <= 1000


def test_what_could_not_be_proposed_is_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    records = Records()
    monkeypatch.setattr(metadata_group, "MAX_WAITING", 1)
    assert records.keep(store(), turn=False) == []
    assert records.keep(store(group="another"), turn=False) == [False]
    records.leader.turn()
    assert records.answers == [False, True] and list(records.records) == ["g"]


def test_a_member_that_comes_back_does_not_make_a_group_larger_than_it_may_be(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A static member says of itself what it likes when it comes back, and the generation goes on."""
    records = Records()
    records.keep(store())
    back = ChangeMembers(group="g", generation=1, gone=("m",), come=(("m2", bytes(10)),), leader="m2")
    assert records.keep(back) == [True] and records.records.get("g") is not None
    large = bytes(groups.GROUP_BYTES_MAX)
    back = ChangeMembers(group="g", generation=1, gone=("m2",), come=(("m3", large),), leader="m3")
    assert records.keep(back) == [True] and records.records.get("g") is None
    monkeypatch.setattr(groups, "GROUPS_BYTES_MAX", 500)
    records.keep(store(2))
    back = ChangeMembers(group="g", generation=2, gone=("m",), come=(("m2", bytes(450)),), leader="m2")
    assert records.keep(back) == [True] and records.leader.metadata.catalog.groups.bytes <= 500


def test_many_members_that_come_back_make_no_group_larger_than_it_may_be() -> None:
    records = Records()
    records.keep(store())
    for number in range(20):
        back = ((f"n{number}", bytes(groups.GROUP_BYTES_MAX // 10)),)
        records.keep(ChangeMembers(group="g", generation=1, gone=(), come=back, leader="m"))
    assert records.leader.metadata.catalog.groups.bytes <= groups.GROUP_BYTES_MAX
