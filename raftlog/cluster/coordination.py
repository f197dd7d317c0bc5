"""Whether this broker coordinates the consumer groups: whoever leads the metadata does. And whether its
catalog has all that the coordinator's has.

The groups themselves, which decide without a clock, are `GroupCoordinator`'s.
"""

from __future__ import annotations

from typing import Any, Final

import trio

from raftlog.cluster.calls import Reply, Unreachable
from raftlog.cluster.changes import Changes
from raftlog.cluster.groups import GroupCoordinator
from raftlog.cluster.liveness import Liveness
from raftlog.cluster.metadata_group import MetadataGroup
from raftlog.cluster.peers import Peers
from raftlog.cluster.this_broker import ThisBroker
from raftlog.errors import InvalidInput
from raftlog.types import BrokerId, RaftIndex

PATIENCE_S: Final = 5.0
"""How long a metadata leader is looked for that tells how much is committed. An election takes a second or
two."""
ASK_TIMEOUT_S: Final = 1.0
RETRY_S: Final = 0.05


class Coordination:
    """Takes the office over with the metadata leadership, and gives it up with it."""

    def __init__(
        self,
        me: ThisBroker,
        metadata: MetadataGroup,
        peers: Peers,
        groups: GroupCoordinator,
        liveness: Liveness,
        changes: Changes,
    ) -> None:
        self._me = me
        self._metadata = metadata
        self._peers = peers
        self._groups = groups
        self._liveness = liveness
        self._is_in_office = False
        self._level = metadata.catalog.metadata_level
        self._deadlines_moved = trio.Event()
        self._changes = changes
        peers.calls.serve("committed", self._on_committed)

    @property
    def is_coordinator(self) -> bool:
        """Whether the consumer groups are coordinated here."""
        return self._is_in_office

    @property
    def coordinator_id(self) -> BrokerId | None:
        """The broker that coordinates the consumer groups; nobody while that changes, as far as can be told
        here: a client that is sent to one that has ended takes seconds to ask again."""
        leader, group = self._metadata.leader, self._metadata.group
        if leader == self._me.id:
            return leader if self._is_in_office and not group.is_transferring else None
        if leader is None or not self._peers.links.is_connected(leader):
            return None
        return leader if group.may_be_led_in(group.term, trio.current_time()) else None

    async def confirm_coordinator(self) -> bool:
        """Whether a majority still takes this broker for the metadata leader, and what it has applied is all
        that was committed when the call began."""
        return self._is_in_office and await self._leads()

    async def catch_up(self) -> bool:
        """Wait until this broker's catalog has all that was committed when the call began, whoever leads the
        metadata (a read index asked of the leader, Raft thesis 6.4). False when nobody could tell how much
        that is for some seconds."""
        with trio.move_on_after(PATIENCE_S):
            while True:
                changed = self._changes.next
                leader = self._metadata.leader
                if leader == self._me.id:
                    if await self._leads():
                        return True
                elif leader is not None:
                    index = await self._committed_at(leader)
                    if index is not None:
                        await self._applied_to(index)
                        return True
                with trio.move_on_after(RETRY_S):
                    await changed.wait()
        return False

    async def _leads(self) -> bool:
        confirmed = trio.Event()
        answer: list[bool] = []

        def then(leads: bool) -> None:
            answer.append(leads)
            confirmed.set()

        self._metadata.group.read_barrier(trio.current_time(), then)
        if not answer:
            await confirmed.wait()
        return answer[0]

    async def _committed_at(self, leader: BrokerId) -> RaftIndex | None:
        """Where the metadata leader has applied all that was committed; None when it leads no longer."""
        try:
            answer = await self._peers.calls.ask(leader, "committed", None, timeout=ASK_TIMEOUT_S)
        except Unreachable:
            return None
        return RaftIndex(answer) if isinstance(answer, int) else None

    def _on_committed(self, sender: BrokerId, body: Any, reply: Reply) -> None:
        if body is not None:
            raise InvalidInput(f"broker {sender} asks how much is committed, with {str(body)[:60]}")

        def then(leads: bool) -> None:
            reply(int(self._metadata.applied_index) if leads else None)

        self._metadata.group.read_barrier(trio.current_time(), then)

    async def _applied_to(self, index: RaftIndex) -> None:
        while self._metadata.applied_index < index:
            await self._changes.wait()

    def follow_leadership(self) -> None:
        """Take over or give up the consumer groups with the metadata leadership."""
        leads, level = self._metadata.is_ready, self._metadata.catalog.metadata_level
        if level != self._level:
            self._level = level
            self.groups_changed()
        if leads == self._is_in_office:
            return
        self._is_in_office = leads
        if leads:
            self._liveness.take_office()
            self._groups.load(trio.current_time(), self._me.now_ms())
        else:
            self._groups.unload()
        self.groups_changed()

    def heard(self, broker: BrokerId, incarnation: bytes) -> None:
        """A broker gave a sign of life: noted by the metadata leader."""
        if self._is_in_office:
            self._liveness.heard(broker, incarnation, trio.current_time())

    def groups_changed(self) -> None:
        """A deadline of the groups may have moved."""
        self._deadlines_moved.set()

    async def run(self) -> None:
        """Let time pass for the groups, until cancelled."""
        while True:
            self._deadlines_moved = trio.Event()
            with trio.move_on_at(self._groups.next_deadline):
                await self._deadlines_moved.wait()
            self._groups.tick(trio.current_time())
