"""What a client may do with a resource, as answers tell it: a bit an operation, by its number in ACLs.

There is no authorizer: a client that asks is told every operation that the kind of resource has. Kafka does
the same without one (KIP-430), and kafka-python 2's admin client fails on an answer that leaves it open.
"""

from __future__ import annotations

from typing import Final

from raftlog.broker.rights import Operation


def _bits(*operations: Operation) -> int:
    return sum(1 << operation.value for operation in operations)


NOT_ASKED: Final = -(1 << 31)
"""To a client that did not ask."""
OF_A_TOPIC: Final = _bits(
    Operation.READ,
    Operation.WRITE,
    Operation.CREATE,
    Operation.DELETE,
    Operation.ALTER,
    Operation.DESCRIBE,
    Operation.DESCRIBE_CONFIGS,
    Operation.ALTER_CONFIGS,
)
OF_A_GROUP: Final = _bits(
    Operation.READ,
    Operation.DELETE,
    Operation.DESCRIBE,
    Operation.DESCRIBE_CONFIGS,
    Operation.ALTER_CONFIGS,
)
OF_THE_CLUSTER: Final = _bits(
    Operation.CREATE,
    Operation.ALTER,
    Operation.DESCRIBE,
    Operation.CLUSTER_ACTION,
    Operation.DESCRIBE_CONFIGS,
    Operation.ALTER_CONFIGS,
    Operation.IDEMPOTENT_WRITE,
)
