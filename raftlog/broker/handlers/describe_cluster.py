"""DescribeCluster (60), v0 to v2: the brokers, one of which takes what the controller is asked.

Missing on purpose: the controllers' endpoints (v1), there being no separate ones.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from raftlog.broker import authorized
from raftlog.broker.call import Call
from raftlog.broker.handlers.metadata import cluster_operations
from raftlog.broker.registry import Answer
from raftlog.broker.routing import known_brokers, named_brokers
from raftlog.protocol.errors import ErrorCode

if TYPE_CHECKING:
    from raftlog.protocol.requests import DescribeClusterRequest

BROKERS: Final = 1
NOBODY: Final = -1
"""The controller while nobody leads the metadata; administrative requests wait for one."""


def handle(call: Call, request: DescribeClusterRequest) -> Answer:
    backend = call.backend
    endpoint_type = request.endpoint_type
    code, message = ErrorCode.NONE, None
    if endpoint_type != BROKERS:
        code, message = ErrorCode.UNSUPPORTED_ENDPOINT_TYPE, "every broker is its own controller"
    brokers = known_brokers(backend) if request.include_fenced_brokers else named_brokers(call)
    return {
        "error_code": code,
        "error_message": message,
        "endpoint_type": endpoint_type,
        "cluster_id": backend.cluster_id,
        "controller_id": backend.broker_id if backend.presence.has_metadata_leader else NOBODY,
        "brokers": [
            {
                "broker_id": broker.id,
                "host": call.address_of(broker)[0],
                "port": call.address_of(broker)[1],
                "rack": broker.rack,
                "is_fenced": not backend.presence.is_alive(broker),
            }
            for broker in brokers
        ],
        "cluster_authorized_operations": (
            cluster_operations(call)
            if request.include_cluster_authorized_operations
            else authorized.NOT_ASKED
        ),
    }
