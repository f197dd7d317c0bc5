"""What is seen of a cluster of which a part does not answer."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from types import SimpleNamespace
from typing import Any, cast

import pytest
import trio

from raftlog.client.admin_values import GroupListing
from raftlog.client.metadata import TopicPartition
from raftlog.client.offsets import CommittedOffset
from raftlog.client.operations import BrokerState
from raftlog.http.access import Access
from raftlog.http.messages import Refusal, Request
from raftlog.http.own_client import OwnClient
from raftlog.outside.api import Outside
from raftlog.outside.look import Look

KEY = TopicPartition("orders", 0)


class Admin:
    """Of a cluster with groups, some of which it does not tell of: `silent` never answers, `refused` does."""

    def __init__(self, *groups: str) -> None:
        self.names = groups
        self.operations = self
        self.brokers_known: list[BrokerState] = []
        self.may_read_settings = True

    async def list_groups(self) -> list[GroupListing]:
        return [GroupListing(group=name, protocol_type="consumer", state="Stable") for name in self.names]

    async def _answer(self, name: str) -> None:
        await trio.lowlevel.checkpoint()
        if name.startswith("silent"):
            await trio.sleep_forever()
        if name.startswith("refused"):
            raise Refusal(403, "GROUP_AUTHORIZATION_FAILED", "no")

    async def group_offsets(self, name: str) -> dict[TopicPartition, CommittedOffset]:
        await self._answer(name)
        return {KEY: CommittedOffset(3)}

    async def describe_group(self, name: str) -> Any:
        await self._answer(name)
        return SimpleNamespace(members=(1, 2), coordinator=7)

    async def describe_topics(self) -> dict[str, Any]:
        return {}

    async def brokers(self) -> list[BrokerState]:
        return self.brokers_known

    async def has_controller(self) -> bool:
        return True

    async def describe_cluster(self) -> Any:
        return SimpleNamespace(cluster_id="c", brokers=self.brokers_known)

    async def describe_configs(self, *, broker: int) -> dict[str, Any]:
        if not self.may_read_settings:
            raise Refusal(403, "CLUSTER_AUTHORIZATION_FAILED", "no")
        return {"raftlog.durability": SimpleNamespace(value="fsync")}

    async def disk(self, broker: int) -> Any:
        return SimpleNamespace(broker=broker)

    async def sizes(self, keys: object, broker: int) -> dict[TopicPartition, int]:
        return {}


class Client:
    """`OwnClient`, without a network."""

    def __init__(self, admin: Admin) -> None:
        self._given = SimpleNamespace(admin=admin)

    async def ask(self, call: Callable[[Any], Awaitable[Any]]) -> Any:
        return await call(self._given)


def client_of(admin: Admin) -> OwnClient:
    return cast(OwnClient, Client(admin))


def broker(id: int) -> BrokerState:
    return BrokerState(id=id, host="h", port=1, rack=None, is_alive=True, is_draining=False)


async def test_a_group_that_is_not_told_of_does_not_hide_the_others(autojump_clock: object) -> None:
    admin = Admin("a", "refused", *(f"silent-{number}" for number in range(9)), "b")
    outside = Outside(client_of(admin), cast(Access, None))
    await outside.look._see_groups()
    assert sorted(outside.look.committed) == ["a", "b"]
    request = Request(method="GET", path=(), query={}, headers={}, peer="", body=b"")
    rows = {row["id"]: row for row in json.loads((await outside.groups(request)).body)["items"]}
    assert len(rows) == 12
    assert {name: (rows[name]["members"], rows[name]["topics"]) for name in ("a", "refused", "silent-1")} == {
        "a": (2, ["orders"]),
        "refused": (None, []),
        "silent-1": (None, []),
    }


async def test_whoever_was_not_asked_in_a_round_is_the_first_of_the_next(autojump_clock: object) -> None:
    silent = [f"silent-{number}" for number in range(100)]
    look = Look(client_of(Admin(*silent, "last")))
    for _ in range(4):
        with trio.move_on_after(10):
            await look._see_groups()
    assert list(look.committed) == ["last"]


@pytest.mark.parametrize("may_read_settings", [True, False])
async def test_a_cluster_is_seen_from_its_first_moment_and_by_anybody(may_read_settings: bool) -> None:
    admin = Admin()
    admin.may_read_settings = may_read_settings
    look = Look(client_of(admin))
    await look._see_cluster()
    assert look.problem is None and look.cluster_id is None
    admin.brokers_known = [broker(1)]
    await look._see_cluster()
    assert look.problem is None and look.cluster_id == "c"
    assert look.durability == ("fsync" if may_read_settings else None)


async def test_the_disk_of_a_broker_that_is_gone_is_no_problem_any_more() -> None:
    admin = Admin()
    look = Look(client_of(admin))
    for ids in ([1, 2], [2]):
        admin.brokers_known = [broker(id) for id in ids]
        await look._see_cluster()
        await look._see_disks()
        assert sorted(look.disks) == sorted(look.sizes) == ids
