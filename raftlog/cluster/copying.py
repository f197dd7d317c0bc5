"""Gives a replica the compacted part of a log, where it lacks that: files from broker to broker, beside Raft.

The leader of a partition offers a copy to a follower that needs entries which compaction has been over. The
follower takes it in parts, one at a time, into a folder beside its log, checks every batch, has all of it on
its disk, and then lets its replica go on with that in one step (`raft.messages.Filled`). Until then its log
is what it was: the replica votes, or does not, by that. It goes on with the same parts when a connection was
lost, or the giver is no leader any more, since all that is in a copy is committed; when the giver has
forgotten the copy, it drops what it has and takes another.

Offers are repeated, so nothing is queued. Invariants: memory is a part for each copy that is under way and
its description; a copy that nobody asks for is closed.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, TypeVar

import trio

from raftlog.cluster.calls import Calls, Reply, Unreachable
from raftlog.cluster.this_broker import ThisBroker
from raftlog.errors import DamagedLog, InvalidInput
from raftlog.raft.driver import Driver
from raftlog.raft.group import RaftGroup
from raftlog.raft.messages import Filled
from raftlog.storage.cleaning import Cleaning
from raftlog.storage.filling import DESCRIPTION, Copy, Filling, Part
from raftlog.types import GROUP_KEY_SIZE, BrokerId, GroupKey, Term

PART_BYTES: Final = 128 << 10
"""1 ms at 1 Gbit/s: what entries on the same link wait for."""
DESCRIPTION_BYTES_MAX: Final = 256 << 20
"""Of a state machine's state and some more: what a snapshot may have."""
GIVEN_MAX: Final = 16
"""Copies that a broker gives at once. Each keeps files on the disk that would be gone."""
TAKEN_MAX: Final = 2
"""Copies that a broker takes at once. The others are offered again."""
ASKED_MAX: Final = 64
"""Parts that are asked for and not read yet: twice what GIVEN_MAX brokers ask for, and some more."""
IDLE_S: Final = 60.0
"""A copy is closed that was not asked for in so long."""
ASK_S: Final = 5.0
PATIENCE_S: Final = 30.0
"""How long a part is asked for, again and again, before the copy is given up."""
BUSY_SHARE: Final = 3
"""Times as long as a step of checking takes, nothing is checked: it shares the interpreter with the loop."""
PAUSE_S: Final = 0.2
FAILED_S: Final = 10.0
"""After a failure: a disk that is full is not filled again at once."""

log = logging.getLogger("raftlog.storage")

T = TypeVar("T")


class _CopyLost(Exception):
    """It cannot be finished, or is of no use any more."""


@dataclass(slots=True)
class _Given:
    """A copy that another broker takes."""

    to: BrokerId
    key: GroupKey
    cleaning: Cleaning
    copy: Copy
    used_at: float


