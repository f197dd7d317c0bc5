"""Requests as handlers see them: whatever version was sent, with the fields of the newest that is served.

The names below are for type checkers; importing them would load every schema. What a version says in another
shape than the newest is rebuilt (`_REBUILT`); a field that it lacks has its default, as an attribute of the
version's class: reading it costs what reading any other does.
"""

from __future__ import annotations

import dataclasses
import datetime
from collections.abc import Callable
from functools import cache
from typing import TYPE_CHECKING, Any, Final, cast

from raftlog.protocol.api import VERSIONS, ApiKey
from raftlog.protocol.schema import Field, Reader, Struct, message_class, message_struct, reader, struct_class

if TYPE_CHECKING:
    from kio.schema.add_offsets_to_txn.v4.request import AddOffsetsToTxnRequest as AddOffsetsToTxnRequest
    from kio.schema.add_partitions_to_txn.v3.request import (
        AddPartitionsToTxnRequest as AddPartitionsToTxnRequest,
    )
    from kio.schema.alter_client_quotas.v1.request import AlterClientQuotasRequest as AlterClientQuotasRequest
    from kio.schema.alter_client_quotas.v1.request import EntityData as EntityData
    from kio.schema.alter_client_quotas.v1.request import EntryData as EntryData
    from kio.schema.alter_configs.v2.request import AlterConfigsRequest as AlterConfigsRequest
    from kio.schema.alter_configs.v2.request import AlterConfigsResource as AlterConfigsResource
    from kio.schema.alter_partition_reassignments.v1.request import (
        AlterPartitionReassignmentsRequest as AlterPartitionReassignmentsRequest,
    )
    from kio.schema.alter_partition_reassignments.v1.request import (
        ReassignablePartition as ReassignablePartition,
    )
    from kio.schema.alter_user_scram_credentials.v0.request import (
        AlterUserScramCredentialsRequest as AlterUserScramCredentialsRequest,
    )
    from kio.schema.alter_user_scram_credentials.v0.request import (
        ScramCredentialUpsertion as ScramCredentialUpsertion,
    )
    from kio.schema.api_versions.v4.request import ApiVersionsRequest as ApiVersionsRequest
    from kio.schema.create_acls.v3.request import AclCreation as AclCreation
    from kio.schema.create_acls.v3.request import CreateAclsRequest as CreateAclsRequest
    from kio.schema.create_partitions.v3.request import CreatePartitionsRequest as CreatePartitionsRequest
    from kio.schema.create_partitions.v3.request import CreatePartitionsTopic as CreatePartitionsTopic
    from kio.schema.create_topics.v7.request import CreatableTopic as CreatableTopic
    from kio.schema.create_topics.v7.request import CreateTopicsRequest as CreateTopicsRequest
    from kio.schema.delete_acls.v3.request import DeleteAclsFilter as DeleteAclsFilter
    from kio.schema.delete_acls.v3.request import DeleteAclsRequest as DeleteAclsRequest
    from kio.schema.delete_groups.v2.request import DeleteGroupsRequest as DeleteGroupsRequest
    from kio.schema.delete_records.v2.request import DeleteRecordsPartition as DeleteRecordsPartition
    from kio.schema.delete_records.v2.request import DeleteRecordsRequest as DeleteRecordsRequest
    from kio.schema.delete_records.v2.request import DeleteRecordsTopic as DeleteRecordsTopic
    from kio.schema.delete_topics.v6.request import DeleteTopicsRequest as DeleteTopicsRequest
    from kio.schema.describe_acls.v3.request import DescribeAclsRequest as DescribeAclsRequest
    from kio.schema.describe_client_quotas.v1.request import ComponentData as ComponentData
    from kio.schema.describe_client_quotas.v1.request import (
        DescribeClientQuotasRequest as DescribeClientQuotasRequest,
    )
    from kio.schema.describe_cluster.v2.request import DescribeClusterRequest as DescribeClusterRequest
    from kio.schema.describe_configs.v4.request import DescribeConfigsRequest as DescribeConfigsRequest
    from kio.schema.describe_configs.v4.request import DescribeConfigsResource as DescribeConfigsResource
    from kio.schema.describe_groups.v6.request import DescribeGroupsRequest as DescribeGroupsRequest
    from kio.schema.describe_log_dirs.v4.request import DescribeLogDirsRequest as DescribeLogDirsRequest
    from kio.schema.describe_producers.v0.request import DescribeProducersRequest as DescribeProducersRequest
    from kio.schema.describe_quorum.v2.request import DescribeQuorumRequest as DescribeQuorumRequest
    from kio.schema.describe_transactions.v0.request import (
        DescribeTransactionsRequest as DescribeTransactionsRequest,
    )
    from kio.schema.describe_user_scram_credentials.v0.request import (
        DescribeUserScramCredentialsRequest as DescribeUserScramCredentialsRequest,
    )
    from kio.schema.elect_leaders.v2.request import ElectLeadersRequest as ElectLeadersRequest
    from kio.schema.end_txn.v5.request import EndTxnRequest as EndTxnRequest
    from kio.schema.fetch.v17.request import FetchRequest as FetchRequest
    from kio.schema.fetch.v17.request import FetchTopic as FetchTopic
    from kio.schema.find_coordinator.v6.request import FindCoordinatorRequest as FindCoordinatorRequest
    from kio.schema.heartbeat.v4.request import HeartbeatRequest as HeartbeatRequest
    from kio.schema.incremental_alter_configs.v1.request import AlterableConfig as _IncrementalConfig
    from kio.schema.incremental_alter_configs.v1.request import (
        AlterConfigsResource as _IncrementalConfigsResource,
    )
    from kio.schema.incremental_alter_configs.v1.request import (
        IncrementalAlterConfigsRequest as IncrementalAlterConfigsRequest,
    )
    from kio.schema.init_producer_id.v5.request import InitProducerIdRequest as InitProducerIdRequest
    from kio.schema.join_group.v9.request import JoinGroupRequest as JoinGroupRequest
    from kio.schema.leave_group.v5.request import LeaveGroupRequest as LeaveGroupRequest
    from kio.schema.list_groups.v5.request import ListGroupsRequest as ListGroupsRequest
    from kio.schema.list_offsets.v11.request import ListOffsetsPartition as ListOffsetsPartition
    from kio.schema.list_offsets.v11.request import ListOffsetsRequest as ListOffsetsRequest
    from kio.schema.list_partition_reassignments.v0.request import (
        ListPartitionReassignmentsRequest as ListPartitionReassignmentsRequest,
    )
    from kio.schema.list_transactions.v1.request import ListTransactionsRequest as ListTransactionsRequest
    from kio.schema.metadata.v13.request import MetadataRequest as MetadataRequest
    from kio.schema.offset_commit.v9.request import OffsetCommitRequest as OffsetCommitRequest
    from kio.schema.offset_delete.v0.request import OffsetDeleteRequest as OffsetDeleteRequest
    from kio.schema.offset_delete.v0.request import OffsetDeleteRequestTopic as OffsetDeleteRequestTopic
    from kio.schema.offset_fetch.v9.request import OffsetFetchRequest as OffsetFetchRequest
    from kio.schema.offset_fetch.v9.request import OffsetFetchRequestTopics as OffsetFetchRequestTopics
    from kio.schema.offset_for_leader_epoch.v4.request import (
        OffsetForLeaderEpochRequest as OffsetForLeaderEpochRequest,
    )
    from kio.schema.offset_for_leader_epoch.v4.request import (
        OffsetForLeaderPartition as OffsetForLeaderPartition,
    )
    from kio.schema.sasl_authenticate.v2.request import SaslAuthenticateRequest as SaslAuthenticateRequest
    from kio.schema.sasl_handshake.v1.request import SaslHandshakeRequest as SaslHandshakeRequest
    from kio.schema.sync_group.v5.request import SyncGroupRequest as SyncGroupRequest
    from kio.schema.txn_offset_commit.v5.request import TxnOffsetCommitRequest as TxnOffsetCommitRequest
    from kio.schema.unregister_broker.v0.request import UnregisterBrokerRequest as UnregisterBrokerRequest
    from kio.schema.update_features.v2.request import FeatureUpdateKey as FeatureUpdateKey
    from kio.schema.update_features.v2.request import UpdateFeaturesRequest as UpdateFeaturesRequest
    from kio.schema.write_txn_markers.v2.request import WritableTxnMarker as WritableTxnMarker
    from kio.schema.write_txn_markers.v2.request import WriteTxnMarkersRequest as WriteTxnMarkersRequest

    IncrementalConfig = _IncrementalConfig
    IncrementalConfigsResource = _IncrementalConfigsResource

