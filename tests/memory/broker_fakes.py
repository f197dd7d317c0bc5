"""A broker without disk, Raft or cluster, for tests of the listener and the handlers.

`FakeNode` is all parts of a `raftlog.broker.backend.Backend` in one; `test_broker_backend.py` holds it and
the real parts to the same contract.
"""

from __future__ import annotations

import os
import threading
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any, cast

import trio

from raftlog.broker.backend import Backend
from raftlog.broker.binding import listen
from raftlog.broker.listener import Listener
from raftlog.cluster.admin import AdminError, AdminFailure, NewTopic
from raftlog.cluster.authorizer import authorizer_of
from raftlog.cluster.changes import Changes
from raftlog.cluster.groups import GroupCoordinator, GroupSettings
from raftlog.cluster.metadata_group import ProposalFailed
from raftlog.cluster.operations import Operations
from raftlog.cluster.quorum import Quorum, QuorumMember
from raftlog.cluster.transactions import TransactionCoordinator
from raftlog.cluster.transactions.verification import membership
from raftlog.cluster.users import UserAdmin
from raftlog.config import BrokerConfig, config_error
from raftlog.errors import InvalidBatch, InvalidInput
from raftlog.memory import MemoryBudget
from raftlog.metadata.catalog import METADATA_LEVEL, BrokerInfo, Catalog, PartitionAssignment, Topic
from raftlog.metadata.commands import LEVEL_KNOWN, decode_command
from raftlog.metadata.names import topic_name_problem
from raftlog.metadata.noun import Command, Result
from raftlog.metadata.offsets import CommitOffsets, DeleteGroup, DeleteOffsets, GroupCommit
from raftlog.metadata.state import MetadataState
from raftlog.metadata.transaction_steps import Stepped, Verdict
from raftlog.metadata.transactions import AddToTransaction
from raftlog.partition.counters import Counters
from raftlog.partition.markers import Marker
from raftlog.partition.marking import Marked
from raftlog.partition.values import ActiveProducer, FetchResult, FoundOffset, PartitionError, ProduceResult
from raftlog.partition.verifying import Membership, OnVerified, Verify
from raftlog.partition.waiters import Waiters
from raftlog.protocol.api import ApiKey
from raftlog.protocol.codec import decode_response, encode_request
from raftlog.records.batch import check_batch, stamp
from raftlog.records.produced import check_produced_batch
from raftlog.storage.segment_reader import Slice
from raftlog.storage.timestamps import Steps
from raftlog.types import BrokerId, FilePosition, Offset, RaftIndex, Term
from tests.groups import Kept

OTHER: BrokerId = BrokerId(2)
"""Who leads what the fake's own broker does not."""
LISTENERS = ("INTERNAL", "EXTERNAL")


class MemoryFile:
    """A file that sendfile takes and no disk has."""

    def __init__(self) -> None:
        self._fd = os.memfd_create("fake")
        self.is_cold = False
        self.readers: set[int] = set()
        """The threads that have read from it."""

    def __del__(self) -> None:
        os.close(self._fd)

    def append(self, data: bytes | memoryview) -> int:
        position = os.fstat(self._fd).st_size
        os.pwrite(self._fd, data, position)
        return position

    def fileno(self) -> int:
        return self._fd

    def is_cached(self, size: int, position: int) -> bool:
        return not self.is_cold

    def pread(self, size: int, position: int) -> bytes:
        self.readers.add(threading.get_ident())
        return os.pread(self._fd, size, position)


