"""The one list of the Kafka APIs that are served.

ApiVersions, the docs' compatibility table and the dispatch come from it. Each API has a module in
`handlers/`, imported when its first request comes: a broker starts fast, and most never see most of them.
"""

from __future__ import annotations

import importlib
from collections.abc import Awaitable, Callable, Iterator
from functools import cached_property
from typing import Any, Final

from raftlog.broker.call import Call
from raftlog.broker.rights import Right, Rule, each, whole
from raftlog.errors import DiskFailed, InvalidInput, SafetyError
from raftlog.protocol.api import ApiKey
from raftlog.protocol.codec import RequestHeader, decode_request, encode_response, prepare_to_serve
from raftlog.protocol.encode import Fields
from raftlog.protocol.errors import ErrorCode
from raftlog.rights import Operation

Decode = Callable[[bytearray, RequestHeader], Any]
Answer = dict[str, Any]
Handle = Callable[[Call, Any], Answer | Awaitable[Answer | None] | None]
"""A handler: gives the answer's superset of fields at once or later, or None when it answers by itself."""

Refuse = Callable[[Any, ErrorCode, str], Answer]
"""What a handler module answers to a request that may not be made: with the code where the API has it."""

_CREATES: Final = "Create, or Create Cluster, where a topic is created by asking for it"
_LEFT_OUT: Final = "what may not be described is left out"
_IDS: Final = "without a transactional id; Write of any topic will do"
PRODUCE_PIPELINED: Final = 256
"""librdkafka sends as many as it likes."""
COMMITS_PIPELINED: Final = 32
"""A client that commits without waiting. Those of 300 connections together are as many as may wait for their
entry (`raftlog.cluster.offsets`)."""
_CHANGING: Final = (Operation.CREATE, Operation.DELETE, Operation.ALTER, Operation.ALTER_CONFIGS)
_BROKERS: Final = "of brokers: Alter Cluster"


class Api:
    """One API: versions `first` to `last`, and the handler in `handlers/<name>.py`.

    A handler module has `handle(call, request)`, and `decode(frame, header)` when it reads by hand.
    `rule` is what asking takes; None for what comes before it is known who asks. A module whose rule has a
    part for the request as a whole has `refused(request, code, text)`, unless an answer of nothing but code
    and text will do.
    `pipelined`: how many requests of one connection may be without an answer when the next of this API is
    handled; 0 for those that wait until all before them are answered.
    """

    expected_failures: Final = (InvalidInput, SafetyError, DiskFailed)
    """What a handler may raise: a client that lied, or a broker that must stop."""

    def __init__(self, key: ApiKey, first: int, last: int, rule: Rule | None, *, pipelined: int = 0) -> None:
        self.key = key
        self.first = first
        self.last = last
        self.rule = rule
        self.pipelined = pipelined
        self.overtakes = key is ApiKey.PRODUCE
        """What is pipelined is handled behind unanswered requests of any API, and not of its own alone."""
        self.used: set[int] = set()
        """The versions that clients have asked for."""

    def __repr__(self) -> str:
        return f"<Api {self.key.name} v{self.first} to v{self.last}>"

    @cached_property
    def is_change(self) -> bool:
        """Whether it is an administrator's change. Metadata, which may create a topic by the way, is not."""
        rights = () if self.rule is None else self.rule.rights
        return self.key is not ApiKey.METADATA and any(right.operation in _CHANGING for right in rights)

    @cached_property
    def _module(self) -> Any:
        return importlib.import_module(f"raftlog.broker.handlers.{self.key.name.lower()}")

    @property
    def right(self) -> Right | None:
        """The first right that asking takes."""
        return None if self.rule is None else self.rule.first

    @cached_property
    def refused(self) -> Refuse | None:
        """The answer to a request that may not be made; None when code and text are all of it."""
        refused: Refuse | None = getattr(self._module, "refused", None)
        return refused

    @cached_property
    def handle(self) -> Handle:
        handle: Handle = self._module.handle
        return handle

    @cached_property
    def decode(self) -> Decode:
        decode: Decode = getattr(self._module, "decode", decode_request)
        return decode

    def prepare(self, version: int) -> None:
        """Load what a request of this version needs, before the first one has to wait for it."""
        if self.decode is decode_request:  # what reads by hand writes by hand
            prepare_to_serve(self.key, version)
        self.used.add(version)