IMPLICIT: Final[dict[str, object]] = {
    "string": "",
    "bool": False,
    "timedelta_i32": datetime.timedelta(0),
    "uuid": None,
}
"""What Kafka's schemas mean by no default, where that is not 0 and not an empty array."""


def fetch_topic_name(topic: FetchTopic) -> str:
    """What a Fetch before v13 calls a topic; later ones have its id in place of the name."""
    return cast(str, cast(Any, topic).topic)


def asks_for_cluster_operations(request: MetadataRequest) -> bool:
    """What Metadata v8 to v10 may ask beside the newest one, which leaves it to DescribeCluster."""
    return bool(getattr(request, "include_cluster_authorized_operations", False))


def allows_downgrade(update: FeatureUpdateKey) -> bool:
    """What UpdateFeatures v0 says in place of a type of upgrade."""
    return bool(getattr(update, "allow_downgrade", False))


@cache
def request_reader(api: int, version: int) -> Reader:
    """The reader of a request that gives what handlers expect; of what `guard` has passed."""
    read = reader(api, version, "request")
    newest = VERSIONS[ApiKey(api)].last
    cls = message_class(api, version, "request")
    _complete(cls, message_class(api, newest, "request"), message_struct(api, newest, "request"))
    until, rebuild = _REBUILT.get(ApiKey(api), (0, None))
    if rebuild is None or version >= until:
        return read
    shape = message_class(api, until, "request")
    request_reader(api, until)  # its class lacks something, too

    def read_and_rebuild(data: memoryview, position: int) -> tuple[Any, int]:
        message, size = read(data, position)
        return rebuild(shape, message), size

    return read_and_rebuild


