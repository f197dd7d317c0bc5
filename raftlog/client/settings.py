"""Every setting of the client: name, type, default, range and what it means, in one place. The meanings are
in the classes' docstrings, where `help` and docs/reference/client.md find them.

A setting's keyword is the snake_case twin of Kafka's dotted key: `linger_ms` is `linger.ms`. What is not
set has the default of Kafka's Java client, except where the text says otherwise. A bad value is refused
with the key, the value and the reason; an unknown key with the nearest good one.
"""

from __future__ import annotations

import dataclasses
import difflib
import re
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Annotated, Any, Final, Literal, TypeVar, get_args, get_origin, get_type_hints

from raftlog.client.arguments import objection
from raftlog.client.isolation import READ_COMMITTED, READ_UNCOMMITTED
from raftlog.client.partitioner import Partitioner
from raftlog.errors import ConfigError
from raftlog.records.batch import Codec

Serializer = Callable[[Any], bytes | None]
Deserializer = Callable[[bytes], Any]
Acks = Literal["all", 0, 1, -1]
Compression = Literal["none", "gzip", "snappy", "lz4", "zstd"]
OffsetReset = Literal["earliest", "latest", "none"]
IsolationLevel = Literal["read_uncommitted", "read_committed"]
SecurityProtocol = Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"]
SaslMechanism = Literal["SCRAM-SHA-512", "SCRAM-SHA-256", "PLAIN", "OAUTHBEARER"]
TokenProvider = Callable[[], Awaitable[str]]
AssignorName = Literal["range", "roundrobin", "cooperative-sticky"]

INT32_MAX: Final = 2**31 - 1
IN_FLIGHT_IDEMPOTENT_MAX: Final = 5
"""A broker remembers the last five batches of a producer, so of more in flight it misses repeats (KIP-98)."""


@dataclass(frozen=True, slots=True)
class Range:
    """The bounds of a number."""

    least: float
    most: float = float("inf")


Milliseconds = Annotated[float, Range(0)]
MillisecondsPositive = Annotated[float, Range(1)]
MillisecondsOnWire = Annotated[float, Range(0, INT32_MAX)]
MillisecondsPositiveOnWire = Annotated[float, Range(1, INT32_MAX)]
Positive = Annotated[int, Range(1)]
NotNegative = Annotated[int, Range(0)]
BatchBytes = Annotated[int, Range(1, 64 << 20)]
Int32From0 = Annotated[int, Range(0, INT32_MAX)]
Int32From1 = Annotated[int, Range(1, INT32_MAX)]


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientSettings:
    """What producer, consumer and admin of one client share: the keywords of `open_client`.

    bootstrap_servers:
        Host:port of some brokers, separated by commas.
    client_id:
        The name by which brokers know this client.
    request_timeout_ms:
        How long one request waits for its answer.
    default_api_timeout_ms:
        How long a call retries in all.
    retry_backoff_ms:
        The pause before the first retry; it doubles.
    retry_backoff_max_ms:
        The longest pause between retries.
    reconnect_backoff_ms:
        The pause before connecting again; it doubles.
    reconnect_backoff_max_ms:
        The longest pause between connects.
    socket_connection_setup_timeout_ms:
        How long connecting may take.
    metadata_max_age_ms:
        How old the picture of the cluster may get.
    connect_timeout_ms:
        How long opening the client waits for a broker, and fails then. 0: opening does not wait, and each
        call does (raftlog's own key).
    allow_auto_create_topics:
        Ask the broker to create a topic that does not exist when a producer writes to it. A consumer never
        creates one (Java's does), since a name that is misspelt would be a topic.
    security_protocol:
        How brokers are spoken to: in plain text or in TLS ("SSL"), with a login ("SASL_PLAINTEXT",
        "SASL_SSL") or without.
    sasl_mechanism:
        How to log in. With SCRAM the password stays here; PLAIN sends it, so it is used in TLS only.
    sasl_username:
        Who logs in.
    sasl_password:
        The user's password. No text shows it.
    sasl_token_provider:
        For OAUTHBEARER: an async function that gives a token, for each login anew. It takes a few seconds at
        most.
    ssl_truststore_location:
        A PEM file with the certificates of those who issue brokers' certificates; empty for those that this
        machine trusts.
    ssl_keystore_location:
        A PEM file with a key and its certificates, for brokers that ask clients for one.
    ssl_endpoint_identification_algorithm:
        Whether a broker's certificate must be for the host that is connected to ("https"). Empty: any host's
        will do, so that whoever has a certificate of the same authority can stand between.
    """

    bootstrap_servers: str = "localhost:9092"
    client_id: str = "raftlog"
    request_timeout_ms: MillisecondsPositiveOnWire = 30_000
    default_api_timeout_ms: MillisecondsPositive = 60_000
    retry_backoff_ms: Milliseconds = 100
    retry_backoff_max_ms: Milliseconds = 1_000
    reconnect_backoff_ms: Milliseconds = 50
    reconnect_backoff_max_ms: Milliseconds = 1_000
    socket_connection_setup_timeout_ms: MillisecondsPositive = 10_000
    metadata_max_age_ms: MillisecondsPositive = 300_000
    connect_timeout_ms: Milliseconds = 0
    allow_auto_create_topics: bool = True
    security_protocol: SecurityProtocol = "PLAINTEXT"
    sasl_mechanism: SaslMechanism = "SCRAM-SHA-512"
    sasl_username: str = ""
    sasl_password: str = field(default="", repr=False)
    sasl_token_provider: TokenProvider | None = field(default=None, repr=False)
    ssl_truststore_location: str = ""
    ssl_keystore_location: str = ""
    ssl_endpoint_identification_algorithm: Literal["https", ""] = "https"

    def __post_init__(self) -> None:
        _check(self)
        _servers(self.bootstrap_servers)
        if not self.security_protocol.startswith("SASL_"):
            return
        if self.sasl_mechanism == "OAUTHBEARER":
            if self.sasl_token_provider is None:
                raise ConfigError(
                    "sasl.mechanism = 'OAUTHBEARER' needs sasl_token_provider, an async function"
                )
        elif not (self.sasl_username and self.sasl_password):
            raise ConfigError(
                f"security.protocol = {self.security_protocol!r} needs sasl.username and sasl.password"
            )

    @property
    def servers(self) -> list[tuple[str, int]]:
        """The bootstrap addresses."""
        return _servers(self.bootstrap_servers)