# Minimums are Apache Kafka 4's, since clients read more into them than they say; Produce begins at 0 although
# 0 to 2 are refused: librdkafka turns compression off otherwise (KAFKA-18659). Telemetry (71, 72) stays away:
# it makes every librdkafka client log noise.
REGISTRY: Final[dict[int, Api]] = {
    api.key: api
    for api in (
        Api(ApiKey.PRODUCE, 0, 13, each("write topic", "write transaction"), pipelined=PRODUCE_PIPELINED),
        Api(ApiKey.FETCH, 4, 17, each("read topic")),
        Api(ApiKey.LIST_OFFSETS, 1, 11, each("describe topic")),
        Api(ApiKey.METADATA, 0, 13, each("describe topic", "create topic", note=_CREATES)),
        Api(
            ApiKey.OFFSET_COMMIT, 2, 9, whole("read group", each=("read topic",)), pipelined=COMMITS_PIPELINED
        ),
        Api(ApiKey.OFFSET_FETCH, 1, 9, each("describe group", "describe topic", note=_LEFT_OUT)),
        Api(ApiKey.FIND_COORDINATOR, 0, 6, each("describe group", "describe transaction")),
        Api(ApiKey.JOIN_GROUP, 0, 9, whole("read group")),
        Api(ApiKey.HEARTBEAT, 0, 4, whole("read group")),
        Api(ApiKey.LEAVE_GROUP, 0, 5, whole("read group")),
        Api(ApiKey.SYNC_GROUP, 0, 5, whole("read group")),
        Api(ApiKey.DESCRIBE_GROUPS, 0, 6, each("describe group")),
        Api(ApiKey.LIST_GROUPS, 0, 5, each("describe group", note="all of them with Describe Cluster")),
        Api(ApiKey.SASL_HANDSHAKE, 0, 1, None),
        Api(ApiKey.API_VERSIONS, 0, 4, None),
        Api(ApiKey.CREATE_TOPICS, 2, 7, each("create topic", note="or Create Cluster")),
        Api(ApiKey.DELETE_TOPICS, 1, 6, each("delete topic")),
        Api(ApiKey.DELETE_RECORDS, 0, 2, each("delete topic")),
        Api(ApiKey.INIT_PRODUCER_ID, 0, 5, each("idempotent_write cluster", "write transaction", note=_IDS)),
        Api(ApiKey.OFFSET_FOR_LEADER_EPOCH, 2, 4, each("describe topic")),
        Api(
            ApiKey.ADD_PARTITIONS_TO_TXN,
            0,
            3,
            whole("write transaction", each=("write topic",), name_in="v3_and_below_transactional_id"),
        ),
        Api(ApiKey.ADD_OFFSETS_TO_TXN, 0, 4, whole("write transaction", "read group")),
        Api(ApiKey.END_TXN, 0, 5, whole("write transaction")),
        Api(ApiKey.WRITE_TXN_MARKERS, 1, 2, whole("alter cluster")),
        Api(ApiKey.TXN_OFFSET_COMMIT, 0, 5, whole("write transaction", "read group", each=("read topic",))),
        Api(ApiKey.DESCRIBE_ACLS, 1, 3, whole("describe cluster")),
        Api(ApiKey.CREATE_ACLS, 1, 3, whole("alter cluster")),
        Api(ApiKey.DELETE_ACLS, 1, 3, whole("alter cluster")),
        Api(ApiKey.DESCRIBE_CONFIGS, 1, 4, each("describe_configs topic", "describe_configs cluster")),
        Api(ApiKey.ALTER_CONFIGS, 0, 2, each("alter_configs topic")),
        Api(ApiKey.DESCRIBE_LOG_DIRS, 1, 4, whole("describe cluster")),
        Api(ApiKey.SASL_AUTHENTICATE, 0, 2, None),
        Api(ApiKey.CREATE_PARTITIONS, 0, 3, each("alter topic")),
        Api(ApiKey.DELETE_GROUPS, 0, 2, each("delete group")),
        Api(ApiKey.ELECT_LEADERS, 0, 2, whole("alter cluster")),
        Api(
            ApiKey.INCREMENTAL_ALTER_CONFIGS,
            0,
            1,
            each("alter_configs topic", "alter cluster", note=_BROKERS),
        ),
        Api(ApiKey.ALTER_PARTITION_REASSIGNMENTS, 0, 1, whole("alter cluster")),
        Api(ApiKey.LIST_PARTITION_REASSIGNMENTS, 0, 0, whole("describe cluster")),
        Api(ApiKey.OFFSET_DELETE, 0, 0, whole("delete group", each=("read topic",))),
        Api(ApiKey.DESCRIBE_CLIENT_QUOTAS, 0, 1, whole("describe_configs cluster")),
        Api(ApiKey.ALTER_CLIENT_QUOTAS, 0, 1, whole("alter_configs cluster")),
        Api(ApiKey.DESCRIBE_USER_SCRAM_CREDENTIALS, 0, 0, whole("describe cluster")),
        Api(ApiKey.ALTER_USER_SCRAM_CREDENTIALS, 0, 0, whole("alter cluster")),
        Api(ApiKey.DESCRIBE_QUORUM, 0, 2, whole("describe cluster")),
        Api(ApiKey.UPDATE_FEATURES, 0, 2, whole("alter cluster")),
        Api(ApiKey.DESCRIBE_CLUSTER, 0, 2, Rule(note="the operations that are told take Describe Cluster")),
        Api(ApiKey.DESCRIBE_PRODUCERS, 0, 0, each("read topic")),
        Api(ApiKey.UNREGISTER_BROKER, 0, 0, whole("alter cluster")),
        Api(ApiKey.DESCRIBE_TRANSACTIONS, 0, 0, each("describe transaction")),
        Api(ApiKey.LIST_TRANSACTIONS, 0, 1, each("describe transaction", note=_LEFT_OUT)),
    )
}


def find_api(key: int) -> Api | None:
    return REGISTRY.get(key)


def served() -> Iterator[Api]:
    """What is served, by key."""
    yield from sorted(REGISTRY.values(), key=lambda api: api.key)


def spoken() -> list[tuple[int, int]]:
    """The (API, version) pairs that clients of this process use."""
    return [(api.key, version) for api in served() for version in sorted(api.used)]


def unsupported_version_answer(api: Api, header: RequestHeader) -> bytes:
    """The answer to a version that is not served. Only ApiVersions has one: version 0 of itself, with the
    range that would do (KIP-511). Raises InvalidInput for the others: nothing could be read."""
    if api.key is not ApiKey.API_VERSIONS:
        raise InvalidInput(
            f"{api.key.name} v{header.version} is not served, only v{api.first} to v{api.last}"
        )
    fields: Fields = {
        "error_code": ErrorCode.UNSUPPORTED_VERSION,
        "api_keys": [{"api_key": api.key, "min_version": api.first, "max_version": api.last}],
    }
    return b"".join(encode_response(api.key, 0, header.correlation_id, fields))
