"""Metadata (3), v0 to v13: brokers, topics, and who leads what.

Behaviour: topics by name, by id (v12), each once, or all (null; an empty list in v0). A topic that is asked
for by name and does not exist is created when client and `auto.create.topics.enable` allow it, and the answer
waits until it has leaders, so that it can be produced to at once. The controller is always a live broker
(KRaft does the same): what it cannot do itself it passes on. A leader is named only when it is alive, and
listed then, for a client cannot reach another. The in-sync replicas are those on brokers that are alive: a
majority of them holds everything that is committed.
A broker that is cut off sends clients on: where it knows no leader it names one of the other replicas. That
one leads, or says who does. librdkafka asks for metadata where it last sent something; it would stay here,
without a leader, for as long as the broker is cut off.
Missing on purpose: offline folders.
"""

from __future__ import annotations

import uuid
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Final

import trio

from raftlog.broker import authorized
from raftlog.broker.backend import Backend
from raftlog.broker.call import Call
from raftlog.broker.creating import may_create
from raftlog.broker.errors import admin_error_code
from raftlog.broker.registry import Answer
from raftlog.broker.routing import any_of, elsewhere, named_brokers
from raftlog.broker.steps import Turns
from raftlog.cluster.admin import AdminError, AdminFailure, NewTopic
from raftlog.metadata.catalog import Topic
from raftlog.metadata.names import topic_name_problem
from raftlog.protocol.api import ApiKey
from raftlog.protocol.encode import encode_element
from raftlog.protocol.errors import ErrorCode
from raftlog.protocol.requests import asks_for_cluster_operations
from raftlog.protocol.schema import ZERO_UUID, uuid_bytes
from raftlog.rights import CLUSTER_NAME, Operation, ResourceKind
from raftlog.types import BrokerId

if TYPE_CHECKING:
    from raftlog.protocol.requests import MetadataRequest

CREATION_TIMEOUT_S: Final = 5.0
"""How long an answer waits for a topic it creates; clients ask again after LEADER_NOT_AVAILABLE."""
NO_EPOCH: Final = -1
"""Of a replica that may lead: it says itself since when."""
ELECTION_WAIT_S: Final = 1.0
CREATED_AT_ONCE_MAX: Final = 100
"""Topics that one request creates; the rest are created when it is repeated."""
CACHED_FROM: Final = 32
"""Partitions of a topic from which its part of an answer is kept."""
CACHED_MAX: Final = 512
"""Topics, times versions asked, that are kept."""

_Leader = tuple[BrokerId | None, int]
_Described = dict[str, object] | bytes
"""A topic in the answer: its fields, or its bytes."""

_encoded: dict[tuple[int, int, bytes], tuple[Topic, list[_Leader], frozenset[BrokerId], bytes]] = {}
"""What a topic's bytes are made of, and they: nothing that is not in the key or compared goes into them."""


async def handle(call: Call, request: MetadataRequest) -> Answer:
    backend = call.backend
    wanted = {each.topic_id if each.name is None else each.name: each for each in request.topics or ()}
    secret = _secret(call, [each.name for each in wanted.values() if each.name is not None])
    everything = request.topics is None or (call.version == 0 and not wanted)
    names = [each.name for each in wanted.values() if each.name is not None and each.name not in secret]
    failures, turns = dict(secret), Turns()
    missing = sorted({name for name in names if name not in backend.catalog.topics})
    if missing:
        allowed = request.allow_auto_topic_creation
        if allowed and backend.config.bool("auto.create.topics.enable"):
            failures |= await _create(call, missing)
        else:
            for name in missing:
                failures[name] = _unknown(name)
                await turns.after(1)
    named = [backend.catalog.topics[name] for name in names if name in backend.catalog.topics]
    shown = (
        [topic for topic in backend.catalog.topics.values() if _sees(call, topic)] if everything else named
    )
    if not backend.presence.is_cut_off:
        await _until_led(backend, shown)
    brokers = named_brokers(call)
    alive = frozenset(broker.id for broker in brokers if backend.presence.is_alive(broker))
    others = elsewhere(backend)
    view = _View(call, alive, others, asks_for_operations=request.include_topic_authorized_operations)
    topics: list[_Described] = []
    if everything:
        for topic in shown:
            topics.append(view.describe(topic))
            await turns.after(len(topic.partitions))
    else:
        for each in wanted.values():
            topics.append(
                _with_id(view, each.topic_id)
                if each.name is None
                else _named(view, each.name, failures, secret)
            )
            await turns.after(1)
    return {
        "brokers": [
            {"node_id": broker.id, "host": host, "port": port, "rack": broker.rack}
            for broker in brokers
            for host, port in [call.address_of(broker)]
        ],
        "cluster_id": backend.cluster_id,
        "controller_id": backend.broker_id,  # every broker passes on what Kafka sends to its controller
        "topics": topics,
        "cluster_authorized_operations": (
            cluster_operations(call) if asks_for_cluster_operations(request) else authorized.NOT_ASKED
        ),
        "error_code": ErrorCode.NONE,
    }


