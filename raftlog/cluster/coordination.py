"""Whether this broker coordinates the consumer groups: whoever leads the metadata does.

The groups themselves, which decide without a clock, are `GroupCoordinator`'s.
"""

from __future__ import annotations

import trio

from raftlog.cluster.groups import GroupCoordinator
from raftlog.cluster.liveness import Liveness
from raftlog.cluster.metadata_group import MetadataGroup
from raftlog.cluster.peers import Peers
from raftlog.cluster.this_broker import ThisBroker
from raftlog.types import BrokerId


class Coordination:
    """Takes the office over with the metadata leadership, and gives it up with it."""

    def __init__(
        self,
        me: ThisBroker,
        metadata: MetadataGroup,
        peers: Peers,
        groups: GroupCoordinator,
        liveness: Liveness,
    ) -> None:
        self._me = me
        self._metadata = metadata
        self._peers = peers
        self._groups = groups
        self._liveness = liveness
        self._is_in_office = False
        self._level = metadata.catalog.metadata_level
        self._deadlines_moved = trio.Event()

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
        if not self._is_in_office:
            return False
        confirmed = trio.Event()
        answer: list[bool] = []

        def then(leads: bool) -> None:
            answer.append(leads)
            confirmed.set()

        self._metadata.group.read_barrier(trio.current_time(), then)
        if not answer:
            await confirmed.wait()
        return answer[0]

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
