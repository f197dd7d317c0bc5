"""What other brokers tell of their Raft groups, and how a page names the groups."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any, cast

import pytest
import trio

from raftlog.http.api.context import Api
from raftlog.http.api.news import News
from raftlog.metadata.catalog import Catalog
from raftlog.types import METADATA_GROUP, group_key

ORDERS = group_key(bytes(range(16)), 0)


class Told:
    """One event of broker 2."""

    def __init__(self, topics: list[str | None] | None) -> None:
        event = {"number": 1, "version": 1, "ago_s": 0.0, "last_ago_s": 0.0, "kind": "leader", "term": 1}
        event |= {"cause": "new", "why": "the group is new", "other": None, "count": 1}
        event["groups"] = [ORDERS, METADATA_GROUP]
        if topics is not None:
            event["topics"] = topics
        self.event = event

    async def events_of(self, broker: int, since: int) -> dict[str, Any]:
        return {"incarnation": "01234567", "version": 1, "events": [self.event]}


async def groups_told(topics: list[str | None] | None) -> list[str]:
    """The names that a page gets from a broker that has just started: its catalog is empty."""
    inside = SimpleNamespace(
        me=SimpleNamespace(id=2), metadata=SimpleNamespace(catalog=Catalog()), reports=Told(topics)
    )
    news = News(
        Api(
            view=cast(Any, SimpleNamespace(inside=inside)),
            **dict.fromkeys(("access", "client", "history"), cast(Any, None)),
        )
    )
    async with trio.open_nursery() as nursery:
        news.ask(nursery)
    (line,) = news.told[2].lines.values()
    assert json.loads(line.text) == line.row
    return cast(list[str], line.row["groups"])


async def test_a_topic_that_this_broker_does_not_know_yet_is_named_by_the_broker_that_has_it() -> None:
    assert await groups_told(["orders", None]) == ["orders-0", "__cluster_metadata-0"]


@pytest.mark.parametrize("topics", [None, [None, None]], ids=["an older broker", "deleted since"])
async def test_a_topic_that_nobody_knows_is_its_id(topics: list[str | None] | None) -> None:
    assert await groups_told(topics) == [f"{bytes(range(16)).hex()}-0", "__cluster_metadata-0"]