class Copying:
    """Of one broker: gives copies and takes them."""

    def __init__(self, me: ThisBroker, driver: Driver, calls: Calls) -> None:
        self._me = me
        self._driver = driver
        self._aside = driver.store.aside
        self._calls = calls
        self._given: dict[int, _Given] = {}
        self._last_number = 0
        self._asked = deque[tuple[_Given, Part, Reply]]()
        self._has_work = trio.Event()
        self._offers: dict[GroupKey, BrokerId] = {}
        self._taking: set[GroupKey] = set()
        self._not_before: dict[GroupKey, float] = {}
        calls.serve("copy_offered", self._on_offered)
        calls.serve("copy_begin", self._on_begin)
        calls.serve("copy_part", self._on_part, is_bulky=True)
        calls.serve("copy_end", self._on_end)

    async def run(self) -> None:
        """Until cancelled."""
        async with trio.open_nursery() as nursery:
            while True:
                with trio.move_on_after(IDLE_S):
                    await self._has_work.wait()
                self._has_work = trio.Event()
                while self._asked:
                    await self._answer(*self._asked.popleft())
                offers, self._offers = self._offers, {}
                for key, source in offers.items():
                    nursery.start_soon(self._take, source, key)
                self._close_idle(trio.current_time())

    # Giving

    def offer(self, to: BrokerId, key: GroupKey) -> None:
        """A follower of a group that is led here lacks what compaction has been over."""
        self._calls.tell(to, "copy_offered", key)

    def _on_begin(self, sender: BrokerId, body: Any, reply: Reply) -> None:
        """Answers the copy's number, this broker's term, the entry that the copy ends with, and the size of
        the description; None: no copy."""
        key = _group_key(sender, body)
        group = self._driver.groups.get(key)
        for number in [n for n, each in self._given.items() if (each.to, each.key) == (sender, key)]:
            self._close(number)
        if group is None or not group.is_ready or not group.log.cleaning.clean_index:
            reply(None)
            return
        if len(self._given) >= GIVEN_MAX:
            reply(None)
            return
        cleaning = group.log.cleaning
        given = _Given(sender, key, cleaning, cleaning.copy(), trio.current_time())
        self._last_number += 1
        self._given[self._last_number] = given
        end = given.copy.image.commit.index
        reply([self._last_number, group.term, end, given.copy.description_size])

    def _on_part(self, sender: BrokerId, body: Any, reply: Reply) -> None:
        match body:
            case [int(number), int(file), int(position), int(size)] if position >= 0 and size > 0:
                given = self._given.get(number)
            case _:
                raise InvalidInput(f"broker {sender} asks for {body!r} of a copy")
        if given is None or given.to != sender:
            reply(None)
        elif len(self._asked) < ASKED_MAX:
            given.used_at = trio.current_time()
            self._asked.append((given, Part(file, position, min(size, PART_BYTES)), reply))
            self._has_work.set()

    async def _answer(self, given: _Given, part: Part, reply: Reply) -> None:
        try:
            reply(await trio.to_thread.run_sync(partial(given.copy.read, part)))
        except OSError as error:  # the log was deleted, or begun anew
            log.warning("a copy for broker %d ends: %s", given.to, error)
            reply(None)

    def _on_end(self, sender: BrokerId, body: Any, reply: Reply) -> None:
        given = self._given.get(body) if isinstance(body, int) else None
        if given is not None and given.to == sender:
            self._close(body)

    def _close(self, number: int) -> None:
        given = self._given.pop(number)
        given.cleaning.end_copy(given.copy)

    def _close_idle(self, now: float) -> None:
        for number in [n for n, each in self._given.items() if now - each.used_at > IDLE_S]:
            self._close(number)

    # Taking

    def _on_offered(self, sender: BrokerId, body: Any, reply: Reply) -> None:
        key = _group_key(sender, body)
        now = trio.current_time()
        self._not_before = {each: until for each, until in self._not_before.items() if until > now}
        if key in self._taking or key in self._not_before or len(self._taking) >= TAKEN_MAX:
            return
        if key in self._driver.groups:
            self._taking.add(key)
            self._offers[key] = sender
            self._has_work.set()

    async def _take(self, source: BrokerId, key: GroupKey) -> None:
        group = self._driver.groups.get(key)
        try:
            if group is not None:
                await self._take_for(group, source)
        except (_CopyLost, Unreachable, InvalidInput, DamagedLog, OSError) as error:
            log.warning("a copy of %s from broker %d was given up: %s", key.hex(), source, error)
            self._not_before[key] = trio.current_time() + FAILED_S
        finally:
            self._taking.discard(key)

    async def _take_for(self, group: RaftGroup, source: BrokerId) -> None:
        begun = await self._calls.ask(source, "copy_begin", group.key, timeout=ASK_S)
        match begun:
            case [int(number), int(term), int(end), int(size)] if 0 < size <= DESCRIPTION_BYTES_MAX:
                pass
            case _:
                return  # it leads no more, or gives to others: the offer comes again
        if end <= group.log.commit_index:  # an offer that came late
            self._calls.tell(source, "copy_end", number)
            return
        taken = _Taken(self._calls, source, number, lambda: self._driver.groups.get(group.key) is group)
        dirname = self._aside.new_folder(group.log)
        try:
            description = await taken.description(size)
            filling = await _in_thread(partial(self._aside.fill, dirname, description))
            if filling.image.key != group.key:
                raise _CopyLost("it is of another group")
            log.info("%s is filled with %d bytes of broker %d", dirname, filling.size, source)
            for part in filling.parts(PART_BYTES):
                await _in_thread(partial(filling.add, part, await taken.part(part)))
            steps, has_more = filling.finish(), True
            while has_more:
                begun = trio.current_time()
                has_more = await _in_thread(partial(_has_next, steps))
                await trio.sleep(BUSY_SHARE * (trio.current_time() - begun))
            await self._go_on_with(group, Term(term), filling, dirname)
        finally:
            if group.log.dirname != dirname:
                self._aside.abandon(dirname)
            self._calls.tell(source, "copy_end", number)

    async def _go_on_with(self, group: RaftGroup, term: Term, filling: Filling, dirname: str) -> None:
        """Have the replica go on with the copy, once it follows a leader that has all that is in it: who
        leads in the giver's term or in a later one. Raises _CopyLost."""
        while True:
            if self._driver.groups.get(group.key) is not group:
                raise _CopyLost("the replica is no longer kept here")
            if filling.image.commit.index <= group.log.commit_index:
                raise _CopyLost("the log has come by entries meanwhile")
            if group.term >= term:
                # In the step in which the replica takes it, since nothing may come between that and
                # `dirname`.
                group.turning.step(
                    self._me.id, Filled(group.key, group.term, filling.image, dirname), trio.current_time()
                )
                group.turning.wake()
                if group.log.dirname == dirname:
                    log.info("%s goes on with entry %d", dirname, filling.image.commit.index + 1)
                    return
            await trio.sleep(PAUSE_S)


class _Taken:
    """A copy that another broker gives."""

    def __init__(self, calls: Calls, source: BrokerId, number: int, is_wanted: Callable[[], bool]) -> None:
        self._calls = calls
        self._source = source
        self._number = number
        self._is_wanted = is_wanted

    async def description(self, size: int) -> bytes:
        positions = range(0, size, PART_BYTES)
        parts = [Part(DESCRIPTION, position, min(PART_BYTES, size - position)) for position in positions]
        return b"".join([await self.part(part) for part in parts])

    async def part(self, part: Part) -> bytes:
        """Raises _CopyLost when the giver has it no more, Unreachable when it does not answer for long."""
        until = trio.current_time() + PATIENCE_S
        while True:
            if not self._is_wanted():
                raise _CopyLost("the replica is no longer kept here")
            try:
                answer = await self._calls.ask(
                    self._source, "copy_part", [self._number, *part], timeout=ASK_S
                )
            except Unreachable:
                if trio.current_time() > until:
                    raise
                await trio.sleep(PAUSE_S)
                continue
            if not isinstance(answer, bytes):
                raise _CopyLost(f"broker {self._source} does not have it any more")
            return answer


async def _in_thread(work: Callable[[], T]) -> T:
    return await trio.to_thread.run_sync(work)


def _has_next(steps: Any) -> bool:
    for _ in steps:
        return True
    return False


def _group_key(sender: BrokerId, body: Any) -> GroupKey:
    if not isinstance(body, bytes) or len(body) != GROUP_KEY_SIZE:
        raise InvalidInput(f"broker {sender} names {str(body)[:100]} in the place of a group")
    return GroupKey(body)