def cluster_operations(call: Call) -> int:
    """What may be done with the cluster, for who may know of it."""
    if not call.sees(Operation.DESCRIBE, ResourceKind.CLUSTER, CLUSTER_NAME):
        return 0
    return authorized.operations_on(call, ResourceKind.CLUSTER)


def _secret(call: Call, names: Sequence[str]) -> dict[str, ErrorCode]:
    """Those of the topics that must look as if they were not there."""
    if call.backend.authorizer is None:
        return {}
    codes = {name: call.refusal(Operation.DESCRIBE, ResourceKind.TOPIC, name) for name in names}
    return {name: code for name, code in codes.items() if code}


def _sees(call: Call, topic: Topic) -> bool:
    return call.sees(Operation.DESCRIBE, ResourceKind.TOPIC, topic.name)


async def _until_led(backend: Backend, topics: Sequence[Topic]) -> None:
    """Wait a moment for elections that are under way: a client that is told of no leader, or of one that has
    ended, asks again after a second or more."""
    with trio.move_on_after(ELECTION_WAIT_S):
        for topic in topics:
            await backend.leaders.wait_for_leaders(topic)


async def _create(call: Call, names: Sequence[str]) -> dict[str, ErrorCode]:
    """Create topics that are asked for, side by side; gives an error for those that are not there then."""
    backend = call.backend
    failures: dict[str, ErrorCode] = {}

    async def create(name: str) -> None:
        if not may_create(call, name):
            failures[name] = ErrorCode.TOPIC_AUTHORIZATION_FAILED
            return
        outcome = await backend.admin.create_topic(NewTopic(name=name), timeout=CREATION_TIMEOUT_S)
        if not isinstance(outcome, AdminFailure):
            return
        match outcome.error:
            case AdminError.TOPIC_EXISTS:  # another request creates it just now
                topic = backend.catalog.topics.get(name)
                if topic is not None:
                    with trio.move_on_after(CREATION_TIMEOUT_S):
                        await backend.leaders.wait_for_leaders(topic)
            case AdminError.TIMED_OUT | AdminError.UNAVAILABLE:
                failures[name] = ErrorCode.LEADER_NOT_AVAILABLE
            case error:
                failures[name] = admin_error_code(error)
                call.refuse(name, outcome.message)

    async with trio.open_nursery() as nursery:
        for name in names[:CREATED_AT_ONCE_MAX]:
            nursery.start_soon(create, name)
    failures |= dict.fromkeys(names[CREATED_AT_ONCE_MAX:], ErrorCode.LEADER_NOT_AVAILABLE)
    return failures


def _unknown(name: str) -> ErrorCode:
    if topic_name_problem(name) is not None:
        return ErrorCode.INVALID_TOPIC_EXCEPTION
    return ErrorCode.UNKNOWN_TOPIC_OR_PARTITION


