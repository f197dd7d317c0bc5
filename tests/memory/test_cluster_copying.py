"""Two brokers, of which one is given what the other has compacted, while links, disks and leaders fail."""

from __future__ import annotations

import errno
from collections.abc import Callable
from functools import partial
from types import SimpleNamespace
from typing import Any, Final, cast

import pytest
import trio

from raftlog.cluster import copying
from raftlog.cluster.calls import Calls
from raftlog.cluster.copying import Copying
from raftlog.cluster.this_broker import ThisBroker
from raftlog.storage.filling import MARK_NAME
from raftlog.types import BrokerId
from tests.unit.test_partition_compacting import compact, compacted, fill, tick, values
from tests.unit.test_partition_copies import disk_of, lacking
from tests.unit.test_partition_handover import KEY

PATIENCE_S: Final = 30.0
PART_BYTES: Final = 100


class World:
    """Three replicas, the links of the leader and of the one that lacks entries, and what carries files."""

    def __init__(self) -> None:
        self.replicas = compacted()
        self.to = lacking(self.replicas)
        tick(self.replicas)
        self.target = self.replicas.partitions[self.to]
        self.source = self.replicas.leader()
        self.source_id = next(b for b, each in self.replicas.partitions.items() if each is self.source)
        self.is_cut = False
        self.asked: list[list[int]] = []
        self.on_part: Callable[[], None] = lambda: None
        self.calls = {b: Calls(partial(self._send, b)) for b in (self.to, self.source_id)}
        self.copying = {b: self._copying(b) for b in self.calls}
        self.source.compacting.on_lacking = lambda broker: self.copying[self.source_id].offer(broker, KEY)

    def _copying(self, broker: BrokerId) -> Copying:
        me = cast(ThisBroker, SimpleNamespace(id=broker))
        made = Copying(me, self.replicas.drivers[broker], self.calls[broker])
        serve = self.calls[broker]._handlers["copy_part"]

        def on_part(sender: BrokerId, body: Any, reply: Any) -> None:
            self.asked.append(body)
            self.on_part()
            serve(sender, body, reply)

        self.calls[broker]._handlers["copy_part"] = on_part
        return made

    def _send(self, sender: BrokerId, to: BrokerId, frame: bytes) -> bool:
        if not self.is_cut and to in self.calls:
            self.calls[to].receive(sender, frame)
        return not self.is_cut

    @property
    def folders(self) -> list[str]:
        """Those on the disk of the one that lacks entries that a copy was or is written to."""
        return [path for path in disk_of(self.replicas, self.target).files("/data") if MARK_NAME in path]

    async def until(self, condition: Callable[[], bool]) -> None:
        """Groups and files go on side by side."""
        with trio.fail_after(PATIENCE_S):
            while not condition():
                tick(self.replicas, 1)
                await trio.sleep(0.01)

    @property
    def is_filled(self) -> bool:
        return self.target.log.last_index == self.replicas.leader().log.last_index

    def check(self) -> None:
        leader = self.replicas.leader()
        assert values(self.target) == values(leader)
        assert self.target.log.cleaning.clean_index > 0 and self.target.applied_index == leader.applied_index


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch, nursery: trio.Nursery) -> World:
    monkeypatch.setattr(copying, "PART_BYTES", PART_BYTES)
    monkeypatch.setattr(copying, "FAILED_S", 0.2)
    monkeypatch.setattr(copying, "ASK_S", 0.2)
    world = World()
    for each in world.copying.values():
        nursery.start_soon(each.run)
    return world


@pytest.fixture
def autojump_clock() -> trio.abc.Clock | None:
    """Files are read in threads: time passes as it does."""
    return None


async def test_who_lacks_entries_is_given_the_files(world: World) -> None:
    await world.until(lambda: world.is_filled)
    world.check()
    giver = world.copying[world.source_id]
    await world.until(lambda: not giver._given)
    assert len(world.asked) > 3 and len(world.folders) == len({body[0] for body in world.asked}) == 1


