"""Leaderships that change hands because somebody wants it: an operator, or a broker that stops."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import trio

from raftlog.cluster.calls import Reply, Unreachable
from raftlog.cluster.peers import Peers
from raftlog.cluster.this_broker import ThisBroker
from raftlog.errors import InvalidInput
from raftlog.raft.events import Cause
from raftlog.raft.group import RaftGroup
from raftlog.types import BrokerId, GroupKey

TRANSFER_TIMEOUT_S: Final = 2.0
HAND_OVER_POLL_S: Final = 0.02
FAREWELL_S: Final = 0.3
"""How long a stopping broker stays for its clients after its leaderships have gone."""


class Transfers:
    """Hands over what this broker leads, and asks others for what they lead."""

    def __init__(self, me: ThisBroker, groups: Mapping[GroupKey, RaftGroup], peers: Peers) -> None:
        """`groups` are those of this broker."""
        self._me = me
        self._groups = groups
        self._peers = peers
        peers.calls.serve("transfer", self._on_transfer)

    async def transfer(self, leader: BrokerId, group: GroupKey, to: BrokerId) -> str | None:
        """Have `leader` hand a group over; None when that is under way, else why not."""
        if leader == self._me.id:
            return self._transfer_here(group, to)
        try:
            answer = await self._peers.calls.ask(leader, "transfer", [group, to], timeout=TRANSFER_TIMEOUT_S)
        except Unreachable as error:
            return str(error)
        return None if answer is None else str(answer)

    def _transfer_here(self, key: GroupKey, to: BrokerId) -> str | None:
        group = self._groups.get(key)
        if group is None:
            return "this broker keeps no replica of it"
        return group.transfer_leadership(to, trio.current_time())

    def _on_transfer(self, sender: BrokerId, body: Any, reply: Reply) -> None:
        match body:
            case [bytes(key), int(to)]:
                reply(self._transfer_here(GroupKey(key), BrokerId(to)))
            case _:
                raise InvalidInput(f"broker {sender} wants {body!r} handed over")

    async def hand_over(self, timeout: float) -> None:
        """Give every leadership to another voter, so that stopping this broker leaves no gap; returns when
        that is done, when nobody can take one, or after `timeout` seconds. Then clients that come here with
        a request are told for a moment who leads now: better than finding out that they are disconnected."""
        self._peers.leave()
        stay_until = trio.current_time()
        with trio.move_on_after(timeout):
            while True:
                led = [group for group in self._groups.values() if group.is_leader]
                moving = [self._hand_over(group) for group in led]
                if any(moving):
                    stay_until = trio.current_time() + FAREWELL_S
                elif trio.current_time() >= stay_until:
                    return
                await trio.sleep(HAND_OVER_POLL_S)

    def _hand_over(self, group: RaftGroup) -> bool:
        """Whether somebody is taking the group over, or was asked to."""
        if group.is_transferring:
            return True
        others = [broker for broker in self._peers.may_take_over() if broker in group.voters]
        self._me.rng.shuffle(others)
        now = trio.current_time()
        return any(group.transfer_leadership(to, now, Cause.STOPPING) is None for to in others)