def _complete(cls: type[Any], newest: type[Any], layout: Struct) -> None:
    """Give a version's class, and those of its structs, what the newest ones have beyond them."""
    if cls is newest:
        return
    has = {field.name: field for field in dataclasses.fields(cls)}
    wanted = {field.name: field for field in dataclasses.fields(newest)}
    for field in (*layout.fields, *layout.tagged.values()):
        if field.name not in has:
            setattr(cls, field.name, _default(wanted[field.name], field))
        elif field.struct is not None:
            _complete(struct_class(has[field.name]), struct_class(wanted[field.name]), field.struct)


def _default(field: dataclasses.Field[Any], described: Field) -> object:
    if field.default is not dataclasses.MISSING:
        return field.default
    return () if described.array else IMPLICIT.get(described.kind, 0)


Rebuild = Callable[[type[Any], Any], Any]


def _find_coordinator(shape: type[Any], old: Any) -> Any:
    return shape(key_type=old.key_type, coordinator_keys=(old.key,))


def _leave_group(shape: type[Any], old: Any) -> Any:
    member = _struct(shape, "members")
    return shape(group_id=old.group_id, members=(member(member_id=old.member_id, group_instance_id=None),))


def _delete_topics(shape: type[Any], old: Any) -> Any:
    topic = _struct(shape, "topics")
    named = tuple(topic(name=name, topic_id=None) for name in old.topic_names)
    return shape(topics=named, timeout=old.timeout)


def _offset_fetch(shape: type[Any], old: Any) -> Any:
    group = _struct(shape, "groups")
    return shape(groups=(group(group_id=old.group_id, topics=old.topics),), require_stable=old.require_stable)


_REBUILT: Final[dict[ApiKey, tuple[int, Rebuild]]] = {
    ApiKey.FIND_COORDINATOR: (4, _find_coordinator),
    ApiKey.LEAVE_GROUP: (3, _leave_group),
    ApiKey.DELETE_TOPICS: (6, _delete_topics),
    ApiKey.OFFSET_FETCH: (8, _offset_fetch),
}
"""From which version on a request has the newest shape, and how an older one is brought into it."""


def _struct(cls: type[Any], name: str) -> type[Any]:
    return struct_class(next(field for field in dataclasses.fields(cls) if field.name == name))
