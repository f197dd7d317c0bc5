"""What a turn does so many times, whoever asks, and who comes next."""

from __future__ import annotations

import random

from raftlog.raft.driver import COMMITS_MAX, Driver
from raftlog.raft.group import RaftGroup
from raftlog.raft.ration import Allowance, Ration
from raftlog.raft.values import Outcome, RaftTiming
from raftlog.storage.entry import EntryKind
from raftlog.storage.log_entries import COMMIT_ENTRY_COST, COMMIT_FILE_COST
from raftlog.storage.store import Store, StoreSettings
from raftlog.types import METADATA_GROUP, BrokerId, GroupKey
from tests.sim.virtual_disk import VirtualDisk
from tests.storage_world import batch
from tests.unit.raft_cluster import Machine

SELF = BrokerId(1)
GROUPS = 100
FILES_MAX = COMMITS_MAX // COMMIT_FILE_COST


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


def test_who_has_more_to_do_than_a_turn_allows_goes_on_behind_the_others() -> None:
    allowance = Allowance[str](10)
    allowance.left -= 15
    for group in ("a", "b", "c"):
        allowance.wait(group)
    assert allowance.is_wanted
    named = []
    for group in allowance.begin_turn():
        named.append(group)
        allowance.left -= 10
        allowance.wait(group)  # there is more
    assert named == ["a"]
    named = []
    for group in allowance.begin_turn():
        named.append(group)
        allowance.left -= 4
    assert named == ["b", "c", "a"] and not allowance.is_wanted


def leading(count: int) -> tuple[VirtualDisk, Driver]:
    """A broker that leads `count` groups of one."""
    disk = VirtualDisk(random.Random(1))
    store = Store.open(
        disk, "/data", StoreSettings(node_id=SELF, wal_file_bytes=16 << 20), rng=random.Random(2)
    )
    driver = Driver(store, send=lambda to, messages: None)
    for number in range(count):
        add_group(driver, GroupKey(number.to_bytes(20, "big")))
    while driver.has_work or not all(group.is_ready for group in driver.groups.values()):
        driver.turn(0.0)
    return disk, driver


def add_group(driver: Driver, key: GroupKey) -> RaftGroup:
    timing = RaftTiming(heartbeat=0.1, election_min=1.0, election_max=2.0)
    log = driver.store.create_log(key, f"log-{key.hex()}")
    group = RaftGroup(key, SELF, log, frozenset((SELF,)), timing=timing, rng=random.Random(3), now=0.0)
    driver.add(group, Machine(log))  # type: ignore[arg-type]
    return group


def test_a_turn_begins_a_bounded_number_of_files_and_answers_nobody_before() -> None:
    """A thousand partitions that are written together for the first time."""
    disk, driver = leading(GROUPS)
    logs = [group.log for group in driver.groups.values()]
    made: list[str] = []
    disk.on_operation = lambda operation, path: made.append(path) if operation == "create" else None
    answers: list[GroupKey] = []

    def propose(group: RaftGroup) -> None:
        def answer(outcome: Outcome, entry: object) -> None:
            assert outcome is Outcome.COMMITTED and len(disk.listdir(f"/data/{group.log.dirname}")) > 0
            answers.append(group.key)

        group.leading.propose(EntryKind.BATCH, batch(group.log, group.term, 1, 10), 1, answer)

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


def test_a_turn_moves_a_bounded_part_of_what_is_committed_to_the_segments() -> None:
    """Sixty partitions that had a megabyte each to commit, which a broker heard at once, held its loop for 70
    ms; many small batches take long by their number."""
    _, driver = leading(20)
    metadata = add_group(driver, METADATA_GROUP)
    groups = list(driver.groups.values())
    driver.turn(0.0)
    answers: list[GroupKey] = []

    def propose(group: RaftGroup, size: int) -> None:
        group.leading.propose(
            EntryKind.BATCH,
            batch(group.log, group.term, 1, size),
            1,
            lambda outcome, entry: answers.append(group.key),
        )

    for group in groups[:15]:
        for _ in range(2):
            propose(group, 500_000)
    for _ in range(3000):
        propose(groups[16], 10)
    propose(metadata, 10)
    commits, turns = [group.commit_index for group in groups], 0
    while driver.has_work:
        driver.turn(0.0)
        turns += 1
        if turns == 1:
            assert METADATA_GROUP in answers, "it waits for no other"
        cost = 0
        for number, group in enumerate(groups):
            size = 500_000 if number < 15 else 0
            cost += (group.commit_index - commits[number]) * (size + COMMIT_ENTRY_COST)
            commits[number] = group.commit_index
        assert cost <= COMMITS_MAX + 600_000
    assert len(answers) == 30 + 3000 + 1
    assert turns > (30 * 500_000 + 3000 * COMMIT_ENTRY_COST) // COMMITS_MAX