@dataclass(frozen=True, slots=True, kw_only=True)
class ProducerSettings:
    """What a producer does with its records: the keywords of `client.producer`.

    acks:
        Who must have a record before it counts as written.
    enable_idempotence:
        Number the batches so that a retry never writes twice.
    linger_ms:
        How long a batch that is not full waits for company. At 0 it goes out at once unless a batch of
        its partition is under way; then it collects until that is answered or it is full.
    batch_size:
        Bytes of records in a batch at most (Java: 16384); a larger record is a batch of its own.
    buffer_memory:
        Bytes that may wait for delivery; send waits beyond.
    max_request_size:
        Bytes of a request, and of a record, at most.
    max_block_ms:
        How long send waits for buffer or metadata.
    delivery_timeout_ms:
        How long after send a record counts as failed.
    max_in_flight_requests_per_connection:
        Requests under way to a broker.
    retries:
        Attempts after the first; time bounds them as well.
    compression_type:
        The codec of the batches.
    partitioner:
        A function of (topic, key, value, number of partitions) that gives a partition, in place of the rule
        that a key decides. Key and value are bytes.
    key_serializer:
        A function that makes bytes of a key; None, no key, stays None.
    value_serializer:
        A function that makes bytes, or None, of a value; None, a tombstone, stays None.
    transactional_id:
        A name that outlives restarts, and makes the producer transactional: it writes inside of
        `producer.transaction()` alone. Of two producers with one name the newer fences the older.
    transaction_timeout_ms:
        How long a transaction may be open; then the coordinator aborts it and fences the producer. The
        broker's transaction.max.timeout.ms bounds it.
    """

    acks: Acks = "all"
    enable_idempotence: bool = True
    linger_ms: Milliseconds = 0
    batch_size: BatchBytes = 128 * 1024
    buffer_memory: Positive = 32 << 20
    max_request_size: Positive = 1 << 20
    max_block_ms: Milliseconds = 60_000
    delivery_timeout_ms: MillisecondsPositive = 120_000
    max_in_flight_requests_per_connection: Positive = 5
    retries: NotNegative = INT32_MAX
    compression_type: Compression = "none"
    partitioner: Partitioner | None = None
    key_serializer: Serializer | None = None
    value_serializer: Serializer | None = None
    transactional_id: str | None = None
    transaction_timeout_ms: MillisecondsPositiveOnWire = 60_000

    def __post_init__(self) -> None:
        _check(self)
        if self.transactional_id == "":
            raise ConfigError("transactional.id is empty: leave it out to write without transactions")
        if self.transactional_id is not None and not self.enable_idempotence:
            raise ConfigError("transactional.id needs enable.idempotence = true")
        if not self.enable_idempotence:
            return
        if self.acks not in ("all", -1):
            raise ConfigError(
                f"acks = {self.acks!r} needs enable.idempotence = false: dedupe rests on acks=all"
            )
        if self.max_in_flight_requests_per_connection > IN_FLIGHT_IDEMPOTENT_MAX:
            raise ConfigError(
                "max.in.flight.requests.per.connection ="
                f" {self.max_in_flight_requests_per_connection}: at most 5 with enable.idempotence"
            )

    @property
    def codec(self) -> Codec:
        """`compression_type` as batches write it."""
        return Codec[self.compression_type.upper()]

    @property
    def acks_number(self) -> int:
        """As the protocol writes it: -1 is all."""
        return -1 if self.acks == "all" else self.acks


