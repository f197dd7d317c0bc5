"""Whether a topic may be created, and whether it may be now."""

from __future__ import annotations

from typing import Final

from raftlog.broker.call import Call
from raftlog.rights import CLUSTER_NAME, Operation, ResourceKind

TOO_FAST: Final = "the quota of partitions created and deleted is used up (controller_mutation_rate)"
"""What is refused to who asks again soon (KIP-599)."""


def may_create(call: Call, topic: str) -> bool:
    return call.sees(Operation.CREATE, ResourceKind.CLUSTER, CLUSTER_NAME) or call.may(
        Operation.CREATE, ResourceKind.TOPIC, topic
    )


def may_mutate(call: Call, partitions: int, strict_from: int) -> bool:
    """Whether partitions may be created or deleted just now (KIP-599). Those who ask in versions below
    `strict_from` may always, and pause after it."""
    quotas, user = call.quotas, call.origin.user
    if quotas is None:
        return True
    wait_s = quotas.mutation_wait_s(user, call.client_id, call.now)
    if wait_s > 0 and call.version >= strict_from:
        call.pause(wait_s)
        return False
    call.pause(quotas.mutated(user, call.client_id, partitions, call.now))
    return True
