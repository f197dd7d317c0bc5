"""How a command is applied, whoever leads the metadata: proposed here, or passed on to the leader.

Applied is applied here: a proposer waits until its own catalog has the entry, and so reads its writes.
"""

from __future__ import annotations

from typing import Any, Final

import trio

from raftlog.cluster.calls import Reply, Unreachable
from raftlog.cluster.changes import Changes
from raftlog.cluster.metadata_group import MetadataGroup, ProposalFailed
from raftlog.cluster.peers import Peers
from raftlog.cluster.this_broker import ThisBroker
from raftlog.errors import InvalidInput
from raftlog.metadata.commands import encode_command, refused_before
from raftlog.metadata.noun import Command, Refusal, Refused, Result
from raftlog.types import BrokerId, RaftIndex

RETRY_S: Final = 0.05
"""Between two tries of a command that found no leader."""
PROPOSE_TIMEOUT_S: Final = 30.0
"""How long a command is tried; an election takes a second or two."""
PASSED_ON_TIMEOUT_S: Final = 2.0
"""How long a proposal that was passed on may take before somebody else is asked."""


class Proposer:
    """Proposes commands for this broker and for those that pass theirs on to it."""

    def __init__(self, me: ThisBroker, metadata: MetadataGroup, peers: Peers, changes: Changes) -> None:
        self._me = me
        self._metadata = metadata
        self._calls = peers.calls
        self._changes = changes
        peers.calls.serve("propose", self._on_propose)

    async def propose(
        self, command: Command, *, timeout: float = PROPOSE_TIMEOUT_S, once: bool = False
    ) -> Result | ProposalFailed:
        """Have a command applied, whoever leads, and give what that came to, once it is applied here.

        While there is no leader, or it changes, it is tried again: nearly every command may be applied twice.
        With `once` it is given up where it may still happen.
        After `timeout` seconds, or when the caller is cancelled, it may still be applied.
        """
        encoded = encode_command(command)
        if (refused := self._refused(command, encoded)) is not None:
            return refused
        failed = ProposalFailed("the metadata group has no leader", may_still_happen=True)
        with trio.move_on_after(timeout):
            while True:
                index = await self._propose_anywhere(encoded)
                if not isinstance(index, ProposalFailed):
                    return await self._result_at(index)
                if index.is_final:
                    return Refused(Refusal.INVALID_VALUE, str(index))
                failed = index
                if once and failed.may_still_happen:
                    return failed
                await trio.sleep(RETRY_S)
        return failed

    async def insist(self, command: Command) -> Result:
        """Propose until it is applied; for commands that may be applied twice."""
        while True:
            result = await self.propose(command)
            if not isinstance(result, ProposalFailed):
                return result
            await trio.sleep(RETRY_S)

    async def propose_as_leader(self, command: Command) -> Result | ProposalFailed:
        """Propose a command once, as the metadata leader. Who judged it looked at the groups here; the
        next leader's groups may have other members."""
        encoded = encode_command(command)
        if (refused := self._refused(command, encoded)) is not None:
            return refused
        index = await self.propose_here(encoded)
        return index if isinstance(index, ProposalFailed) else await self._result_at(index)

    def _refused(self, command: Command, encoded: bytes) -> Refused | None:
        """What `apply` would refuse, as far as this broker knows."""
        return refused_before(command, len(encoded), self._metadata.catalog, is_full=self._metadata.is_full)

    async def propose_here(self, command: bytes) -> RaftIndex | ProposalFailed:
        """Propose an encoded command as the metadata leader, once; the index at which it was applied."""
        done = trio.Event()
        answer: list[RaftIndex | ProposalFailed] = []

        def on_done(outcome: RaftIndex | ProposalFailed) -> None:
            answer.append(outcome)
            done.set()

        self._metadata.propose(command, now_ms=self._me.now_ms(), on_done=on_done)
        await done.wait()
        return answer[0]

    async def _propose_anywhere(self, command: bytes) -> RaftIndex | ProposalFailed:
        leader = self._metadata.leader
        if leader == self._me.id:
            return await self.propose_here(command)
        if leader is None:
            return ProposalFailed("the metadata group has no leader", may_still_happen=False)
        return await self._pass_on(leader, command)

    async def _result_at(self, index: RaftIndex) -> Result | ProposalFailed:
        while self._metadata.applied_index < index:
            await self._changes.wait()
        result = self._metadata.result_at(index)
        if result is None:  # a snapshot took this broker past it
            return ProposalFailed("applied, but what it came to is not known here", may_still_happen=True)
        return result

    async def _pass_on(self, leader: BrokerId, command: bytes) -> RaftIndex | ProposalFailed:
        """Pass an encoded command on to the metadata leader; the index at which it applied it."""
        try:
            answer = await self._calls.ask(leader, "propose", command, timeout=PASSED_ON_TIMEOUT_S)
        except Unreachable as error:
            return ProposalFailed(str(error), may_still_happen=True)
        match answer:
            case int(index):
                return RaftIndex(index)
            case [str(reason), bool(may_still_happen)]:
                return ProposalFailed(reason, may_still_happen=may_still_happen)
            case [str(reason), False, True]:
                return ProposalFailed(reason, may_still_happen=False, is_final=True)
            case _:
                return ProposalFailed(f"broker {leader} answered {answer!r}", may_still_happen=True)

    def _on_propose(self, sender: BrokerId, body: Any, reply: Reply) -> None:
        def on_done(outcome: RaftIndex | ProposalFailed) -> None:
            if isinstance(outcome, ProposalFailed):
                reply([str(outcome), outcome.may_still_happen] + [True] * outcome.is_final)
            else:
                reply(int(outcome))

        if not isinstance(body, bytes):
            raise InvalidInput(f"broker {sender} proposes {type(body).__name__}")
        self._metadata.propose_checked(body, now_ms=self._me.now_ms(), on_done=on_done)
