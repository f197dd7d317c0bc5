"""Leaderships that change hands because somebody wants it: an operator, a broker that stops, or one that
starts where it does not reach the metadata leader."""

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
from raftlog.types import METADATA_GROUP, BrokerId, GroupKey

TRANSFER_TIMEOUT_S: Final = 2.0
HAND_OVER_POLL_S: Final = 0.02
START_S: Final = 3.0
"""How long a broker that starts may lead before it serves clients. Most are registered sooner, and to give
leaderships away and get them back costs clients two retries."""
GIVE_AWAY_POLL_S: Final = 0.5
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
        if to in group.voters and to != self._me.id and to not in self._peers.may_take_over():
            return f"broker {to} is not connected, or does not serve clients"
        return group.leading.transfer(to, trio.current_time())

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
                moving = [self._hand_over(group, Cause.STOPPING) for group in led]
                if any(moving):
                    stay_until = trio.current_time() + FAREWELL_S
                elif trio.current_time() >= stay_until:
                    return
                await trio.sleep(HAND_OVER_POLL_S)

    async def give_away_until(self, joined: trio.Event) -> None:
        """Give what is led here to brokers that serve clients, until this one is in the cluster: it votes and
        leads before, so that a whole cluster comes up quickly."""
        with trio.move_on_after(START_S):
            await joined.wait()
        while not joined.is_set():
            for group in list(self._groups.values()):
                if group.is_ready and group.key != METADATA_GROUP:
                    self._hand_over(group, Cause.NOT_SERVING)
            with trio.move_on_after(GIVE_AWAY_POLL_S):
                await joined.wait()

    def _hand_over(self, group: RaftGroup, why: Cause) -> bool:
        """Whether somebody is taking the group over, or was asked to."""
        if group.is_transferring:
            return True
        others = [broker for broker in self._peers.may_take_over() if broker in group.voters]
        self._me.rng.shuffle(others)
        now = trio.current_time()
        return any(group.leading.transfer(to, now, why) is None for to in others)