class FakePartition:
    """Commits at once, or when told to (`hold`)."""

    def __init__(self) -> None:
        self.is_leader = True
        self.leader_epoch = 3
        self.log_start_offset = 0
        self.size = 0
        self.counters = Counters()
        self.producing = self.reading = self.marking = self
        self.markers: list[Marker] = []
        self.topic_id = bytes(16)
        self.high_watermark = 0
        self.hold = False
        self.failure: PartitionError | Exception | None = None
        self.log_end_offset = 0
        self._file = MemoryFile()
        self._batches: list[tuple[int, int, int, int]] = []  # base, next, position, size
        self._held: list[tuple[bytes, int, Callable[[ProduceResult], None]]] = []
        self.waiters = Waiters()

    def produce(
        self,
        batch: memoryview,
        *,
        now: float,
        now_ms: int,
        on_done: Callable[[ProduceResult], None],
        verify: Verify | None = None,
        expected_offset: int | None = None,
    ) -> None:
        if isinstance(self.failure, Exception):
            raise self.failure
        if not self.is_leader:
            on_done(ProduceResult(PartitionError.NOT_LEADER))
            return
        if self.failure is not None:
            on_done(ProduceResult(self.failure, message="as the test wants it"))
            return
        try:
            header = check_produced_batch(batch)
        except InvalidBatch as error:
            on_done(ProduceResult(PartitionError.INVALID_RECORD, message=str(error)))
            return
        except InvalidInput as error:
            on_done(ProduceResult(PartitionError.CORRUPT_BATCH, message=str(error)))
            return
        base = self.log_end_offset
        if expected_offset not in (None, base):
            on_done(ProduceResult(PartitionError.OFFSET_MISMATCH, base, message="another was faster"))
            return
        stamp(batch, base, self.leader_epoch)
        self.log_end_offset += header.last_offset_delta + 1
        self._held.append((bytes(batch), base, on_done))
        if not self.hold:
            self.commit()

    def commit(self) -> None:
        held, self._held = self._held, []
        for data, base, on_done in held:
            header = check_batch(data)
            self.high_watermark = base + header.last_offset_delta + 1
            self._batches.append((base, self.high_watermark, self._file.append(data), len(data)))
            on_done(ProduceResult(None, base, -1, self.log_start_offset))
        self.waiters.wake()

    def refuse_held(self) -> None:
        """The leadership ends before a majority has answered."""
        held, self._held = self._held, []
        for _, _, on_done in held:
            on_done(ProduceResult(PartitionError.NOT_LEADER))

    @property
    def last_stable_offset(self) -> int:
        return self.high_watermark

    def fetch(
        self, offset: int, max_bytes: int, *, leader_epoch: int = -1, committed: bool = False
    ) -> FetchResult:
        end, start = Offset(self.high_watermark), Offset(self.log_start_offset)
        error = self._error(leader_epoch)
        if error is None and not start <= offset <= end:
            error = PartitionError.OFFSET_OUT_OF_RANGE
        if error is not None or offset == end:
            return FetchResult(error, None, end, start, end)
        wanted = [batch for batch in self._batches if batch[1] > offset]
        size, last = 0, wanted[0]
        for batch in wanted:
            if size and size + batch[3] > max_bytes:
                break
            size, last = size + batch[3], batch
        found = Slice(cast(Any, self._file), FilePosition(wanted[0][2]), size, Offset(last[1]))
        return FetchResult(None, found, end, start, end)

    def describe(self) -> list[ActiveProducer]:
        return [ActiveProducer(7, 0, 3, 1000, 2, self.open_since(7))]

    def open_since(self, producer_id: int) -> int:
        return 5 if producer_id == 7 and not self.markers else -1

    def write(self, marker: Marker, *, now: float, now_ms: int, on_done: Callable[[Marked], None]) -> None:
        self.markers.append(marker)
        on_done(Marked.DONE if self.is_leader else Marked.NOT_NOW)

    def cold(self, offset: int, max_bytes: int) -> None:
        return None

    def find_offset_steps(
        self, timestamp: int, *, leader_epoch: int = -1, committed: bool = False
    ) -> Steps[FoundOffset]:
        yield lambda: None
        error = self._error(leader_epoch)
        if error is not None:
            return FoundOffset(error)
        match timestamp:
            case -2:
                return FoundOffset(None, self.log_start_offset, -1, self.leader_epoch)
            case -1:
                return FoundOffset(None, self.high_watermark, -1, self.leader_epoch)
        return FoundOffset(None)

    def end_of_epoch(self, epoch: int, *, leader_epoch: int = -1) -> tuple[PartitionError | None, int, int]:
        error = self._error(leader_epoch)
        return (error, -1, -1) if error is not None else (None, self.leader_epoch, self.high_watermark)

    def delete_before(
        self, offset: int, *, now: float, on_done: Callable[[PartitionError | None, int], None]
    ) -> None:
        target = self.high_watermark if offset == -1 else offset
        if not self.is_leader:
            on_done(PartitionError.NOT_LEADER, -1)
        elif not 0 <= target <= self.high_watermark:
            on_done(PartitionError.OFFSET_OUT_OF_RANGE, -1)
        else:
            self.log_start_offset = max(target, self.log_start_offset)
            on_done(None, self.log_start_offset)

    def confirm_leadership(self, now: float, then: Callable[[bool], None]) -> None:
        then(self.is_leader)

    def _error(self, leader_epoch: int) -> PartitionError | None:
        if not self.is_leader:
            return PartitionError.NOT_LEADER
        if leader_epoch >= 0 and leader_epoch != self.leader_epoch:
            older = leader_epoch < self.leader_epoch
            return PartitionError.FENCED_LEADER_EPOCH if older else PartitionError.UNKNOWN_LEADER_EPOCH
        return None