async def test_a_lost_connection_is_waited_for_and_the_same_copy_goes_on(world: World) -> None:
    def cut() -> None:
        world.is_cut = len(world.asked) == 4

    world.on_part = cut
    await world.until(lambda: world.is_cut)
    await trio.sleep(0.5)
    world.on_part = lambda: None
    world.is_cut = False
    await world.until(lambda: world.is_filled)
    world.check()
    assert len({body[0] for body in world.asked}) == 1


async def test_a_giver_that_has_forgotten_the_copy_gives_another(world: World) -> None:
    """Scenario 59: its process was started again meanwhile."""

    def forget() -> None:
        if len(world.asked) == 4:
            giver = world.copying[world.source_id]
            for number in list(giver._given):
                giver._close(number)

    world.on_part = forget
    await world.until(lambda: world.is_filled)
    world.check()
    assert len({body[0] for body in world.asked}) == 2


async def test_another_leader_and_a_new_pass_meanwhile_end_no_copy(world: World) -> None:
    """Scenario 59: all that is in a copy is committed, and its files stay."""
    (other,) = set(world.replicas.ids) - {world.to, world.source_id}

    def hand_over() -> None:
        if len(world.asked) == 4:
            assert world.source.group.leading.transfer(other, world.replicas.now) is None
            world.replicas.run(3)
            assert not world.source.is_leader
            world.source.compacting.all_have = world.source.log.last_index
            assert compact(world.source, disk_of(world.replicas, world.source), 2)

    successor = world.replicas.partitions[other]
    assert compact(successor, disk_of(world.replicas, successor))
    fill(world.replicas)
    successor.log.entries.forget_to(successor.log.commit_index)
    world.on_part = hand_over
    await world.until(lambda: world.is_filled)
    world.check()
    assert len({body[0] for body in world.asked}) == 1


@pytest.mark.parametrize("operation", ["write", "sync", "create", "rename"])
async def test_a_disk_that_refuses_a_file_costs_the_copy_and_nothing_else(
    world: World, operation: str
) -> None:
    disk: Any = disk_of(world.replicas, world.target)
    before = values(world.target)
    disk.fail_next(operation, where=lambda path: "~2/" in path, code=errno.ENOSPC)
    await world.until(lambda: not disk._faults)
    assert values(world.target) == before
    await world.until(lambda: world.is_filled)
    world.check()


async def test_a_replica_that_goes_meanwhile_leaves_nothing(world: World) -> None:
    def remove() -> None:
        driver = world.replicas.drivers[world.to]
        if len(world.asked) == 4:
            world.replicas.paused.add(world.to)
            driver.remove(KEY)
            driver.store.delete_log(KEY)

    world.on_part = remove
    await world.until(lambda: not world.copying[world.to]._taking and len(world.asked) >= 4)
    store = world.replicas.drivers[world.to].store
    job = store.begin_checkpoint() if not store.has_pending else None
    if job is not None:
        job.run()
    assert KEY not in store.logs


async def test_a_bit_that_turns_over_on_the_way_costs_the_copy(world: World) -> None:
    """Scenario 57: the bytes of a damaged source reach no other disk's log."""
    source: Any = disk_of(world.replicas, world.source)
    path = next(each for each in source.files("/data") if ".1.log" in each)
    good = source.content(path)
    source.flip_bit(path, 8 * 70)
    before = values(world.target)
    await world.until(lambda: len({body[0] for body in world.asked}) >= 2)
    assert values(world.target) == before and not world.is_filled
    source.put(path, good)
    await world.until(lambda: world.is_filled)
    world.check()


async def test_what_was_deleted_since_it_was_offered_is_not_given(world: World) -> None:
    """The offer is on its way while DeleteRecords takes all that compaction has been over."""
    source = world.source
    world.copying[world.source_id].offer(world.to, KEY)
    source.delete_before(-1, now=world.replicas.now, on_done=lambda error, start: None)
    world.replicas.run(1)
    assert source.log.retention.drop_deleted(source.applied_index)
    await world.until(lambda: world.is_filled)
    assert world.target.log_start_offset == source.log_start_offset == source.high_watermark
    assert not world.asked