@dataclass(frozen=True, slots=True, kw_only=True)
class ConsumerSettings:
    """What a consumer reads, and how it shares the work with its group: the keywords of `client.consumer`.

    group_id:
        The consumer group; without one there are no commits.
    group_instance_id:
        A name that outlives restarts: a static member (KIP-345).
    auto_offset_reset:
        Where to start without a committed offset.
    enable_auto_commit:
        Commit what was handed out, from time to time and at the end.
    auto_commit_interval_ms:
        The time between two such commits.
    session_timeout_ms:
        Without a heartbeat the group gives a member up.
    heartbeat_interval_ms:
        The time between heartbeats.
    max_poll_interval_ms:
        How long handling a record or batch may take.
    group_protocol:
        How a group is run: by its members, until the new protocol (KIP-848) is built.
    partition_assignment_strategy:
        How the group spreads partitions, best first.
    fetch_min_bytes:
        The broker waits until it has so many bytes.
    fetch_max_wait_ms:
        But no longer than this.
    fetch_max_bytes:
        Bytes of an answer at most.
    max_partition_fetch_bytes:
        Bytes of a partition in an answer at most.
    prefetch_max_bytes:
        Bytes fetched ahead at most, give or take one answer (raftlog's own key).
    max_poll_records:
        Records in a batch of `batches()` unless it says.
    isolation_level:
        Which records are read: all, or with read_committed those outside of transactions and of transactions
        that were committed. Reading then ends where the first transaction begins that is still open.
    client_rack:
        Where this client is, for the group's leader.
    exclude_internal_topics:
        A pattern does not match the brokers' own topics.
    key_deserializer:
        A function that makes what the user sees of a key's bytes; no key stays None.
    value_deserializer:
        The same for the value; a tombstone stays None.
    """

    group_id: str | None = None
    group_instance_id: str | None = None
    auto_offset_reset: OffsetReset = "latest"
    enable_auto_commit: bool = True
    auto_commit_interval_ms: MillisecondsPositive = 5_000
    session_timeout_ms: MillisecondsPositiveOnWire = 45_000
    heartbeat_interval_ms: MillisecondsPositive = 3_000
    max_poll_interval_ms: MillisecondsPositiveOnWire = 300_000
    group_protocol: Literal["classic"] = "classic"
    partition_assignment_strategy: tuple[AssignorName, ...] = ("range", "cooperative-sticky")
    fetch_min_bytes: Int32From0 = 1
    fetch_max_wait_ms: MillisecondsOnWire = 500
    fetch_max_bytes: Int32From1 = 50 << 20
    max_partition_fetch_bytes: Int32From1 = 1 << 20
    prefetch_max_bytes: Positive = 32 << 20
    max_poll_records: Positive = 500
    isolation_level: IsolationLevel = "read_uncommitted"
    client_rack: str = ""
    exclude_internal_topics: bool = True
    key_deserializer: Deserializer | None = None
    value_deserializer: Deserializer | None = None

    def __post_init__(self) -> None:
        _check(self)
        if self.group_id == "":
            raise ConfigError("group.id is empty: leave it out to read without a group")
        if not self.partition_assignment_strategy:
            raise ConfigError("partition.assignment.strategy names no assignor")
        if self.heartbeat_interval_ms >= self.session_timeout_ms:
            raise ConfigError(
                f"heartbeat.interval.ms = {self.heartbeat_interval_ms:g} must be below"
                f" session.timeout.ms = {self.session_timeout_ms:g}"
            )

    @property
    def isolation(self) -> int:
        """As the protocol writes it."""
        return READ_COMMITTED if self.isolation_level == "read_committed" else READ_UNCOMMITTED


