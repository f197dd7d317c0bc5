"""What the handlers need of the broker behind them: its parts, each by a small face.

The real ones are in `raftlog.cluster`. Protocols, so that a handler is tested against a small fake that
passes the same contract tests (`tests/memory/test_broker_backend.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from raftlog.broker.notes import Notes
from raftlog.cluster.admin import AdminFailure, NewTopic
from raftlog.cluster.authorizer import Authorizer
from raftlog.cluster.groups import (
    CommitCheck,
    GroupDescription,
    GroupError,
    GroupListing,
    HeartbeatRequest,
    JoinRequest,
    JoinResult,
    LeaveRequest,
    LeaveResult,
    SyncRequest,
    SyncResult,
)
from raftlog.cluster.metadata_group import ProposalFailed
from raftlog.cluster.quorum import Quorum
from raftlog.cluster.transactions.coordinator import TransactionError
from raftlog.config import BrokerConfig
from raftlog.memory import MemoryBudget
from raftlog.metadata.catalog import BrokerInfo, Catalog, PartitionAssignment, Topic
from raftlog.metadata.noun import Command, Refused, Result
from raftlog.metadata.offsets import GroupCommit, OffsetCommit, OffsetsCommitted
from raftlog.metadata.transaction_steps import Stepped
from raftlog.metadata.users import CredentialsAltered, NewCredential
from raftlog.partition.counters import Counters
from raftlog.partition.markers import Marker
from raftlog.partition.marking import Marked
from raftlog.partition.values import ActiveProducer, FetchResult, FoundOffset, PartitionError, ProduceResult
from raftlog.partition.verifying import OnVerified, Verify
from raftlog.partition.waiters import Waiters
from raftlog.storage.timestamps import Steps
from raftlog.storage.warming import Warming
from raftlog.types import BrokerId


class Reading(Protocol):
    """What may be read of a replica: see `raftlog.partition.reading.Reading`."""

    @property
    def size(self) -> int: ...
    @property
    def last_stable_offset(self) -> int: ...
    def confirm_leadership(self, now: float, then: Callable[[bool], None]) -> None: ...
    def fetch(
        self, offset: int, max_bytes: int, *, leader_epoch: int = -1, committed: bool = False
    ) -> FetchResult: ...
    def cold(self, offset: int, max_bytes: int) -> Warming | None: ...
    def find_offset_steps(
        self, timestamp: int, *, leader_epoch: int = -1, committed: bool = False
    ) -> Steps[FoundOffset]: ...
    def end_of_epoch(
        self, epoch: int, *, leader_epoch: int = -1
    ) -> tuple[PartitionError | None, int, int]: ...


class Producing(Protocol):
    """How batches come into a replica: see `raftlog.partition.producing.Producing`."""

    def produce(
        self,
        batch: memoryview,
        *,
        now: float,
        now_ms: int,
        on_done: Callable[[ProduceResult], None],
        verify: Verify | None = None,
        expected_offset: int | None = None,
    ) -> None: ...


class Marking(Protocol):
    """How transactions end on a replica: see `raftlog.partition.marking.Marking`."""

    def describe(self) -> list[ActiveProducer]: ...
    def open_since(self, producer_id: int) -> int: ...
    def write(
        self, marker: Marker, *, now: float, now_ms: int, on_done: Callable[[Marked], None]
    ) -> None: ...


class Partition(Protocol):
    """A replica on this broker: see `raftlog.partition.partition.Partition`."""

    @property
    def topic_id(self) -> bytes: ...
    @property
    def producing(self) -> Producing: ...
    @property
    def marking(self) -> Marking: ...
    @property
    def is_leader(self) -> bool: ...
    @property
    def leader_epoch(self) -> int: ...
    @property
    def high_watermark(self) -> int: ...
    @property
    def log_start_offset(self) -> int: ...
    @property
    def reading(self) -> Reading: ...
    @property
    def waiters(self) -> Waiters: ...
    @property
    def counters(self) -> Counters: ...
    def delete_before(
        self, offset: int, *, now: float, on_done: Callable[[PartitionError | None, int], None]
    ) -> None: ...


class Groups(Protocol):
    """The group coordinator: see `raftlog.cluster.groups.coordinator.GroupCoordinator`."""

    def join(self, request: JoinRequest, now: float, reply: Callable[[JoinResult], None]) -> None: ...
    def sync(self, request: SyncRequest, now: float, reply: Callable[[SyncResult], None]) -> None: ...
    def heartbeat(self, request: HeartbeatRequest, now: float) -> GroupError: ...
    def leave(self, request: LeaveRequest, now: float) -> LeaveResult: ...
    def check_commit(self, check: CommitCheck, now: float) -> GroupError: ...
    def describe(self, group_id: str) -> GroupDescription | GroupError: ...
    def list_groups(
        self, states: Collection[str] = (), types: Collection[str] = ()
    ) -> list[GroupListing] | GroupError: ...
    def delete(self, group_id: str, now: float) -> GroupError: ...
    def check_delete_offsets(
        self, group_id: str, topics: Collection[str]
    ) -> GroupError | dict[str, GroupError]: ...


class Admin(Protocol):
    """Topics and their settings: see `raftlog.cluster.admin.Admin`. Time-outs are seconds."""

    async def create_topic(
        self, new: NewTopic, *, timeout: float, validate_only: bool = False
    ) -> Topic | AdminFailure: ...
    async def delete_topic(self, name_or_id: str | bytes, *, timeout: float) -> Topic | AdminFailure: ...
    async def create_partitions(
        self,
        name: str,
        count: int,
        assignments: Sequence[Sequence[BrokerId]] | None = None,
        *,
        timeout: float,
        validate_only: bool = False,
    ) -> Topic | AdminFailure: ...
    async def alter_topic_config(
        self,
        name: str,
        set_: Mapping[str, str],
        remove: Sequence[str] = (),
        *,
        timeout: float,
        validate_only: bool = False,
    ) -> Topic | AdminFailure: ...


class Enforcement(Protocol):
    """Whether this broker knows who may do what: see `raftlog.cluster.enforcement.Enforcement`."""

    @property
    def is_current(self) -> bool: ...
    async def wait_until_current(self) -> None: ...
    async def everywhere(self) -> None: ...


class Operations(Protocol):
    """Brokers, moves and elections: see `raftlog.cluster.operations.Operations`."""

    async def move(
        self, topic: str, partition: int, target: Sequence[BrokerId] | None
    ) -> AdminFailure | None: ...
    def moves(self) -> list[tuple[Topic, int, PartitionAssignment]]: ...
    async def elect_preferred(self, topic: str, partition: int) -> AdminFailure | None: ...
    async def add_broker(self, broker: BrokerId, peer_host: str, peer_port: int) -> AdminFailure | None: ...
    async def drain_broker(self, broker: BrokerId, draining: bool) -> AdminFailure | None: ...
    async def remove_broker(self, broker: BrokerId) -> AdminFailure | None: ...


class MetadataQuorum(Protocol):
    """How the metadata's Raft group does: see `raftlog.cluster.quorum.MetadataQuorum`."""

    async def describe(self) -> Quorum | None: ...


