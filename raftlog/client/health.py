"""What is not as it should be in a cluster, in words: `raftlog cluster health` and the console say the same.

Pure: who asks has gathered the facts.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

FREE_SHARE_MIN: Final = 0.03
FREE_BYTES_MIN: Final = 512 << 20
"""A disk with less free than both is about to be full."""

NO_LEADER: Final = (
    "the metadata has no leader: no majority of the brokers that vote for one is there,"
    " and nothing of the cluster can change until it is"
)


class PartitionState(NamedTuple):
    """A partition, as far as its health goes."""

    partition: int
    leader: int | None
    replicas: int
    in_sync: int


class DiskState(NamedTuple):
    """A broker's disk. Sizes in bytes, -1 where they are not known."""

    broker: int
    is_damaged: bool
    """What it keeps was found damaged, and is not repaired yet."""
    total: int
    free: int


def broker_problems(brokers: Iterable[tuple[int, bool]]) -> list[str]:
    """Of (broker, whether it is alive)."""
    return [f"broker {broker} is down" for broker, is_alive in brokers if not is_alive]


def topic_problems(topic: str, partitions: Sequence[PartitionState]) -> list[str]:
    """Partitions that share a fate share a line."""
    leaderless = [p.partition for p in partitions if p.leader is None]
    short = [p.partition for p in partitions if p.in_sync < p.replicas]
    problems = []
    for numbers, what in (
        (leaderless, "without a leader"),
        (short, "with replicas on brokers that are down"),
    ):
        if numbers:
            plural = "partition" if len(numbers) == 1 else "partitions"
            problems.append(f"{topic}: {len(numbers)} {plural} {what}: {','.join(map(str, numbers))}")
    return problems


def disk_problems(disks: Iterable[DiskState]) -> list[str]:
    problems = []
    for disk in disks:
        if disk.is_damaged:
            problems.append(
                f"broker {disk.broker} keeps damaged data that is not repaired yet: its log says which"
            )
        if 0 <= disk.free < min(FREE_BYTES_MIN, FREE_SHARE_MIN * disk.total):
            problems.append(f"broker {disk.broker} has {disk.free >> 20} MiB of disk left")
    return problems
