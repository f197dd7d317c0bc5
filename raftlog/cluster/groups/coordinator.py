"""The coordinator of classic consumer groups."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable

from raftlog.cluster.groups.api import (
    CommitCheck,
    GroupDescription,
    GroupError,
    GroupListing,
    GroupSettings,
    HeartbeatRequest,
    JoinRequest,
    JoinResult,
    LeaveRequest,
    LeaveResult,
    SyncRequest,
    SyncResult,
)


class GroupCoordinator:
    """All groups of a cluster, on the broker that leads the metadata group.

    Time is seconds on a monotonic clock, passed in. `new_id` makes the random part of a member id.
    `stored_groups` tells which groups have committed offsets. Between `unload` and `load` everything
    is answered NOT_COORDINATOR.
    """

    def __init__(
        self,
        *,
        settings: Callable[[], GroupSettings],
        new_id: Callable[[], str],
        stored_groups: Callable[[], Collection[str]],
    ) -> None:
        raise NotImplementedError

    @property
    def next_deadline(self) -> float:
        """When `tick` has something to do; infinity for never."""
        raise NotImplementedError

    def load(self, now: float) -> None: ...
    def unload(self) -> None: ...
    def tick(self, now: float) -> None: ...
    def join(self, request: JoinRequest, now: float, reply: Callable[[JoinResult], None]) -> None: ...
    def sync(self, request: SyncRequest, now: float, reply: Callable[[SyncResult], None]) -> None: ...
    def heartbeat(self, request: HeartbeatRequest, now: float) -> GroupError:
        raise NotImplementedError

    def leave(self, request: LeaveRequest, now: float) -> LeaveResult:
        raise NotImplementedError

    def check_commit(self, check: CommitCheck, now: float) -> GroupError:
        """Whether these offsets may be committed; counts as a heartbeat when they may."""
        raise NotImplementedError

    def describe(self, group_id: str) -> GroupDescription | GroupError:
        """NOT_COORDINATOR is the only error."""
        raise NotImplementedError

    def list_groups(
        self, states: Iterable[str] = (), types: Iterable[str] = ()
    ) -> list[GroupListing] | GroupError:
        """Groups with members and groups with offsets; empty filters take all, case does not count."""
        raise NotImplementedError

    def delete(self, group_id: str, now: float) -> GroupError:
        """On NONE the group has no members and is forgotten here; the caller proposes DeleteGroup."""
        raise NotImplementedError

    def check_delete_offsets(
        self, group_id: str, topics: Iterable[str]
    ) -> GroupError | dict[str, GroupError]:
        """An error of the whole request, or one for each topic: NONE or GROUP_SUBSCRIBED_TO_TOPIC."""
        raise NotImplementedError

    def expirable(self, groups: Iterable[str], retention_ms: int, now: float) -> list[str]:
        """Those of `groups` that have been without members for the retention, as far as is known here;
        none at all soon after `load`, when members may not have come back yet. For ExpireOffsets."""
        raise NotImplementedError
