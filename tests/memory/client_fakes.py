"""A scripted cluster in this process: real frames over socket pairs, no ports, no sleeps.

Each fake broker answers as a simple broker would; `script` makes an API misbehave for its next requests: fail
with an error, break the connection before or after carrying a request out, or say nothing for ever. The
partition logs check sequence numbers, so a producer that repeats itself is caught.
"""

from __future__ import annotations

import socket
from collections import defaultdict, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Any

import trio

from raftlog.protocol.api import VERSIONS, ApiKey
from raftlog.protocol.codec import decode_request, decode_request_header, encode_response
from raftlog.protocol.errors import ErrorCode
from raftlog.records.batch import iter_headers, read_header, stamp
from raftlog.records.record import decode_batch
from tests.memory import client_fakes_admin, client_fakes_transactions
from tests.memory.client_fakes_admin import FakeAdmin
from tests.memory.client_fakes_transactions import FakeTransaction, FakeTransactions

SERVED = {
    api: VERSIONS[api].last
    for api in (
        ApiKey.PRODUCE, ApiKey.FETCH, ApiKey.LIST_OFFSETS, ApiKey.METADATA, ApiKey.OFFSET_COMMIT,
        ApiKey.OFFSET_FETCH, ApiKey.FIND_COORDINATOR, ApiKey.JOIN_GROUP, ApiKey.HEARTBEAT, ApiKey.LEAVE_GROUP,
        ApiKey.SYNC_GROUP, ApiKey.API_VERSIONS, ApiKey.INIT_PRODUCER_ID, ApiKey.CREATE_TOPICS,
        *client_fakes_admin.SERVED, *client_fakes_transactions.SERVED,
    )
}  # fmt: skip


class Fault(Enum):
    """What goes wrong with a request beside an error code."""

    CUT_BEFORE = auto()  # the connection breaks and nothing was done
    CUT_AFTER = auto()  # the connection breaks and it was done
    SILENCE = auto()  # no answer ever comes, on this connection


@dataclass
class FakeLog:
    """A partition. Appending checks sequences as brokers do."""

    leader: int
    epoch: int = 0
    data: bytearray = field(default_factory=bytearray)
    end: int = 0
    start: int = 0
    producers: dict[int, list[tuple[int, int, int, int]]] = field(default_factory=dict)
    open: dict[int, int] = field(default_factory=dict)
    """The first offset of each transaction that is open here, by producer."""
    aborted: list[tuple[int, int, int]] = field(default_factory=list)
    """Producer, first offset, and the marker's."""

    @property
    def stable(self) -> int:
        """The last stable offset."""
        return min([self.end, *self.open.values()])

    def end_transaction(self, marker: bytearray, producer_id: int, commit: bool) -> None:
        header = read_header(marker)
        known = self.producers.setdefault(producer_id, [])
        if known and known[-1][0] < header.producer_epoch:
            known.clear()
        first = self.open.pop(producer_id, None)
        if first is not None and not commit:
            self.aborted.append((producer_id, first, self.end))
        stamp(marker, self.end, self.epoch)
        self.data += marker
        self.end += 1

    def append(self, records: bytes | bytearray) -> tuple[ErrorCode, int]:
        header = read_header(records)
        if header.producer_id >= 0:
            known = self.producers.setdefault(header.producer_id, [])
            for epoch, first, last, offset in known:
                if (epoch, first, last) == (
                    header.producer_epoch,
                    header.base_sequence,
                    header.last_sequence,
                ):
                    return ErrorCode.NONE, offset
            expected = known[-1][2] + 1 if known and known[-1][0] == header.producer_epoch else 0
            if header.base_sequence != expected:
                return ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER, -1
            known.append((header.producer_epoch, header.base_sequence, header.last_sequence, self.end))
            del known[:-5]
        batch = bytearray(records)
        stamp(batch, self.end, self.epoch)
        base, self.end = self.end, self.end + header.last_offset_delta + 1
        self.data += batch
        if header.is_transactional:
            self.open.setdefault(header.producer_id, base)
        return ErrorCode.NONE, base

    def read(self, offset: int, before: int) -> bytes:
        found = b""
        for position, header in iter_headers(self.data):
            if offset < header.next_offset <= before:
                found += bytes(self.data[position : position + header.size])
        return found

    @property
    def values(self) -> list[bytes | None]:
        return [r.value for p, _ in iter_headers(self.data) for r in decode_batch(bytes(self.data), p)]


