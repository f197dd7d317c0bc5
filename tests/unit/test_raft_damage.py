"""Bytes that are not what was written, in a group: never passed on, repaired from whoever has them."""

from __future__ import annotations

import itertools

from raftlog.raft.messages import Append, Message
from raftlog.types import BrokerId
from tests.sim.raft_disk_store import DiskStore, batch_of
from tests.unit.raft_cluster import Cluster


def new_cluster(size: int = 3) -> Cluster:
    disks = itertools.count(1)
    return Cluster(size, new_store=lambda broker: DiskStore(next(disks)), encode=batch_of, eager_commit=True)


def test_a_follower_takes_nothing_whose_bytes_are_not_those_of_its_checksum() -> None:
    """The leader's memory, or what is between the two, may be at fault: it counts as lost on the way."""
    cluster = new_cluster()
    leader = cluster.elect()
    spoilt: list[Message] = []
    deliver = cluster.deliver

    def spoil(sender: int, receiver: int, message: Message) -> None:
        is_full = isinstance(message, Append) and any(entry.payload for entry in message.entries)
        if isinstance(message, Append) and is_full and receiver != leader and len(spoilt) < 4:
            (*others, entry) = message.entries
            payload = bytearray(entry.payload)
            payload[-1] ^= 1
            message = message._replace(entries=[*others, entry._replace(payload=bytes(payload))])
            spoilt.append(message)
        deliver(sender, receiver, message)

    cluster.deliver = spoil  # type: ignore[method-assign]
    cluster.commit(b"first")
    cluster.converge()
    assert len(spoilt) == 4
    cluster.check_all()
    assert all(cluster[BrokerId(number)].log.damage is None for number in (1, 2, 3))
