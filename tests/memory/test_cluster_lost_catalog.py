"""A lease is on a catalog; it ends when the catalog is lost, and is filled again by entries of long ago."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import trio
from trio.testing import MockClock

from raftlog.cluster.authorizer import Authorizer
from raftlog.cluster.changes import Changes
from raftlog.cluster.enforcement import Enforcement
from raftlog.config import BrokerConfig
from raftlog.config.table import STANDARD_AUTHORIZER
from raftlog.metadata.acl_table import AclBinding
from raftlog.metadata.acls import AclsCreated, CreateAcls
from raftlog.rights import Operation, Pattern, Permission, ResourceKind
from raftlog.types import BrokerId, RaftIndex
from tests.unit.test_cluster_metadata_damage import metadata_group

DENIED = AclBinding(
    ResourceKind.TOPIC, Pattern.LITERAL, "t", "User:eve", "*", Operation.READ, Permission.DENY
)


async def test_who_loses_its_catalog_decides_nothing_by_what_is_left(autojump_clock: MockClock) -> None:
    metadata = metadata_group()
    created = metadata.state.apply(CreateAcls(bindings=(DENIED,)), RaftIndex(7))
    metadata._applied = RaftIndex(7)
    assert created == AclsCreated(1)
    settings = {"authorizer.class.name": STANDARD_AUTHORIZER, "allow.everyone.if.no.acl.found": "true"}
    config = BrokerConfig.of({"node.id": "1", "raftlog.peers": "1@h:1,2@h:2", **settings})

    async def catch_up() -> bool:
        return True

    parts: list[Any] = [
        SimpleNamespace(id=BrokerId(1), config=config),
        metadata,
        SimpleNamespace(calls=None),
        SimpleNamespace(catch_up=catch_up),
        Changes(),
    ]
    enforcement = Enforcement(*parts, clock=trio.current_time)
    authorizer = Authorizer(metadata.catalog, config)

    def may_read() -> bool:
        return enforcement.is_current and authorizer.allows(
            "User:eve", "h", Operation.READ, ResourceKind.TOPIC, "t"
        )

    assert await enforcement._renew()
    assert enforcement.is_current and not may_read()
    await trio.sleep(0.1)
    metadata.restore(b"", RaftIndex(0))  # found damaged, and to be filled by a peer
    assert not may_read(), "eve reads what was denied to her"
    cast(Any, metadata)._applied = RaftIndex(7)
    metadata.state.apply(CreateAcls(bindings=(DENIED,)), RaftIndex(7))
    assert enforcement.is_current and not may_read()