Settings = TypeVar("Settings", ClientSettings, ProducerSettings, ConsumerSettings)

ALL: Final = (ClientSettings, ProducerSettings, ConsumerSettings)

_SECRETS: Final = frozenset({"sasl_password"})
_NOT_YET: Final = {
    re.compile(r"sasl[._]mechanism"): "GSSAPI is not built yet",
    re.compile(r"group[._]protocol"): "the new group protocol (KIP-848) is not built yet",
}


def dotted(name: str) -> str:
    """Kafka's key of a keyword."""
    return name.replace("_", ".")


def make_settings(cls: type[Settings], values: Mapping[str, Any]) -> Settings:
    """The settings of a class from keywords. Raises ConfigError, with the nearest name for an unknown one."""
    known = [field.name for field in dataclasses.fields(cls)]
    for name in values:
        if name not in known:
            raise ConfigError(f"unknown setting {name!r}{nearest(name, known)}")
    return cls(**values)


def nearest(name: str, known: Iterable[str]) -> str:
    """`; did you mean …?` when a known name is near."""
    found = difflib.get_close_matches(name, list(known), n=1, cutoff=0.6)
    return f"; did you mean {found[0]!r}?" if found else ""


def _servers(text: str) -> list[tuple[str, int]]:
    servers = []
    for part in text.split(","):
        host, separator, port = part.strip().rpartition(":")
        if not separator or not host or not port.isdigit() or not 0 < int(port) < 65536:
            raise ConfigError(f"bootstrap.servers = {text!r}: {part.strip()!r} is not host:port")
        if "/" in host:
            raise ConfigError(
                f"bootstrap.servers = {text!r}: {part.strip()!r} is not host:port; write it without"
                f" {host[: host.rindex('/') + 1]}"
            )
        servers.append((host.strip("[]"), int(port)))
    return servers


@cache
def _hints(cls: type[Any]) -> dict[str, Any]:
    """The annotations, bounds included. Working them out takes a millisecond: longer than all the rest of
    what opening a client does."""
    return get_type_hints(cls, include_extras=True)


def _check(settings: Any) -> None:
    cls: Any = type(settings)
    for name, hint in _hints(cls).items():
        value = getattr(settings, name)
        reason = _reason_against(value, hint)
        if reason:
            shown = "(hidden)" if name in _SECRETS else repr(value)
            raise ConfigError(f"{dotted(name)} = {shown}: {reason}{not_yet(name)}")


def not_yet(name: str) -> str:
    """What to say of a setting that will mean more one day."""
    return next((f"; {reason}" for pattern, reason in _NOT_YET.items() if pattern.fullmatch(name)), "")


def _reason_against(value: Any, kind: Any) -> str | None:
    bounds = Range(float("-inf"))
    if get_origin(kind) is Annotated:
        kind, bounds = get_args(kind)
    if get_origin(kind) is Literal:
        choices = get_args(kind)
        return None if value in choices and type(value) is not bool else f"must be one of {_spoken(choices)}"
    if get_origin(kind) is tuple:
        choices = get_args(get_args(kind)[0])
        if not isinstance(value, tuple):
            return f"must be a tuple of {_spoken(choices)}"
        return next(
            (f"{one!r} is not one of {_spoken(choices)}" for one in value if one not in choices), None
        )
    if kind is bool:
        return None if isinstance(value, bool) else "must be True or False"
    if kind is int or kind is float:
        if isinstance(value, bool) or not isinstance(value, (int, float) if kind is float else int):
            return "must be a number" if kind is float else "must be a whole number"
        if not value >= bounds.least:  # nan is not
            return f"must be at least {bounds.least:g}"
        if value > bounds.most:
            return f"must be at most {bounds.most:g}"
        return None
    found = objection(value, kind)
    return f"must be {found.wanted}" if found is not None else None


def _spoken(choices: tuple[Any, ...]) -> str:
    return ", ".join(repr(choice) for choice in choices)
