"""What the group coordinator is asked and what it answers, in plain values.

Field by field these are Kafka's JoinGroup, SyncGroup, Heartbeat, LeaveGroup, DescribeGroups and
ListGroups, without their encoding: the broker's handlers translate both ways. Session and rebalance
timeouts are milliseconds, as clients send them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Final

NO_GENERATION: Final = -1
NO_MEMBER: Final = ""
CONSUMER_PROTOCOL_TYPE: Final = "consumer"


class GroupError(Enum):
    """Why a group request was refused; the names are Kafka's. NONE is success."""

    NONE = auto()
    NOT_COORDINATOR = auto()
    INVALID_GROUP_ID = auto()
    INVALID_SESSION_TIMEOUT = auto()
    INCONSISTENT_GROUP_PROTOCOL = auto()
    MEMBER_ID_REQUIRED = auto()
    UNKNOWN_MEMBER_ID = auto()
    FENCED_INSTANCE_ID = auto()
    ILLEGAL_GENERATION = auto()
    REBALANCE_IN_PROGRESS = auto()
    GROUP_MAX_SIZE_REACHED = auto()
    GROUP_ID_NOT_FOUND = auto()
    NON_EMPTY_GROUP = auto()
    GROUP_SUBSCRIBED_TO_TOPIC = auto()


class GroupState(Enum):
    """A group's state; the values are what clients are shown."""

    EMPTY = "Empty"
    PREPARING_REBALANCE = "PreparingRebalance"
    COMPLETING_REBALANCE = "CompletingRebalance"
    STABLE = "Stable"
    DEAD = "Dead"


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupSettings:
    """The `group.*` settings, as of the moment of a request."""

    session_timeout_min_ms: int = 6_000
    session_timeout_max_ms: int = 1_800_000
    initial_rebalance_delay_ms: int = 0
    size_max: int = 2**31 - 1


@dataclass(frozen=True, slots=True)
class GroupProtocol:
    """An assignor that a member offers, and the member's subscription in that assignor's words."""

    name: str
    metadata: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class JoinRequest:
    group_id: str
    member_id: str = NO_MEMBER
    instance_id: str | None = None
    client_id: str
    client_host: str
    session_timeout_ms: int
    rebalance_timeout_ms: int
    """v0 has none: the handler passes the session timeout."""
    protocol_type: str
    protocols: tuple[GroupProtocol, ...]
    require_known_member_id: bool = True
    """v4 and later: a new dynamic member is first given an id (KIP-394)."""
    can_skip_assignment: bool = True
    """v9 and later: a static leader that comes back is told it is leader (KIP-814)."""


@dataclass(frozen=True, slots=True)
class JoinedMember:
    member_id: str
    instance_id: str | None
    metadata: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class JoinResult:
    error: GroupError
    generation_id: int = NO_GENERATION
    protocol_type: str | None = None
    protocol_name: str | None = None
    leader: str = NO_MEMBER
    member_id: str = NO_MEMBER
    members: tuple[JoinedMember, ...] = ()
    """Everyone, for the leader; nobody, for the others."""
    skip_assignment: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class SyncRequest:
    group_id: str
    member_id: str
    instance_id: str | None = None
    generation_id: int
    protocol_type: str | None = None
    """v5 and later; None is not checked. The same for the name."""
    protocol_name: str | None = None
    assignments: Mapping[str, bytes] = field(default_factory=dict)
    """Member id to assignment; the leader's only."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SyncResult:
    error: GroupError
    protocol_type: str | None = None
    protocol_name: str | None = None
    assignment: bytes = b""


@dataclass(frozen=True, slots=True, kw_only=True)
class HeartbeatRequest:
    group_id: str
    member_id: str
    instance_id: str | None = None
    generation_id: int


@dataclass(frozen=True, slots=True)
class LeavingMember:
    """Before v3 exactly one, without an instance id. An empty member id with an instance id names a
    static member from outside, as an admin client does (KIP-345)."""

    member_id: str
    instance_id: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaveRequest:
    group_id: str
    members: tuple[LeavingMember, ...]


@dataclass(frozen=True, slots=True)
class LeftMember:
    member_id: str
    instance_id: str | None
    error: GroupError


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaveResult:
    """`error` is about the request; before v3 the handler answers the only member's error instead."""

    error: GroupError
    members: tuple[LeftMember, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class CommitCheck:
    """Who wants to commit offsets. A consumer without a group protocol sends generation -1, no member."""

    group_id: str
    member_id: str = NO_MEMBER
    instance_id: str | None = None
    generation_id: int = NO_GENERATION
    transactional: bool = False
    """TxnOffsetCommit: before v3 it names neither member nor generation, and is not checked (KIP-447)."""


@dataclass(frozen=True, slots=True)
class MemberDescription:
    member_id: str
    instance_id: str | None
    client_id: str
    client_host: str
    metadata: bytes
    assignment: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupDescription:
    """A group that nobody knows is DEAD; from v6 on the handler answers GROUP_ID_NOT_FOUND for it."""

    group_id: str
    state: GroupState
    protocol_type: str = ""
    protocol_name: str = ""
    members: tuple[MemberDescription, ...] = ()


@dataclass(frozen=True, slots=True)
class GroupListing:
    group_id: str
    protocol_type: str
    state: GroupState
    group_type: str = "classic"
