"""Every API and every metadata command, at, below and above limits, two at a time, to three brokers.

What is sent comes from the registry and from the table of commands, so that what is new is in it: two fields
of a plausible request get a size or a number from the edge of something. Then every broker lives, a bystander
is served by each of them, and nobody was told of an error of the server's.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from typing import Any, Final, get_args, get_origin, get_type_hints

import pytest
from hypothesis import HealthCheck, given, note, settings
from hypothesis import strategies as st

from raftlog.broker.registry import Api, served
from raftlog.cluster.metadata_group import ProposalFailed
from raftlog.metadata.commands import COMMANDS, PROPOSED_BYTES_MAX, encode_command
from raftlog.metadata.noun import Command, Refused
from raftlog.protocol.api import ApiKey
from raftlog.protocol.codec import decode_response, encode_request
from raftlog.protocol.schema import Field, Struct, message_struct
from raftlog.testing.broker import EmbeddedBroker
from raftlog.testing.cluster import EmbeddedCluster, running_cluster

pytestmark = pytest.mark.slow

ANSWER_S: Final = 40.0
REQUEST_BYTES: Final = 3 << 20
"""What is sent at once, about: the largest limit that is not a request's is 8 MiB of a commit."""
TOPIC: Final = "t"
LONG_TOPIC: Final = "x" * 249
PARTITIONS: Final = 20

NUMBERS: Final = (-(2**31), -2, -1, 0, 1, 2, 10_000, 10_001, 2**31 - 1)
LENGTHS: Final = (0, 1, 249, 250, 4096, 4097, 32_767, 32_768, 600_000, 1_100_000)
COUNTS: Final = (0, 1, 2, 1000, 2300, 10_001, 36_000, 100_001)

_BITS: Final = {"int8": 8, "int16": 16, "uint16": 15, "int32": 32, "int64": 64}

Path = tuple[str, ...]

PLAUSIBLE: Final[dict[str, Any]] = {
    "name": TOPIC,
    "topic": TOPIC,
    "topic_name": TOPIC,
    "resource_name": TOPIC,
    "group_id": "g",
    "groups_names": "gone",
    "key": "g",
    "coordinator_keys": "g",
    "resource_type": 2,
    "generation_id_or_member_epoch": -1,
    "validate_only": True,
    "num_partitions": 1,
    "replication_factor": 1,
    "count": PARTITIONS + 1,
    "protocol_type": "consumer",
    "acks": -1,
    "max_version_id": 1,
}
"""By the field's name; what is not here is empty, 0 or null."""

UNTOUCHED: Final = frozenset(
    {"timeout", "timeout_ms", "max_wait", "rebalance_timeout", "session_timeout", "broker_id", "broker_ids"}
)
"""Fields that are left alone: how long to wait, and whom to take out of the cluster."""

DESTRUCTIVE: Final = {ApiKey.DELETE_TOPICS: {"name": "gone", "topic_names": "gone"}}


@pytest.fixture(scope="module")
def cluster() -> Iterator[EmbeddedCluster]:
    with running_cluster(3, group_initial_rebalance_delay_ms=0, num_partitions=1) as running:
        running.create_topic(TOPIC, PARTITIONS)
        running.create_topic(LONG_TOPIC, PARTITIONS)
        yield running


def ask(broker: EmbeddedBroker, api: ApiKey, version: int, request: dict[str, Any]) -> Any:
    """The answer, or None when the broker ended the connection, as it may for a request that lies."""
    host, _, port = broker.bootstrap.rpartition(":")
    with socket.create_connection((host, int(port)), timeout=ANSWER_S) as connection:
        try:
            connection.sendall(b"".join(encode_request(api, version, 7, "limits", request)))
            size = int.from_bytes(_exactly(connection, 4), "big")
            echoed, answer = decode_response(api, version, _exactly(connection, size))
        except ConnectionError:
            return None
    assert echoed == 7
    return answer


def _exactly(connection: socket.socket, count: int) -> bytes:
    data = bytearray()
    while len(data) < count:
        piece = connection.recv(count - len(data))
        if not piece:
            raise ConnectionResetError
        data += piece
    return bytes(data)


def all_is_well(cluster: EmbeddedCluster) -> None:
    """Everybody lives, and serves somebody else."""
    for broker in cluster.brokers:
        broker.check()
        request = {"topics": [{"topic_id": bytes(16), "name": TOPIC}], "allow_auto_topic_creation": False}
        request |= {
            "include_cluster_authorized_operations": False,
            "include_topic_authorized_operations": False,
        }
        answer = ask(broker, ApiKey.METADATA, 12, request)
        assert answer is not None and {1, 2, 3} <= {one.node_id for one in answer.brokers}
        assert answer.topics[0].error_code == 0 and len(answer.topics[0].partitions) == PARTITIONS


def errors_in(answer: Any) -> Iterator[int]:
    """Every error code of an answer."""
    for field in fields(answer):
        value = getattr(answer, field.name)
        if field.name == "error_code":
            yield int(value)
        for one in value if isinstance(value, tuple) else (value,):
            if hasattr(one, "__dataclass_fields__"):
                yield from errors_in(one)


