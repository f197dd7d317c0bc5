"""The right that a request takes: an operation on a kind of resource, in Kafka's words."""

from __future__ import annotations

from enum import Enum
from typing import NamedTuple


class Operation(Enum):
    """What is done; the values are DescribeAcls' numbers."""

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


class ResourceKind(Enum):
    """What it is done to; the values are DescribeAcls' numbers."""

    TOPIC = 2
    GROUP = 3
    CLUSTER = 4
    TRANSACTIONAL_ID = 5


class Right(NamedTuple):
    """What a principal must have been given. Where an API names many resources, on each of them."""

    operation: Operation
    resource: ResourceKind

    def __str__(self) -> str:
        return f"{_words(self.operation)} {_words(self.resource)}"


def _words(name: Enum) -> str:
    return "".join(word.capitalize() for word in name.name.split("_"))