class FakeNode:
    """One broker, id 1, and a catalog that changes at once."""

    def __init__(self, **settings: str) -> None:
        named = {name.replace("_", "."): value for name, value in settings.items()}
        self.config = BrokerConfig.of(named)
        self.memory = MemoryBudget(self.config.int("raftlog.memory.max.bytes"))
        self.broker_id = BrokerId(1)
        self.state = MetadataState()
        self.catalog: Catalog = self.state.catalog
        self.catalog.cluster_id = "fake-cluster"
        self.catalog.brokers[self.broker_id] = BrokerInfo(
            id=self.broker_id,
            host="localhost",
            port=9092,
            peer_host="",
            peer_port=0,
            metadata_level=LEVEL_KNOWN,
        )
        self.has_metadata_leader = True
        self.is_cut_off = False
        self.authorizer = authorizer_of(self.catalog, self.config)
        self.is_wanted = self.is_current = True
        self._current = trio.Event()
        self.coordinator_id: BrokerId | None = self.broker_id
        self.is_coordinator = True
        self.partitions: dict[tuple[str, int], FakePartition] = {}
        self.no_leader = False
        self.proposals_fail = 0
        self.held_commits: list[Callable[[], None]] | None = None
        """Commits that are not applied yet; None where they are applied at once."""
        self._index = 0
        self._producer_id = 1000
        self.groups = GroupCoordinator(
            settings=lambda: GroupSettings(session_timeout_min_ms=1),
            new_id=lambda: str(uuid.uuid4()),
            stored_groups=lambda: self.catalog.group_offsets,
            kept=Kept(self.catalog, now=trio.current_time),
        )
        self.groups.load(0.0, 0)
        itself = cast(Any, self)
        self.changes = Changes()
        self.users = UserAdmin(itself, itself, itself)
        self.operations = Operations(self.catalog, itself, itself, itself, itself, self.changes)
        self.catalog.features[METADATA_LEVEL] = LEVEL_KNOWN
        self.transactions = TransactionCoordinator(itself, itself, itself, itself, Changes())
        self.is_full = False
        self._results: dict[RaftIndex, Result] = {}

    async def wait_until_current(self) -> None:
        if not self.is_current:
            await self._current.wait()

    def become_current(self) -> None:
        self.is_current = True
        self._current.set()

    async def everywhere(self) -> None:
        await trio.lowlevel.checkpoint()

    @cached_property
    def backend(self) -> Backend:
        """As handlers see it."""
        return Backend(
            broker_id=self.broker_id,
            now_ms=self.now_ms,
            config=self.config,
            memory=self.memory,
            catalog=self.catalog,
            replicas=self,
            leaders=self,
            presence=self,
            groups=self.groups,
            coordination=self,
            offsets=self,
            admin=self,
            authorizer=self.authorizer,
            enforcement=self,
            users=self.users,
            changes=self.changes,
            operations=self.operations,
            quorum=self,
            reports=self,
            proposer=self,
            producer_ids=self,
            transactions=self.transactions,
            verification=self,
        )

    def name_listeners(self, number: int, **ports: int) -> None:
        """Have a broker listen by these names."""
        listeners = tuple((name, f"{name}.{number}", port) for name, port in ports.items())
        known = self.catalog.brokers[BrokerId(number)]
        self.catalog.brokers[known.id] = replace(known, listeners=listeners)

    def is_in_session(self, broker: BrokerInfo) -> bool:
        return self.is_alive(broker)

    def is_alive(self, broker: BrokerInfo) -> bool:
        led = [replica.is_leader for replica in self.partitions.values()]
        return not broker.fenced or broker.id == self.broker_id or (broker.id == OTHER and not all(led))

    has_damage = False

    async def of(self, broker: BrokerId) -> dict[str, Any] | None:
        """What a broker says of itself."""
        return {"build": "0.1.0", "uptime_s": 1.5} if broker == self.broker_id else None

    async def describe(self) -> Quorum | None:
        if not self.has_metadata_leader:
            return None
        last = RaftIndex(self._index)
        alone = QuorumMember(broker=self.broker_id, is_voter=True, last_index=last, silent_ms=0)
        return Quorum(leader=self.broker_id, term=Term(1), commit_index=last, members=(alone,))

    def partition(self, topic: str, partition: int) -> FakePartition | None:
        return self.partitions.get((topic, partition))

    def partition_by_id(self, topic_id: bytes, partition: int) -> FakePartition | None:
        topic = self.catalog.topics_by_id.get(topic_id)
        return None if topic is None else self.partitions.get((topic.name, partition))

    def leader_of(self, topic: Topic, partition: int) -> tuple[BrokerId | None, int]:
        replica = self.partitions[topic.name, partition]
        leader = self.broker_id if replica.is_leader else OTHER
        return (None if self.no_leader else leader), replica.leader_epoch

    async def wait_for_leaders(self, topic: Topic) -> None:
        await trio.lowlevel.checkpoint()

    async def confirm_coordinator(self) -> bool:
        return self.is_coordinator

    async def catch_up(self) -> bool:
        return self.is_coordinator

    async def visible_everywhere(self) -> None:
        await trio.lowlevel.checkpoint()

    def groups_changed(self) -> None:
        pass

    def add_broker(self, number: int, *, fenced: bool = False) -> None:
        """Another broker of the cluster, in place of the one that had the number."""
        self.catalog.brokers[BrokerId(number)] = BrokerInfo(
            id=BrokerId(number), host=f"b{number}", port=9092, peer_host="", peer_port=0, fenced=fenced
        )

    def add_topic(
        self,
        name: str,
        partitions: int = 1,
        configs: Mapping[str, str] | None = None,
        others: Iterable[int] = (),
    ) -> Topic:
        """With a replica of each partition here, and on the others."""
        hosts = (self.broker_id, *map(BrokerId, others))
        assignments = tuple(PartitionAssignment(hosts) for _ in range(partitions))
        topic = Topic(name, uuid.uuid4().bytes, assignments, dict(configs or {}))
        self._put(topic)
        return topic

    def _put(self, topic: Topic) -> None:
        self.catalog.topics[topic.name] = topic
        self.catalog.topics_by_id[topic.topic_id] = topic
        for index in range(len(topic.partitions)):
            replica = self.partitions.setdefault((topic.name, index), FakePartition())
            replica.topic_id = topic.topic_id

    async def propose(self, command: Command, *, once: bool = False) -> Result | ProposalFailed:
        await trio.lowlevel.checkpoint()
        return self._apply(command)

    propose_as_leader = propose

    def _apply(self, command: Command) -> Result | ProposalFailed:
        if self.proposals_fail:
            self.proposals_fail -= 1
            return ProposalFailed("as the test wants it", may_still_happen=False)
        self._index += 1
        result = self.state.apply(command, RaftIndex(self._index))
        self.changes.tell()
        return result

    def now_ms(self) -> int:
        return 1_700_000_000_000

    async def propose_here(self, command: bytes) -> RaftIndex | ProposalFailed:
        await trio.lowlevel.checkpoint()
        result = self._apply(decode_command(command))
        if isinstance(result, ProposalFailed):
            return result
        index = RaftIndex(self._index)
        self._results[index] = result
        return index

    def result_at(self, index: RaftIndex) -> Result | None:
        return self._results.get(index)

    def verify(
        self,
        transactional_id: str,
        producer_id: int,
        epoch: int,
        partition: tuple[bytes, int],
        on_verified: OnVerified,
        *,
        adds: bool = False,
    ) -> None:
        if adds:
            named = {"transactional_id": transactional_id, "producer_id": producer_id, "epoch": epoch}
            result = self._apply(AddToTransaction(**named, partitions=(partition,), at_ms=1000))
            is_added = isinstance(result, Stepped) and result.verdict is Verdict.DONE
            answer = Membership.ADDED if is_added else Membership.PRODUCER_FENCED
            on_verified(answer, trio.current_time())
            return
        value = self.catalog.transactions.get(transactional_id)
        on_verified(membership(value, producer_id, epoch, partition), trio.current_time())

    async def allocate(self) -> int | ProposalFailed:
        await trio.lowlevel.checkpoint()
        if self.proposals_fail:
            self.proposals_fail -= 1
            return ProposalFailed("as the test wants it", may_still_happen=False)
        self._producer_id += 1
        return self._producer_id

    def commit(self, commit: GroupCommit, on_done: Callable[[Any], None]) -> None:
        def end() -> None:
            result = self._apply(CommitOffsets(commits=(commit,)))
            assert not isinstance(result, DeleteGroup | DeleteOffsets)
            on_done(result)

        if self.held_commits is not None:
            self.held_commits.append(end)
        else:
            end()

    # Admin

    async def create_topic(
        self, new: NewTopic, *, timeout: float, validate_only: bool = False
    ) -> Topic | AdminFailure:
        await trio.lowlevel.checkpoint()
        problem = topic_name_problem(new.name)
        if problem is not None:
            return AdminFailure(AdminError.INVALID_TOPIC, problem)
        if new.name in self.catalog.topics:
            return AdminFailure(AdminError.TOPIC_EXISTS, "exists")
        for key, value in new.configs.items():
            wrong = config_error(key, value)
            if wrong is not None:
                return AdminFailure(AdminError.INVALID_CONFIG, wrong)
        count = len(new.assignments) if new.assignments is not None else max(new.partitions, 1)
        if validate_only:
            assignments = tuple(PartitionAssignment((self.broker_id,)) for _ in range(count))
            return Topic(new.name, bytes(16), assignments, dict(new.configs))
        return self.add_topic(new.name, count, new.configs)

    async def delete_topic(self, name_or_id: str | bytes, *, timeout: float) -> Topic | AdminFailure:
        await trio.lowlevel.checkpoint()
        topic = self.catalog.topic(name_or_id)
        if topic is None:
            by_id = isinstance(name_or_id, bytes)
            return AdminFailure(AdminError.UNKNOWN_TOPIC_ID if by_id else AdminError.UNKNOWN_TOPIC, "unknown")
        del self.catalog.topics[topic.name], self.catalog.topics_by_id[topic.topic_id]
        for index in range(len(topic.partitions)):
            del self.partitions[topic.name, index]
        return topic

    async def create_partitions(
        self,
        name: str,
        count: int,
        assignments: Sequence[Sequence[BrokerId]] | None = None,
        *,
        timeout: float,
        validate_only: bool = False,
    ) -> Topic | AdminFailure:
        await trio.lowlevel.checkpoint()
        topic = self.catalog.topics.get(name)
        if topic is None:
            return AdminFailure(AdminError.UNKNOWN_TOPIC, "unknown")
        if count <= len(topic.partitions):
            return AdminFailure(AdminError.INVALID_PARTITIONS, "not more than there are")
        grown = Topic(
            name,
            topic.topic_id,
            tuple(PartitionAssignment((self.broker_id,)) for _ in range(count)),
            topic.configs,
        )
        if not validate_only:
            self._put(grown)
        return grown

    async def alter_topic_config(
        self,
        name: str,
        set_: Mapping[str, str],
        remove: Sequence[str] = (),
        *,
        timeout: float,
        validate_only: bool = False,
    ) -> Topic | AdminFailure:
        await trio.lowlevel.checkpoint()
        topic = self.catalog.topics.get(name)
        if topic is None:
            return AdminFailure(AdminError.UNKNOWN_TOPIC, "unknown")
        for key, value in set_.items():
            wrong = config_error(key, value)
            if wrong is not None:
                return AdminFailure(AdminError.INVALID_CONFIG, wrong)
        configs = {key: value for key, value in topic.configs.items() if key not in remove} | dict(set_)
        altered = Topic(name, topic.topic_id, topic.partitions, configs)
        if not validate_only:
            self._put(altered)
        return altered


