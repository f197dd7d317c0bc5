"""What a client may do with a resource, as answers tell it: a bit an operation, by its number in ACLs.

Without an authorizer a client that asks is told every operation that the kind of resource has. Kafka does the
same (KIP-430), and kafka-python 2's admin client fails on an answer that leaves it open.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from raftlog.broker.call import Call
from raftlog.rights import CLUSTER_NAME, OPERATIONS_OF, Operation, ResourceKind


def bits(operations: Iterable[Operation]) -> int:
    return sum(1 << operation for operation in operations)


NOT_ASKED: Final = -(1 << 31)
"""To a client that did not ask."""
ALL_OF: Final = {kind: bits(operations) for kind, operations in OPERATIONS_OF.items()}
"""Every operation that a kind of resource has."""


def operations_on(call: Call, kind: ResourceKind, name: str = CLUSTER_NAME) -> int:
    """What may be done with a resource by who asks (KIP-430)."""
    authorizer, origin = call.backend.authorizer, call.origin
    if authorizer is None:
        return ALL_OF[kind]
    return bits(authorizer.operations(origin.principal, origin.host, kind, name))