@dataclass
class Seen:
    """A request as it came."""

    broker: int
    api: ApiKey
    at: float
    message: Any


Answer = dict[str, Any] | None


class FakeCluster(FakeAdmin, FakeTransactions):
    """Brokers 1 to `size` at b1:9092, b2:9092, … and the topic "t" with a partition led by each."""

    def __init__(self, nursery: trio.Nursery, size: int = 1) -> None:
        self.nursery = nursery
        self.logs = {("t", p): FakeLog(leader=p + 1) for p in range(size)}
        self.topics = {"t": b"t" * 16}
        self.alive = set(range(1, size + 1))
        self.brokers = set(self.alive)
        self.versions = dict(SERVED)
        self.seen: list[Seen] = []
        self.script: dict[ApiKey, deque[Fault | ErrorCode]] = defaultdict(deque)
        self.gates: dict[ApiKey, trio.Event] = {}
        self.committed: dict[tuple[str, int], int] = {}
        self.groups: set[str] = {"g"}
        self.configs: dict[str, str | None] = {}
        self.moved: dict[tuple[str, int], list[int]] = {}
        self.make_log = FakeLog
        self.is_silent = False
        """Nothing is answered any more; connections are taken all the same."""
        self.silent: set[int] = set()
        """Brokers of which the same is true."""
        self.coordinator = 1
        self.controller = 0
        self.producers = 0
        self.transactions: dict[str, FakeTransaction] = {}
        self.generation = 0
        self.member: str | None = None
        self.written = trio.Event()
        self._sockets: dict[int, list[trio.SocketStream]] = defaultdict(list)
        self._sending: dict[trio.SocketStream, trio.Lock] = defaultdict(trio.Lock)

    # -- what tests do

    def kill(self, broker: int) -> None:
        """The broker's connections break, and it takes no new ones."""
        self.alive.discard(broker)
        for stream in self._sockets.pop(broker, []):
            stream.socket.close()

    async def say(self, broker: int, data: bytes) -> None:
        """Send bytes that nobody asked for on the broker's newest connection."""
        await self._write(self._sockets[broker][-1], data)

    def requests(self, api: ApiKey) -> list[Seen]:
        return [seen for seen in self.seen if seen.api is api]

    def move(self, topic: str, partition: int, leader: int) -> None:
        log = self.logs[topic, partition]
        log.leader, log.epoch = leader, log.epoch + 1

    def move_everything(self, broker: int) -> None:
        """Another broker leads every partition, coordinates and takes admin requests from now on."""
        for topic, partition in self.logs:
            self.move(topic, partition, broker)
        self.coordinator = self.controller = broker

    async def open_socket(self, host: str, port: int) -> socket.socket:
        """What the client calls to connect."""
        broker = int(host[1:])
        await trio.lowlevel.checkpoint()
        if broker not in self.alive:
            raise ConnectionRefusedError(111, "Connection refused")
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        theirs.setblocking(False)
        stream = trio.SocketStream(trio.socket.from_stdlib_socket(theirs))
        self._sockets[broker].append(stream)
        self.nursery.start_soon(self._serve, broker, stream)
        return ours

    # -- the connection

    async def _serve(self, broker: int, stream: trio.SocketStream) -> None:
        try:
            while True:
                size = int.from_bytes(await self._exactly(stream, 4), "big")
                frame = await self._exactly(stream, size)
                if not await self._handle(broker, stream, frame):
                    return
        except (trio.BrokenResourceError, trio.ClosedResourceError, EOFError):
            pass
        finally:
            stream.socket.close()

    @staticmethod
    async def _exactly(stream: trio.SocketStream, size: int) -> bytes:
        data = b""
        while len(data) < size:
            more = await stream.receive_some(size - len(data))
            if not more:
                raise EOFError
            data += more
        return data

    async def _handle(self, broker: int, stream: trio.SocketStream, frame: bytes) -> bool:
        header = decode_request_header(frame)
        api = ApiKey(header.api)
        if api is ApiKey.API_VERSIONS and header.version > self.versions[api] and not self.is_silent:
            refusal = {"error_code": 35, "api_keys": []}
            await self._send(stream, api, 0, header.correlation_id, refusal)
            return True
        message = decode_request(frame, header)
        self.seen.append(Seen(broker, api, trio.current_time(), message))
        if self.is_silent or broker in self.silent:
            await trio.sleep_forever()
        fault = self.script[api].popleft() if self.script[api] else None
        if fault is Fault.SILENCE:
            await trio.sleep_forever()
        if fault is Fault.CUT_BEFORE:
            return False
        if api in self.gates:
            await self.gates[api].wait()
        error = fault if isinstance(fault, ErrorCode) else self.refusal(broker, api)
        handler: Callable[..., Any] = getattr(self, "_" + api.name.lower())
        fields = await handler(broker, message, error, header.version)
        if fault is Fault.CUT_AFTER:
            return False
        if fields is not None:
            await self._send(stream, api, header.version, header.correlation_id, fields)
        return True

    async def _send(
        self, stream: trio.SocketStream, api: ApiKey, version: int, number: int, fields: Answer
    ) -> None:
        assert fields is not None
        chunks = encode_response(api, version, number, {"throttle_time": 0, **fields})
        await self._write(stream, b"".join(chunks))

    async def _write(self, stream: trio.SocketStream, data: bytes) -> None:
        async with self._sending[stream]:
            await stream.send_all(data)

    # -- the APIs

    async def _api_versions(self, broker: int, message: Any, error: ErrorCode, version: int) -> Answer:
        keys = [
            {"api_key": api, "min_version": VERSIONS[api].first, "max_version": last}
            for api, last in self.versions.items()
        ]
        return {"error_code": error, "api_keys": keys}

    async def _metadata(self, broker: int, message: Any, error: ErrorCode, version: int) -> Answer:
        names = sorted(self.topics) if message.topics is None else [str(t.name) for t in message.topics]
        return {
            "brokers": [
                {"node_id": b, "host": f"b{b}", "port": 9092, "rack": None} for b in sorted(self.brokers)
            ],
            "error_code": 0,
            "cluster_id": "fake",
            "controller_id": self.controller or min(self.alive, default=-1),
            "topics": [self._described(name, error) for name in names],
        }

    def _described(self, name: str, error: ErrorCode) -> dict[str, Any]:
        known = name in self.topics
        code = error if known else ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
        partitions = [
            {
                "error_code": ErrorCode.NONE if log.leader else ErrorCode.LEADER_NOT_AVAILABLE,
                "partition_index": number,
                "leader_id": log.leader or -1,
                "leader_epoch": log.epoch,
                "replica_nodes": sorted(self.brokers),
                "isr_nodes": sorted(self.brokers),
                "offline_replicas": [],
            }
            for (topic, number), log in self.logs.items()
            if topic == name
        ]
        return {
            "error_code": code,
            "name": name,
            "topic_id": self.topics.get(name, bytes(16)),
            "is_internal": False,
            "partitions": partitions if code is ErrorCode.NONE else [],
        }

    async def _create_topics(self, broker: int, message: Any, error: ErrorCode, version: int) -> Answer:
        answers = []
        for topic in message.topics:
            name = str(topic.name)
            code = error or (ErrorCode.TOPIC_ALREADY_EXISTS if name in self.topics else ErrorCode.NONE)
            if not code:
                self.topics[name] = name.encode().ljust(16, b".")
                for number in range(max(1, topic.num_partitions)):
                    self.logs[name, number] = FakeLog(leader=broker)
            answers.append(
                {
                    "name": name, "topic_id": self.topics.get(name, bytes(16)), "error_code": code,
                    "error_message": None, "configs": [],
                }
            )  # fmt: skip
        return {"topics": answers}

    async def _init_producer_id(self, broker: int, message: Any, error: ErrorCode, version: int) -> Answer:
        if message.transactional_id is not None:
            code, producer, epoch = self._coordinates(broker, error), -1, -1
            if not code:
                code, producer, epoch = self.initialize(message)
            return {"error_code": code, "producer_id": producer, "producer_epoch": epoch}
        self.producers += 1
        return {"error_code": error, "producer_id": -1 if error else self.producers, "producer_epoch": 0}

    def _led(self, broker: int, topic: str, partition: int) -> FakeLog | ErrorCode:
        log = self.logs.get((topic, partition))
        if log is None:
            return ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
        return log if log.leader == broker else ErrorCode.NOT_LEADER_OR_FOLLOWER

    async def _produce(self, broker: int, message: Any, error: ErrorCode, version: int) -> Answer:
        responses = []
        for topic in message.topic_data:
            rows = []
            for one in topic.partition_data:
                log = self._led(broker, str(topic.name), int(one.index))
                code, offset = error, -1
                if isinstance(log, ErrorCode):
                    code = log
                elif refused := self._verify(one.records, (str(topic.name), int(one.index))):
                    code = refused
                elif code in (ErrorCode.NONE, ErrorCode.NOT_ENOUGH_REPLICAS_AFTER_APPEND):
                    done, offset = log.append(bytes(one.records))
                    code = code or done
                rows.append(
                    {
                        "index": int(one.index), "error_code": code, "base_offset": -1 if code else offset,
                        "log_append_time": -1, "log_start_offset": 0, "record_errors": [],
                        "error_message": None,
                    }
                )  # fmt: skip
            responses.append({"name": str(topic.name), "partition_responses": rows})
        self.written.set()
        self.written = trio.Event()
        return None if message.acks == 0 else {"responses": responses}

    def _verify(self, records: Any, key: tuple[str, int]) -> ErrorCode:
        header = read_header(bytes(records))
        known = [one for one in self.transactions.values() if one.producer_id == header.producer_id]
        if known and header.producer_epoch < known[0].epoch:
            return ErrorCode.INVALID_PRODUCER_EPOCH
        if header.is_transactional and self.not_in_transaction(key, header.producer_id):
            return ErrorCode.INVALID_TXN_STATE
        return ErrorCode.NONE

    async def _fetch(self, broker: int, message: Any, error: ErrorCode, version: int) -> Answer:
        answer, found = self._fetched(broker, message, error)
        if not found:
            with trio.move_on_after(message.max_wait.total_seconds()):
                await self.written.wait()
            answer, _ = self._fetched(broker, message, error)
        return answer

    def _fetched(self, broker: int, message: Any, error: ErrorCode) -> tuple[Answer, bool]:
        found = False
        responses = []
        for topic in message.topics:
            rows = []
            for one in topic.partitions:
                log = self._led(broker, str(topic.topic), int(one.partition))
                code, records, end, start, stable = error, b"", -1, -1, -1
                aborted = None
                if isinstance(log, ErrorCode):
                    code = log
                elif not code:
                    end, start, stable = log.end, log.start, log.stable
                    before = stable if message.isolation_level else end
                    if not log.start <= one.fetch_offset <= log.end:
                        code = ErrorCode.OFFSET_OUT_OF_RANGE
                    else:
                        records = log.read(int(one.fetch_offset), before)
                    if message.isolation_level:
                        aborted = [
                            {"producer_id": producer, "first_offset": first}
                            for producer, first, marker in log.aborted
                            if marker >= one.fetch_offset
                        ]
                found = found or bool(records) or bool(code)
                rows.append(
                    {
                        "partition_index": int(one.partition), "error_code": code, "high_watermark": end,
                        "log_start_offset": start, "aborted_transactions": aborted, "records": records,
                        "last_stable_offset": stable,
                    }
                )  # fmt: skip
            responses.append({"topic": str(topic.topic), "partitions": rows})
        return {"error_code": 0, "session_id": 0, "responses": responses}, found

    async def _list_offsets(self, broker: int, message: Any, error: ErrorCode, version: int) -> Answer:
        topics = []
        for topic in message.topics:
            rows = []
            for one in topic.partitions:
                log = self._led(broker, str(topic.name), int(one.partition_index))
                code = error or (log if isinstance(log, ErrorCode) else ErrorCode.NONE)
                offset = -1
                if isinstance(log, FakeLog) and not code:
                    end = log.stable if message.isolation_level else log.end
                    offset = log.start if one.timestamp == -2 else end
                rows.append(
                    {"partition_index": int(one.partition_index), "error_code": code, "offset": offset}
                )
            topics.append({"name": str(topic.name), "partitions": rows})
        return {"topics": topics}

    # -- a group of one

    async def _find_coordinator(self, broker: int, message: Any, error: ErrorCode, version: int) -> Answer:
        where = {"node_id": self.coordinator, "host": f"b{self.coordinator}", "port": 9092}
        row = {**where, "error_code": error, "error_message": None, "key": "g"}
        return {**row, "coordinators": [row]}

    def _coordinates(self, broker: int, error: ErrorCode) -> ErrorCode:
        return error or (ErrorCode.NONE if broker == self.coordinator else ErrorCode.NOT_COORDINATOR)

    async def _join_group(self, broker: int, message: Any, error: ErrorCode, version: int) -> Answer:
        code = self._coordinates(broker, error)
        member = message.member_id
        if not code and not member:
            code, member = ErrorCode.MEMBER_ID_REQUIRED, f"m{len(self.seen)}"
        elif not code:
            self.generation += 1
            self.member = member
        chosen = message.protocols[0]
        return {
            "error_code": code, "generation_id": self.generation, "protocol_type": "consumer",
            "protocol_name": chosen.name, "leader": member, "member_id": member,
            "members": [{"member_id": member, "group_instance_id": None, "metadata": bytes(chosen.metadata)}],
        }  # fmt: skip

    async def _sync_group(self, broker: int, message: Any, error: ErrorCode, version: int) -> Answer:
        code = self._coordinates(broker, error)
        given = bytes(message.assignments[0].assignment) if message.assignments else b""
        return {"error_code": code, "assignment": b"" if code else given}

    def _member_error(self, broker: int, message: Any, error: ErrorCode) -> ErrorCode:
        code = self._coordinates(broker, error)
        if not code and message.member_id and message.member_id != self.member:
            return ErrorCode.UNKNOWN_MEMBER_ID
        return code

    async def _heartbeat(self, broker: int, message: Any, error: ErrorCode, version: int) -> Answer:
        return {"error_code": self._member_error(broker, message, error)}

    async def _leave_group(self, broker: int, message: Any, error: ErrorCode, version: int) -> Answer:
        self.member = None
        return {"error_code": self._coordinates(broker, error), "members": []}

    async def _offset_commit(self, broker: int, message: Any, error: ErrorCode, version: int) -> Answer:
        code = self._member_error(broker, message, error)
        topics = []
        for topic in message.topics:
            rows = []
            for one in topic.partitions:
                if not code:
                    self.committed[str(topic.name), int(one.partition_index)] = int(one.committed_offset)
                rows.append({"partition_index": int(one.partition_index), "error_code": code})
            topics.append({"name": str(topic.name), "partitions": rows})
        return {"topics": topics}

    async def _offset_fetch(self, broker: int, message: Any, error: ErrorCode, version: int) -> Answer:
        code = self._coordinates(broker, error)
        (group,) = message.groups
        wanted = (
            list(self.committed)
            if group.topics is None
            else [(str(topic.name), int(p)) for topic in group.topics for p in topic.partition_indexes]
        )
        topics = [
            {
                "name": topic,
                "partitions": [
                    {
                        "partition_index": number,
                        "committed_offset": self.committed.get((topic, number), -1),
                        "committed_leader_epoch": -1, "metadata": "",
                        "error_code": ErrorCode.UNSTABLE_OFFSET_COMMIT
                        if message.require_stable and (topic, number) in self.unstable()
                        else 0,
                    }
                ],
            }
            for topic, number in wanted
        ]  # fmt: skip
        return {"groups": [{"group_id": str(group.group_id), "topics": topics, "error_code": code}]}