# Requests, from their layout


def sizable(layout: Struct, at: Path = ()) -> Iterator[tuple[Path, Field]]:
    for field in layout.fields:
        if field.name in UNTOUCHED or (field.kind in ("uuid", "bool", "float64") and not field.array):
            continue
        if field.array or not field.struct:
            yield (*at, field.name), field
        if field.struct:
            yield from sizable(field.struct, (*at, field.name))


def build(api: ApiKey, layout: Struct, sizes: dict[Path, int], budget: int, at: Path = ()) -> dict[str, Any]:
    return {
        field.name: _value(api, field, layout.flexible, sizes, budget, (*at, field.name))
        for field in layout.fields
    }


def _value(api: ApiKey, field: Field, flexible: bool, sizes: dict[Path, int], budget: int, at: Path) -> Any:
    size = sizes.get(at)
    if field.array:
        count = min(size if size is not None and size >= 0 else 1, budget)
        inside = any(path[: len(at)] == at and path != at for path in sizes)
        return [
            _element(api, field, flexible, sizes if inside else {}, budget // max(count, 1), at, number)
            for number in range(count)
        ]
    return _element(api, field, flexible, sizes, budget, at, 0)


def _element(
    api: ApiKey, field: Field, flexible: bool, sizes: dict[Path, int], budget: int, at: Path, number: int
) -> Any:
    if field.struct:
        return build(api, field.struct, sizes, budget, at)
    plausible = DESTRUCTIVE.get(api, {}).get(field.name, PLAUSIBLE.get(field.name))
    size = None if field.array else sizes.get(at)
    if field.kind in ("string", "bytes", "records"):
        if size is None:
            return plausible if plausible is not None else None if field.nullable else ""
        length = min(max(size, 0), budget if flexible or field.kind != "string" else min(budget, 32_767))
        return "x" * length if field.kind == "string" else b"x" * length
    if field.kind == "uuid":
        return bytes(16)
    if field.kind == "bool":
        return bool(plausible)
    if field.kind in _BITS:
        half = 1 << _BITS[field.kind] - 1
        value = number if field.array else size if size is not None else plausible or 0
        return max(-half, min(half - 1, value))
    return 100  # milliseconds of some kind


@st.composite
def requests(draw: st.DrawFn) -> tuple[Api, int, dict[Path, int]]:
    api = draw(st.sampled_from(list(served())))
    version = draw(st.integers(max(api.first, 3 if api.key is ApiKey.PRODUCE else 0), api.last))
    places = list(sizable(message_struct(api.key, version, "request")))
    sizes: dict[Path, int] = {}
    for _ in range(2 if places else 0):
        path, field = draw(st.sampled_from(places))
        of = COUNTS if field.array else LENGTHS if field.kind in ("string", "bytes", "records") else NUMBERS
        sizes[path] = draw(st.sampled_from(of))
    return api, version, sizes


bounded = settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))


@bounded
@given(which=requests(), broker=st.integers(1, 3))
@pytest.mark.long
def test_every_api_at_its_limits(
    cluster: EmbeddedCluster, which: tuple[Api, int, dict[Path, int]], broker: int
) -> None:
    api, version, sizes = which
    note(f"{api.key.name} v{version} {sizes}")
    request = build(api.key, message_struct(api.key, version, "request"), sizes, REQUEST_BYTES)
    answer = ask(cluster.broker(broker), api.key, version, request)
    if answer is not None:
        assert -1 not in errors_in(answer), f"UNKNOWN_SERVER_ERROR: {answer!r}"[:500]
    all_is_well(cluster)


# Commands, from their fields


@st.composite
def commands(draw: st.DrawFn) -> Command:
    cls = COMMANDS[draw(st.sampled_from(sorted(COMMANDS)))]
    hints = get_type_hints(cls)
    names = [field.name for field in fields(cls)]
    chosen = draw(st.lists(st.sampled_from(names), max_size=2))
    values = {name: _of_type(draw, name, hints[name], name in chosen) for name in names}
    return cls(**values)


def _of_type(draw: st.DrawFn, name: str, kind: Any, is_chosen: bool) -> Any:
    while hasattr(kind, "__supertype__"):
        kind = kind.__supertype__
    origin, args = get_origin(kind), get_args(kind)
    if kind is int:
        usual = {"broker_id": 99, "replica": 98}.get(name, 1)  # 98 is never registered
        return draw(st.sampled_from((-(2**63), -1, 0, 99, 2**31, 2**63 - 1))) if is_chosen else usual
    if kind is bool:
        return True
    if kind is bytes:
        return b"x" * draw(st.sampled_from((0, 15, 16, 17, PROPOSED_BYTES_MAX))) if is_chosen else b"x" * 16
    if kind is str:
        return "x" * draw(st.sampled_from(LENGTHS)) if is_chosen else "gone"
    count = draw(st.sampled_from((0, 1, 2, 1000, 10_001, 36_000))) if is_chosen else 1
    if origin is tuple and args[-1] is Ellipsis:
        return (_of_type(draw, "replica", args[0], False),) * count
    if origin is tuple:
        return tuple(_of_type(draw, name, one, False) for one in args)
    if is_dataclass(kind):
        hints = get_type_hints(kind)
        return kind(**{one.name: _of_type(draw, one.name, hints[one.name], False) for one in fields(kind)})
    if hasattr(kind, "_fields"):  # a NamedTuple
        hints = get_type_hints(kind)
        return kind(*(_of_type(draw, one, hints[one], False) for one in kind._fields))
    if origin is not None and len(args) == 2 and args[1] is not type(None):  # a mapping
        return {f"{number}": "x" for number in range(count)}
    return None  # of what is optional


