"""What the group coordinator keeps of groups in the metadata, and finds there when it takes over."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator

import trio

from raftlog.cluster.groups.keeping import GroupCommand, OnKept
from raftlog.cluster.metadata_group import MetadataGroup, ProposalFailed
from raftlog.cluster.this_broker import ThisBroker
from raftlog.metadata.commands import encode_command, refused_before
from raftlog.metadata.group_table import StoredGroup
from raftlog.metadata.groups import ForgetGroup, StoreGroup
from raftlog.metadata.noun import Refused
from raftlog.types import RaftIndex

log = logging.getLogger("raftlog.groups")


class GroupRecords:
    """Implements `groups.keeping.KeptGroups` with the metadata group, which this broker leads."""

    def __init__(
        self,
        me: ThisBroker,
        metadata: MetadataGroup,
        on_answer: Callable[[], None],
        now: Callable[[], float] = trio.current_time,
    ) -> None:
        """`on_answer` is called after the coordinator was: a deadline of its groups may have moved."""
        self._me = me
        self._metadata = metadata
        self._on_answer = on_answer
        self._now = now

    def __iter__(self) -> Iterator[str]:
        return iter(self._metadata.catalog.groups)

    def get(self, group: str, /) -> StoredGroup | None:
        return self._metadata.catalog.groups.get(group)

    @property
    def is_open(self) -> bool:
        return self._metadata.catalog.metadata_level >= StoreGroup.needs_level

    def keep(self, command: GroupCommand, on_kept: OnKept, /) -> None:
        """Propose here and nowhere else: what is kept was decided by this coordinator."""
        now, catalog = self._now(), self._metadata.catalog
        is_known = command.group in catalog.groups
        if not self.is_open or not (is_known or isinstance(command, StoreGroup)):
            on_kept(True, now)
            return
        encoded = encode_command(command)
        refused = refused_before(command, len(encoded), catalog, is_full=self._metadata.is_full)
        if refused is not None:
            log.warning("group %.60s would not survive this broker: %s", command.group, refused.detail)
            if is_known:  # an earlier generation of it must not
                self.keep(ForgetGroup(group=command.group), on_kept)
            else:
                on_kept(True, now)
            return

        def on_done(outcome: RaftIndex | ProposalFailed) -> None:
            result = None if isinstance(outcome, ProposalFailed) else self._metadata.result_at(outcome)
            if isinstance(result, Refused):
                log.warning("group %.60s: %s", command.group, result.detail)
            on_kept(not isinstance(outcome, ProposalFailed), self._now())
            self._on_answer()

        self._metadata.propose(encoded, now_ms=self._me.now_ms(), on_done=on_done)
