"""What a turn does so many times, whoever asks, and who comes next."""

from __future__ import annotations

import random

from raftlog.raft.driver import FILES_MAX, Driver
from raftlog.raft.group import RaftGroup
from raftlog.raft.ration import Ration
from raftlog.raft.values import Outcome, RaftTiming
from raftlog.storage.store import Store, StoreSettings
from raftlog.types import BrokerId, GroupKey
from tests.sim.virtual_disk import VirtualDisk
from tests.storage_world import batch
from tests.unit.raft_cluster import Machine

SELF = BrokerId(1)
GROUPS = 100


def test_who_gets_none_is_first_in_the_next_turn() -> None:
    ration, groups = Ration(2), [object() for _ in range(5)]
    assert [ration.take(group) for group in groups] == [True, True, False, False, False]  # type: ignore[arg-type]
    assert ration.is_wanted
    assert ration.renew() == groups[2:4]
    assert not ration.take(groups[0]), "theirs is kept"  # type: ignore[arg-type]
    assert ration.take(groups[3]) and ration.take(groups[2])  # type: ignore[arg-type]
    assert not ration.take(groups[2]), "and used once"  # type: ignore[arg-type]
    assert ration.renew() == [groups[4], groups[0]]
    assert ration.renew() == [groups[2]]
    assert not ration.is_wanted


def test_a_turn_begins_a_bounded_number_of_files_and_answers_nobody_before() -> None:
    """A thousand partitions that are written together for the first time."""
    disk = VirtualDisk(random.Random(1))
    store = Store.open(disk, "/data", StoreSettings(node_id=SELF), rng=random.Random(2))
    driver = Driver(store, send=lambda to, messages: None)
    timing = RaftTiming(heartbeat=0.1, election_min=1.0, election_max=2.0)
    logs = [
        store.create_log(GroupKey(number.to_bytes(20, "big")), f"log-{number}") for number in range(GROUPS)
    ]
    for log in logs:
        group = RaftGroup(
            log.key, SELF, log, frozenset((SELF,)), timing=timing, rng=random.Random(3), now=0.0
        )
        driver.add(group, Machine(log))  # type: ignore[arg-type]
    while driver.has_work or not all(group.is_ready for group in driver.groups.values()):
        driver.turn(0.0)
    made: list[str] = []
    disk.on_operation = lambda operation, path: made.append(path) if operation == "create" else None
    answers: list[GroupKey] = []

    def propose(group: RaftGroup) -> None:
        def answer(outcome: Outcome, entry: object) -> None:
            assert outcome is Outcome.COMMITTED and len(disk.listdir(f"/data/{group.log.dirname}")) > 0
            answers.append(group.key)

        group.propose(batch(group.log, group.term, 1, 10), 1, 0.0, answer)

    for group in driver.groups.values():
        propose(group)
    turns = 0
    while driver.has_work:
        before = len(made)
        driver.turn(0.0)
        assert len(made) - before <= FILES_MAX
        turns += 1
    assert answers == [log.key for log in logs], "each once, in the order of asking"
    assert turns >= GROUPS // FILES_MAX
    made.clear()
    for group in driver.groups.values():
        propose(group)
    driver.turn(0.0)
    driver.turn(0.0)
    assert not made and len(answers) == 2 * GROUPS, "a file that is there costs no turn"
