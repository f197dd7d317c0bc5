"""What may be done to what, in Kafka's words and numbers: operations, kinds of resources, patterns."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum, IntEnum
from typing import Final


class Operation(IntEnum):
    """What is done; the values are DescribeAcls' numbers."""

    ALL = 2
    READ = 3
    WRITE = 4
    CREATE = 5
    DELETE = 6
    ALTER = 7
    DESCRIBE = 8
    CLUSTER_ACTION = 9
    DESCRIBE_CONFIGS = 10
    ALTER_CONFIGS = 11
    IDEMPOTENT_WRITE = 12
    CREATE_TOKENS = 13
    DESCRIBE_TOKENS = 14


class ResourceKind(IntEnum):
    """What it is done to; the values are DescribeAcls' numbers."""

    TOPIC = 2
    GROUP = 3
    CLUSTER = 4
    TRANSACTIONAL_ID = 5
    DELEGATION_TOKEN = 6
    """Kept for Kafka's tools, without an effect: there are no tokens."""
    USER = 7
    """As DELEGATION_TOKEN."""


class Pattern(IntEnum):
    """Which names are meant (KIP-290)."""

    LITERAL = 3
    PREFIXED = 4


class Permission(IntEnum):
    DENY = 2
    ALLOW = 3


ANY: Final = 1
"""In filters: whatever the operation, kind, pattern or permission."""
MATCH: Final = 2
"""In filters: every pattern that includes the name."""
CLUSTER_NAME: Final = "kafka-cluster"
"""The one resource of the kind CLUSTER."""
EVERY_NAME: Final = "*"
"""A literal pattern that means every name; the same for hosts."""
EVERYONE: Final = "User:*"

_OF_A_TOPIC: Final = (
    Operation.READ,
    Operation.WRITE,
    Operation.CREATE,
    Operation.DELETE,
    Operation.ALTER,
    Operation.DESCRIBE,
    Operation.DESCRIBE_CONFIGS,
    Operation.ALTER_CONFIGS,
)
OPERATIONS_OF: Final[Mapping[ResourceKind, tuple[Operation, ...]]] = {
    ResourceKind.TOPIC: _OF_A_TOPIC,
    ResourceKind.GROUP: (
        Operation.READ,
        Operation.DELETE,
        Operation.DESCRIBE,
        Operation.DESCRIBE_CONFIGS,
        Operation.ALTER_CONFIGS,
    ),
    ResourceKind.CLUSTER: (
        Operation.CREATE,
        Operation.ALTER,
        Operation.DESCRIBE,
        Operation.CLUSTER_ACTION,
        Operation.DESCRIBE_CONFIGS,
        Operation.ALTER_CONFIGS,
        Operation.IDEMPOTENT_WRITE,
    ),
    ResourceKind.TRANSACTIONAL_ID: (Operation.WRITE, Operation.DESCRIBE),
    ResourceKind.DELEGATION_TOKEN: (Operation.DESCRIBE,),
    ResourceKind.USER: (Operation.CREATE_TOKENS, Operation.DESCRIBE_TOKENS),
}
"""What may be done to a resource of each kind, as Kafka has it; ALL besides."""

_IMPLYING: Final = {
    Operation.DESCRIBE: (Operation.READ, Operation.WRITE, Operation.DELETE, Operation.ALTER),
    Operation.DESCRIBE_CONFIGS: (Operation.ALTER_CONFIGS,),
}
ALLOWED_BY: Final[Mapping[int, frozenset[int]]] = {
    operation: frozenset((operation, Operation.ALL, *_IMPLYING.get(operation, ()))) for operation in Operation
}
"""Which operations, allowed, allow another. A denied one denies itself alone."""


def words(name: Enum) -> str:
    """As Kafka's tools write it: `DescribeConfigs`, `TransactionalId`."""
    return "".join(word.capitalize() for word in name.name.split("_"))