class Reports(Protocol):
    """What brokers say of themselves: see `raftlog.cluster.reports.Reports`."""

    async def of(self, broker: BrokerId) -> Mapping[str, object] | None: ...


class Offsets(Protocol):
    """Offset commits on the coordinator: see `raftlog.cluster.offsets.OffsetCommits`."""

    def commit(
        self, commit: GroupCommit, on_done: Callable[[OffsetsCommitted | Refused | ProposalFailed], None]
    ) -> None: ...


class Replicas(Protocol):
    """What this broker keeps: see `raftlog.cluster.replicas.Replicas`."""

    @property
    def has_damage(self) -> bool:
        """Whether something that is kept was found damaged, and is not repaired yet."""
        ...

    def partition(self, topic: str, partition: int) -> Partition | None: ...
    def partition_by_id(self, topic_id: bytes, partition: int) -> Partition | None: ...


class Leaders(Protocol):
    """Who leads which partition: see `raftlog.cluster.leaders.Leaders`."""

    def leader_of(self, topic: Topic, partition: int) -> tuple[BrokerId | None, int]:
        """(leader, epoch) as last heard; the epoch never goes back."""
        ...

    async def wait_for_leaders(self, topic: Topic) -> None:
        """Until every partition of the topic has a leader; the caller sets the time-out."""
        ...