class Peer:
    """A client's end of a connection: writes frames, reads frames."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self.stream = stream
        self._correlation_id = 0
        self._received = b""

    async def send(self, api: ApiKey, version: int, **fields: Any) -> int:
        self._correlation_id += 1
        chunks = encode_request(api, version, self._correlation_id, "test", fields)
        await self.stream.send_all(b"".join(chunks))
        return self._correlation_id

    async def ask(self, api: ApiKey, version: int, **fields: Any) -> Any:
        """Send a request and read its answer."""
        sent = await self.send(api, version, **fields)
        correlation_id, message = decode_response(api, version, await self.frame())
        assert correlation_id == sent
        return message

    async def receive(self, api: ApiKey, version: int) -> tuple[int, Any]:
        """The next answer: (correlation id, message)."""
        return decode_response(api, version, await self.frame())

    async def frame(self) -> bytes:
        """The next frame without its length; raises EOFError at the end."""
        size = int.from_bytes(await self._exactly(4), "big")
        return await self._exactly(size)

    async def is_closed(self) -> bool:
        """Whether the broker closes without another word."""
        try:
            return await self.stream.receive_some(1) == b""
        except trio.BrokenResourceError:
            return True

    async def _exactly(self, size: int) -> bytes:
        while len(self._received) < size:
            more = await self.stream.receive_some(1 << 20)
            if not more:
                raise EOFError
            self._received += more
        data, self._received = self._received[:size], self._received[size:]
        return data


class Served:
    """A listener on a free port of this machine, and clients for it."""

    def __init__(self, node: FakeNode, nursery: trio.Nursery) -> None:
        self.node = node
        self.listener = Listener(
            node.backend,
            [(name, sock) for name in LISTENERS for sock in listen("127.0.0.1", 0)],
        )
        self._streams: list[trio.SocketStream] = []
        nursery.start_soon(self.listener.run)

    async def connect(self, listener: str = LISTENERS[0]) -> Peer:
        """A client that comes by the listener of that name."""
        stream = await trio.open_tcp_stream(*self.listener.addresses[listener])
        self._streams.append(stream)
        return Peer(stream)

    async def aclose(self) -> None:
        """Close the clients' ends."""
        for stream in self._streams:
            await stream.aclose()