class _View:
    """The topics as one answer shows them: what was asked, the brokers that are alive, the leaders."""

    def __init__(
        self,
        call: Call,
        alive: frozenset[BrokerId],
        others: Collection[BrokerId],
        *,
        asks_for_operations: bool,
    ) -> None:
        """`others`: to whom a broker that is cut off sends clients on."""
        self.call = call
        self.backend = call.backend
        self.version = call.version
        self.alive = alive
        self.asks_for_operations = asks_for_operations
        self.others = others

    def operations(self, name: str) -> int:
        """What its client may do with a topic."""
        if not self.asks_for_operations:
            return authorized.NOT_ASKED
        return authorized.operations_on(self.call, ResourceKind.TOPIC, name)

    def describe(self, topic: Topic) -> _Described:
        """The topic in the answer. What many clients ask for in turn is encoded once for all of them."""
        count = len(topic.partitions)
        leaders = [self._listed(topic, index) for index in range(count)]
        if count < CACHED_FROM:
            return self._fields(topic, leaders)
        key = (self.version, self.operations(topic.name), topic.topic_id)
        known = _encoded.get(key)
        if known is not None and known[0] is topic and known[1] == leaders and known[2] == self.alive:
            return known[3]
        fields = self._fields(topic, leaders)
        encoded = encode_element(ApiKey.METADATA, self.version, "response", "topics", fields)
        if len(_encoded) >= CACHED_MAX:
            _encoded.clear()
        _encoded[key] = (topic, leaders, self.alive, encoded)
        return encoded

    def _listed(self, topic: Topic, index: int) -> _Leader:
        leader, epoch = self.backend.leaders.leader_of(topic, index)
        if leader in self.alive:
            return leader, epoch
        hosts = [host for host in topic.partitions[index].hosts if host in self.others]
        return (any_of(hosts), NO_EPOCH) if hosts else (None, epoch)

    def _fields(self, topic: Topic, leaders: Sequence[_Leader]) -> dict[str, object]:
        return {
            "error_code": ErrorCode.NONE,
            "name": topic.name,
            "topic_id": topic.topic_id,
            "is_internal": topic.is_internal,
            "partitions": [
                self._partition(index, assignment.hosts, leader)
                for index, (assignment, leader) in enumerate(zip(topic.partitions, leaders, strict=True))
            ],
            "topic_authorized_operations": self.operations(topic.name),
        }

    def _partition(self, index: int, hosts: Sequence[BrokerId], led: _Leader) -> dict[str, object]:
        leader, epoch = led
        alive = self.alive
        return {
            "error_code": ErrorCode.LEADER_NOT_AVAILABLE if leader is None else ErrorCode.NONE,
            "partition_index": index,
            "leader_id": -1 if leader is None else leader,
            "leader_epoch": epoch,
            "replica_nodes": hosts,
            "isr_nodes": [one for one in hosts if one in alive],
            "offline_replicas": [one for one in hosts if one not in alive],
        }


def _named(view: _View, name: str, failures: dict[str, ErrorCode], secret: Collection[str]) -> _Described:
    topic = None if name in secret else view.backend.catalog.topics.get(name)
    if topic is not None:
        return view.describe(topic)
    code = failures.get(name, ErrorCode.UNKNOWN_TOPIC_OR_PARTITION)
    operations = authorized.NOT_ASKED if name in secret else view.operations(name)
    return _absent(name, ZERO_UUID, code) | {"topic_authorized_operations": operations}


def _with_id(view: _View, topic_id: uuid.UUID | None) -> _Described:
    id_bytes = uuid_bytes(topic_id)
    topic = view.backend.catalog.topics_by_id.get(id_bytes)
    if topic is None:
        return _absent(None, id_bytes, ErrorCode.UNKNOWN_TOPIC_ID)
    if (refused := view.call.topic_refusal(Operation.DESCRIBE, id_bytes)) is not ErrorCode.NONE:
        return _absent(None, id_bytes, refused)
    return view.describe(topic)


def _absent(name: str | None, topic_id: bytes, code: ErrorCode) -> dict[str, object]:
    return {"error_code": code, "name": name, "topic_id": topic_id, "is_internal": False, "partitions": []}