class Presence(Protocol):
    """Who is there: see `raftlog.cluster.presence.Presence`."""

    @property
    def has_metadata_leader(self) -> bool:
        """Whether somebody leads the metadata: without, nothing of the cluster can change."""
        ...

    @property
    def is_cut_off(self) -> bool:
        """Whether the others may go on without this broker, which hears too few of them to know."""
        ...

    def is_in_session(self, broker: BrokerInfo) -> bool:
        """Whether a broker is alive, or was a while ago: every one that leads something, among others."""
        ...

    def is_alive(self, broker: BrokerInfo) -> bool:
        """Whether a broker is there, as far as this one knows: whoever leads something, among others."""
        ...


class Coordination(Protocol):
    """Where the consumer groups are coordinated: see `raftlog.cluster.coordination.Coordination`."""

    @property
    def coordinator_id(self) -> BrokerId | None:
        """The broker on which `Groups` answers for the whole cluster, when there is one."""
        ...

    @property
    def is_coordinator(self) -> bool:
        """Whether it is this one, and ready."""
        ...

    async def confirm_coordinator(self) -> bool:
        """Whether a majority still takes this broker for the coordinator."""
        ...

    async def catch_up(self) -> bool:
        """Until the catalog here has all that was committed when the call began; False: nobody can tell."""
        ...

    def groups_changed(self) -> None:
        """To be called after what may have moved a deadline of the groups."""
        ...


class Proposer(Protocol):
    """Changes the catalog: see `raftlog.cluster.proposer.Proposer`."""

    async def propose(self, command: Command) -> Result | ProposalFailed: ...

    async def propose_as_leader(self, command: Command) -> Result | ProposalFailed: ...


class ProducerIds(Protocol):
    """Ids for idempotent producers: see `raftlog.cluster.producer_ids.ProducerIds`."""

    async def allocate(self) -> int | ProposalFailed: ...


class Transactions(Protocol):
    """The transaction coordinator: see `raftlog.cluster.transactions.TransactionCoordinator`."""

    async def init_producer(
        self, transactional_id: str, timeout_ms: int, producer_id: int = -1, epoch: int = -1
    ) -> Stepped | TransactionError: ...
    async def add(
        self,
        transactional_id: str,
        producer_id: int,
        epoch: int,
        *,
        partitions: tuple[tuple[bytes, int], ...] = (),
        group: str | None = None,
    ) -> Stepped | TransactionError: ...
    async def stage_offsets(
        self,
        transactional_id: str,
        producer_id: int,
        epoch: int,
        group: str,
        offsets: tuple[OffsetCommit, ...],
    ) -> Stepped | TransactionError: ...
    async def end(
        self,
        transactional_id: str,
        producer_id: int,
        epoch: int,
        *,
        commit: bool,
        ends_epoch: bool = False,
    ) -> Stepped | TransactionError: ...


class Verification(Protocol):
    """Asks the coordinator about a partition: see `raftlog.cluster.transactions.Verification`."""

    def verify(
        self,
        transactional_id: str,
        producer_id: int,
        epoch: int,
        partition: tuple[bytes, int],
        on_verified: OnVerified,
        *,
        adds: bool = False,
    ) -> None: ...


class Changes(Protocol):
    """When the metadata moves, here: see `raftlog.cluster.changes.Changes`."""

    def listen(self, listener: Callable[[], None]) -> None:
        """Have it called after every change. It must not block or raise."""
        ...


class UserAdmin(Protocol):
    """Who may log in: see `raftlog.cluster.users.UserAdmin`."""

    async def alter(
        self, put: Sequence[NewCredential], drop: Sequence[tuple[str, str]]
    ) -> CredentialsAltered | Refused | ProposalFailed: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Backend:
    """This broker's share of the cluster, as handlers see it. The parts live as long as the broker."""

    broker_id: BrokerId
    now_ms: Callable[[], int]
    """What is written down, and compared with that: see `raftlog.cluster.steady_clock.SteadyClock`."""
    config: BrokerConfig
    memory: MemoryBudget
    catalog: Catalog
    replicas: Replicas
    leaders: Leaders
    presence: Presence
    groups: Groups
    coordination: Coordination
    offsets: Offsets
    admin: Admin
    authorizer: Authorizer | None
    """None: everybody may do everything."""
    enforcement: Enforcement
    users: UserAdmin
    changes: Changes
    operations: Operations
    quorum: MetadataQuorum
    reports: Reports
    proposer: Proposer
    producer_ids: ProducerIds
    transactions: Transactions
    verification: Verification
    notes: Notes = field(default_factory=Notes)

    @property
    def cluster_id(self) -> str:
        return self.catalog.cluster_id or "unnamed"
