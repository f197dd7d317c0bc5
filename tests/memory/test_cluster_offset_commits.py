"""Offset commits that wait together: which entries they become, and what each is told."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import pytest
import trio

from raftlog.cluster import offsets as batching
from raftlog.cluster.metadata_group import ProposalFailed
from raftlog.cluster.offsets import ENTRY_BYTES, GATHER_S, MANY, OffsetCommits
from raftlog.metadata.commands import PROPOSED_BYTES_MAX, decode_command
from raftlog.metadata.noun import Refusal, Refused, Result
from raftlog.metadata.offsets import CommitOffsets, GroupCommit, OffsetCommit, OffsetsCommitted
from raftlog.types import RaftIndex
from tests.unit.test_metadata_state import Log, create


class Node:
    """Applies what is proposed, after a moment; or fails."""

    def __init__(self, takes_s: float = 0.01) -> None:
        self.takes_s = takes_s
        self.log = Log()
        self.log.apply(create())
        self.sizes: list[int] = []
        self.results: dict[RaftIndex, Result] = {}
        self.failure: ProposalFailed | None = None
        self.is_full = False
        self.result_at = self.results.get

    async def propose_here(self, command: bytes) -> RaftIndex | ProposalFailed:
        await trio.sleep(self.takes_s)
        self.sizes.append(len(command))
        if self.failure is not None:
            return self.failure
        result = self.log.apply(decode_command(command))
        index = self.log.catalog.applied_index
        self.results[index] = result
        return index


def of_orders(group: str, count: int, metadata: str = "") -> GroupCommit:
    return GroupCommit(group, 1, tuple(OffsetCommit("orders", p % 2, p, 1, metadata) for p in range(count)))


async def committed(node: Node, *commits: GroupCommit) -> list[object]:
    """What each of the commits, which arrive at once, came to."""
    waiting = OffsetCommits(cast(Any, node), cast(Any, node))
    results: list[object] = [None] * len(commits)
    answered = trio.Event()

    def keep(number: int) -> Callable[[object], None]:
        def keep_it(result: object) -> None:
            assert results[number] is None, "a commit is answered once"
            results[number] = result
            if None not in results:
                answered.set()

        return keep_it

    async with trio.open_nursery() as nursery:
        for number, commit in enumerate(commits):
            waiting.commit(commit, keep(number))
        nursery.start_soon(waiting.run)
        await answered.wait()
        nursery.cancel_scope.cancel()
    return results


async def test_commits_that_wait_together_fit_their_entries(autojump_clock: object) -> None:
    """A thousand commits of a hundred partitions each were one entry, which no broker survived."""
    node = Node()
    results = await committed(node, *(of_orders(f"g{number}", 100) for number in range(1000)))
    assert results == [OffsetsCommitted()] * 1000
    assert max(node.sizes) < 2 * ENTRY_BYTES
    assert len(node.log.catalog.group_offsets) == 1000


async def test_a_commit_that_is_large_goes_in_several_entries(autojump_clock: object) -> None:
    node = Node()
    big = of_orders("g", 2300, "x" * 3000)
    small = of_orders("h", 2)
    assert await committed(node, big, small) == [OffsetsCommitted()] * 2
    assert len(node.sizes) > 10
    assert max(node.sizes) < PROPOSED_BYTES_MAX
    assert node.log.catalog.committed_offset("g", "orders", 1) is not None


async def test_what_is_too_large_is_refused_before_it_is_proposed(autojump_clock: object) -> None:
    node = Node()
    too_many = of_orders("g", 2300, "x" * 4000)
    one_too_long = of_orders("g", 1, "x" * 600_000)
    none = of_orders("g", 0)
    refused = await committed(node, too_many, one_too_long, none)
    assert [cast(Refused, one).reason for one in refused] == [
        Refusal.TOO_LARGE,
        Refusal.TOO_LARGE,
        Refusal.INVALID_VALUE,
    ]
    node.is_full = True
    (full,) = await committed(node, of_orders("g", 1))
    assert isinstance(full, Refused) and "no more offsets" in full.detail
    assert node.sizes == []


async def test_each_commit_is_told_of_its_own_unknown_partitions(autojump_clock: object) -> None:
    node = Node()
    gone = GroupCommit("g", 1, (OffsetCommit("gone", 0, 1), OffsetCommit("orders", 0, 1)))
    assert await committed(node, gone, of_orders("h", 1)) == [
        OffsetsCommitted((("g", "gone", 0),)),
        OffsetsCommitted(),
    ]


async def test_a_commit_fails_once_when_several_of_its_entries_do(autojump_clock: object) -> None:
    node = Node()
    node.failure = ProposalFailed("the leader changed", may_still_happen=True)
    assert await committed(node, of_orders("g", 2300, "x" * 3000)) == [node.failure]


async def test_what_waits_is_bounded_by_bytes(
    autojump_clock: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batching, "WAITING_BYTES_MAX", 5000)
    results = await committed(Node(), *(of_orders(f"g{number}", 100) for number in range(3)))
    assert results[0] == OffsetsCommitted()
    assert isinstance(results[2], ProposalFailed) and not results[2].may_still_happen


async def play(*arrivals: tuple[float, int], metadata: str = "") -> tuple[list[float], list[int]]:
    """Commits that arrive at these times, so many at once, where an entry takes a tenth of GATHER_S: when
    each time's last is answered, and how many commits each entry had. All but the first have `metadata`."""
    node = Node(GATHER_S / 10)
    counts: list[int] = []
    waiting = OffsetCommits(cast(Any, node), cast(Any, node))
    answered: dict[int, float] = {}
    begun = trio.current_time()

    async def propose_here(command: bytes) -> RaftIndex | ProposalFailed:
        decoded = decode_command(command)
        assert isinstance(decoded, CommitOffsets)
        counts.append(len(decoded.commits))
        return await Node.propose_here(node, command)

    node.propose_here = propose_here  # type: ignore[method-assign]
    async with trio.open_nursery() as nursery:
        nursery.start_soon(waiting.run)
        for number, (at, count) in enumerate(arrivals):
            await trio.sleep_until(begun + at)

            def note(_: object, number: int = number) -> None:
                answered[number] = trio.current_time() - begun

            for one in range(count):
                waiting.commit(of_orders(f"g{one}", 1, metadata if number else ""), note)
        await trio.sleep_until(begun + arrivals[-1][0] + 2 * GATHER_S)
        nursery.cancel_scope.cancel()
    return [answered[number] for number in range(len(arrivals))], counts


async def test_behind_many_commits_the_next_entry_waits_for_as_many(autojump_clock: object) -> None:
    _, entries = await play((0, 2 * MANY), (0.3 * GATHER_S, MANY), (0.6 * GATHER_S, MANY))
    assert entries == [2 * MANY, 2 * MANY]


async def test_an_entry_waits_no_longer_than_a_moment(autojump_clock: object) -> None:
    answered, entries = await play((0, 2 * MANY), (0.3 * GATHER_S, MANY))
    assert entries == [2 * MANY, MANY]
    assert GATHER_S < answered[1] < 1.3 * GATHER_S


async def test_few_commits_wait_for_nobody(autojump_clock: object) -> None:
    answered, entries = await play((0, MANY - 1), (0.3 * GATHER_S, 1))
    assert entries == [MANY - 1, 1]
    assert answered[1] < 0.5 * GATHER_S


async def test_what_fills_an_entry_waits_for_no_more(
    autojump_clock: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batching, "ENTRY_BYTES", 4000)
    answered, entries = await play((0, 2 * MANY), (0.3 * GATHER_S, 2), metadata="x" * 2000)
    assert entries == [2 * MANY, 2]
    assert answered[1] < 0.5 * GATHER_S