@settings(bounded, max_examples=50)
@given(command=commands(), broker=st.integers(1, 3))
def test_every_command_at_its_limits(cluster: EmbeddedCluster, command: Command, broker: int) -> None:
    """As a handler proposes it that has forgotten to look, on the leader and on others."""
    note(f"{command.kind}, {len(encode_command(command))} bytes")
    proposer = cluster.broker(broker).backend.proposer
    result = cluster.broker(broker).call(proposer.propose, command).result(ANSWER_S)
    assert not isinstance(result, ProposalFailed)
    if len(encode_command(command)) > PROPOSED_BYTES_MAX:
        assert isinstance(result, Refused)
    all_is_well(cluster)


# What is known to have ended clusters, with the right answers


def coordinator(cluster: EmbeddedCluster) -> EmbeddedBroker:
    answer = ask(cluster.brokers[0], ApiKey.FIND_COORDINATOR, 3, {"key": "g", "key_type": 0})
    return cluster.broker(answer.node_id)


def commit(cluster: EmbeddedCluster, topic: str, rows: list[dict[str, Any]]) -> list[str]:
    request = {
        "group_id": "g",
        "generation_id_or_member_epoch": -1,
        "member_id": "",
        "group_instance_id": None,
        "topics": [{"name": topic, "partitions": rows}],
    }
    answer = ask(coordinator(cluster), ApiKey.OFFSET_COMMIT, 9, request)
    return [each.error_code.name for each in answer.topics[0].partitions]


@settings(bounded, max_examples=12)
@given(
    count=st.sampled_from((1, PARTITIONS, PARTITIONS + 1, 2300)),
    length=st.sampled_from((0, 4096, 4097)),
    is_same=st.booleans(),
)
def test_commits_of_many_partitions_and_much_metadata(
    cluster: EmbeddedCluster, count: int, length: int, is_same: bool
) -> None:
    rows = [
        {
            "partition_index": 0 if is_same else number,
            "committed_offset": number,
            "committed_leader_epoch": -1,
            "committed_metadata": "x" * length,
        }
        for number in range(count)
    ]
    codes = commit(cluster, LONG_TOPIC, rows)
    for row, code in zip(rows, codes, strict=True):
        if row["partition_index"] >= PARTITIONS:
            assert code == "unknown_topic_or_partition"
        else:
            assert code == ("none" if length <= 4096 else "offset_metadata_too_large")
    all_is_well(cluster)


def test_deleting_as_many_offsets_as_a_request_takes_of_a_topic_that_is_not_there(
    cluster: EmbeddedCluster,
) -> None:
    """36,000 of them, in a command of 9 MB, once ended every broker; a request takes 20,000 rows now."""
    commit(cluster, TOPIC, [{"partition_index": 0, "committed_offset": 1, "committed_metadata": None}])
    rows = [{"partition_index": number} for number in range(19_900)]
    request = {"group_id": "g", "topics": [{"name": "y" * 249, "partitions": rows}]}
    answer = ask(coordinator(cluster), ApiKey.OFFSET_DELETE, 0, request)
    assert answer.error_code == 0
    assert {each.error_code.name for each in answer.topics[0].partitions} == {"unknown_topic_or_partition"}
    all_is_well(cluster)


@pytest.mark.parametrize(
    ("length", "count", "error"),
    [
        (249, 10_000, "none"),
        (249, 10_001, "invalid_partitions"),
        (250, 10_000, "invalid_topic_exception"),
        (250, 10_001, "invalid_topic_exception"),
    ],
)
@pytest.mark.parametrize("explicit", [False, True], ids=["count", "assignments"])
def test_topics_of_long_names_and_many_partitions(
    cluster: EmbeddedCluster, length: int, count: int, error: str, explicit: bool
) -> None:
    rows = [{"partition_index": number, "broker_ids": [1, 2, 3]} for number in range(count)]
    topic = {
        "name": "z" * length,
        "num_partitions": -1 if explicit else count,
        "replication_factor": -1 if explicit else 3,
        "assignments": rows if explicit else [],
        "configs": [],
    }
    request = {"topics": [topic], "timeout": 1000, "validate_only": True}
    answer = ask(cluster.brokers[0], ApiKey.CREATE_TOPICS, 7, request)
    assert answer.topics[0].error_code.name == error
    all_is_well(cluster)
