"""Metadata (3), v0 to v13: brokers, topics, and who leads what.

Behaviour: topics by name, by id (v12), each once, or all (null; an empty list in v0). A topic that is asked
for by name and does not exist is created when client and `auto.create.topics.enable` allow it, and the answer
waits until it has leaders, so that it can be produced to at once. The controller is always a live broker
(KRaft does the same): what it cannot do itself it passes on. A leader is named only when it is alive, and
listed then, for a client cannot reach another. The in-sync replicas are those on brokers that are alive: a
majority of them holds everything that is committed.
Missing on purpose: offline folders.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

import trio

from raftlog.broker import authorized
from raftlog.broker.backend import Backend
from raftlog.broker.call import Call
from raftlog.broker.errors import admin_error_code
from raftlog.broker.registry import Answer
from raftlog.broker.routing import named_brokers
from raftlog.cluster.admin import AdminError, AdminFailure, NewTopic
from raftlog.metadata.catalog import Topic
from raftlog.metadata.names import topic_name_problem
from raftlog.protocol.api import ApiKey
from raftlog.protocol.encode import encode_element
from raftlog.protocol.errors import ErrorCode
from raftlog.protocol.requests import asks_for_cluster_operations
from raftlog.protocol.schema import ZERO_UUID, uuid_bytes
from raftlog.types import BrokerId

if TYPE_CHECKING:
    from raftlog.protocol.requests import MetadataRequest

CREATION_TIMEOUT_S: Final = 5.0
"""How long an answer waits for a topic it creates; clients ask again after LEADER_NOT_AVAILABLE."""
ELECTION_WAIT_S: Final = 1.0
CREATED_AT_ONCE_MAX: Final = 100
"""Topics that one request creates; the rest are created when it is repeated."""
AT_A_TIME: Final = 1000
"""Topics that are described before others have their turn."""

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
    everything = request.topics is None or (call.version == 0 and not wanted)
    names = [each.name for each in wanted.values() if each.name is not None]
    failures: dict[str, ErrorCode] = {}
    missing = sorted({name for name in names if name not in backend.catalog.topics})
    if missing:
        allowed = request.allow_auto_topic_creation
        if allowed and backend.config.bool("auto.create.topics.enable"):
            failures = await _create(call, missing)
        else:
            failures = {name: _unknown(name) for name in missing}
    named = [backend.catalog.topics[name] for name in names if name in backend.catalog.topics]
    await _until_led(backend, list(backend.catalog.topics.values()) if everything else named)
    brokers = named_brokers(backend)
    alive = frozenset(broker.id for broker in brokers if backend.presence.is_alive(broker))
    operations = (
        authorized.OF_A_TOPIC if request.include_topic_authorized_operations else authorized.NOT_ASKED
    )
    view = _View(backend, call.version, alive, operations)
    if everything:
        topics = [view.describe(topic) for topic in backend.catalog.topics.values()]
    else:
        topics = []
        for count, each in enumerate(wanted.values(), 1):
            if count % AT_A_TIME == 0:
                await trio.lowlevel.checkpoint()
            topics.append(
                _with_id(view, each.topic_id) if each.name is None else _named(view, each.name, failures)
            )
    return {
        "brokers": [
            {"node_id": broker.id, "host": host, "port": port, "rack": broker.rack}
            for broker in brokers
            for host, port in [call.address_of(broker)]
        ],
        "cluster_id": backend.cluster_id,
        "controller_id": backend.controller_id,
        "topics": topics,
        "cluster_authorized_operations": (
            authorized.OF_THE_CLUSTER if asks_for_cluster_operations(request) else authorized.NOT_ASKED
        ),
        "error_code": ErrorCode.NONE,
    }


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

    def __init__(self, backend: Backend, version: int, alive: frozenset[BrokerId], operations: int) -> None:
        self.backend = backend
        self.version = version
        self.alive = alive
        self.operations = operations

    def describe(self, topic: Topic) -> _Described:
        """The topic in the answer. What many clients ask for in turn is encoded once for all of them."""
        count = len(topic.partitions)
        leaders = [self._listed(self.backend.leaders.leader_of(topic, index)) for index in range(count)]
        if count < CACHED_FROM:
            return self._fields(topic, leaders)
        key = (self.version, self.operations, topic.topic_id)
        known = _encoded.get(key)
        if known is not None and known[0] is topic and known[1] == leaders and known[2] == self.alive:
            return known[3]
        fields = self._fields(topic, leaders)
        encoded = encode_element(ApiKey.METADATA, self.version, "response", "topics", fields)
        if len(_encoded) >= CACHED_MAX:
            _encoded.clear()
        _encoded[key] = (topic, leaders, self.alive, encoded)
        return encoded

    def _listed(self, led: _Leader) -> _Leader:
        leader, _ = led
        return led if leader is None or leader in self.alive else (None, led[1])

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
            "topic_authorized_operations": self.operations,
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


def _named(view: _View, name: str, failures: dict[str, ErrorCode]) -> _Described:
    topic = view.backend.catalog.topics.get(name)
    if topic is not None:
        return view.describe(topic)
    code = failures.get(name, ErrorCode.UNKNOWN_TOPIC_OR_PARTITION)
    return _absent(name, ZERO_UUID, code) | {"topic_authorized_operations": view.operations}


def _with_id(view: _View, topic_id: uuid.UUID | None) -> _Described:
    id_bytes = uuid_bytes(topic_id)
    topic = view.backend.catalog.topics_by_id.get(id_bytes)
    return _absent(None, id_bytes, ErrorCode.UNKNOWN_TOPIC_ID) if topic is None else view.describe(topic)


def _absent(name: str | None, topic_id: bytes, code: ErrorCode) -> dict[str, object]:
    return {"error_code": code, "name": name, "topic_id": topic_id, "is_internal": False, "partitions": []}
