"""The keywords that a client takes, as types: editors complete them, type checkers refuse others.

`raftlog.client.settings` says what each means.
"""

from __future__ import annotations

from typing import Literal, TypedDict

from raftlog.client.partitioner import Partitioner
from raftlog.client.settings import (
    Acks,
    AssignorName,
    Compression,
    IsolationLevel,
    OffsetReset,
    SaslMechanism,
    SecurityProtocol,
    TokenProvider,
)


class ClientOptions(TypedDict, total=False):
    """The keywords of `open_client`; ClientSettings says what each means."""

    client_id: str
    request_timeout_ms: float
    default_api_timeout_ms: float
    retry_backoff_ms: float
    retry_backoff_max_ms: float
    reconnect_backoff_ms: float
    reconnect_backoff_max_ms: float
    socket_connection_setup_timeout_ms: float
    metadata_max_age_ms: float
    connect_timeout_ms: float
    allow_auto_create_topics: bool
    security_protocol: SecurityProtocol
    sasl_mechanism: SaslMechanism
    sasl_username: str
    sasl_password: str
    sasl_token_provider: TokenProvider | None
    ssl_truststore_location: str
    ssl_keystore_location: str
    ssl_endpoint_identification_algorithm: Literal["https", ""]


class ProducerOptions(TypedDict, total=False):
    """The keywords of `Client.producer`, but for the serializers; ProducerSettings says what each means."""

    acks: Acks
    enable_idempotence: bool
    linger_ms: float
    batch_size: int
    buffer_memory: int
    max_request_size: int
    max_block_ms: float
    delivery_timeout_ms: float
    max_in_flight_requests_per_connection: int
    retries: int
    compression_type: Compression
    partitioner: Partitioner | None
    transactional_id: str | None
    transaction_timeout_ms: float


class ConsumerOptions(TypedDict, total=False):
    """The keywords of `Client.consumer`, but for the deserializers; ConsumerSettings says what each means."""

    group_instance_id: str | None
    auto_offset_reset: OffsetReset
    enable_auto_commit: bool
    auto_commit_interval_ms: float
    session_timeout_ms: float
    heartbeat_interval_ms: float
    max_poll_interval_ms: float
    group_protocol: Literal["classic"]
    partition_assignment_strategy: tuple[AssignorName, ...]
    fetch_min_bytes: int
    fetch_max_wait_ms: float
    fetch_max_bytes: int
    max_partition_fetch_bytes: int
    prefetch_max_bytes: int
    max_poll_records: int
    isolation_level: IsolationLevel
    client_rack: str
    exclude_internal_topics: bool
