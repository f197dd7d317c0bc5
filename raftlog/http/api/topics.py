"""Topics, as a broker of their cluster knows them."""

from __future__ import annotations

import uuid
from contextlib import suppress
from typing import Any

from raftlog.client.health import PartitionState
from raftlog.config import TOPIC_CONFIGS, TopicConfig
from raftlog.http.api import lists
from raftlog.http.api.context import Api, lags_of
from raftlog.http.exposition import Pace
from raftlog.http.guard import Need
from raftlog.http.messages import Refusal, Request, Response
from raftlog.http.reading import alive_brokers
from raftlog.http.routes import Route
from raftlog.metadata.catalog import PartitionAssignment, Topic
from raftlog.types import BrokerId

SORT_KEYS = ("name", "partitions", "records", "bytes", "without_leader", "under_replicated")


class Topics:
    def __init__(self, api: Api) -> None:
        self._api = api

    async def all(self, request: Request) -> Response:
        """Only what the page needs is looked at, unless it is sorted by something other than its name."""
        api = self._api
        names = lists.matching(request, api.catalog.topics)
        alive, pace = alive_brokers(api.view), Pace()
        sort = request.text("sort", "name", choices=SORT_KEYS)
        if sort == "name":
            page, following = lists.page_of(request, names)
            rows = []
            for name in page:
                topic = api.catalog.topic(name)
                if topic is not None:
                    rows.append(self._row(topic, alive))
                await pace.breathe()
            await self._add_readers(rows)
            return Response.of({"items": rows, "total": len(names), "next": following})
        rows = []
        for name in names:
            topic = api.catalog.topic(name)
            if topic is not None:
                rows.append(self._row(topic, alive))
            await pace.breathe()
        answer = lists.sorted_page(request, rows, {key: _sort_key(key) for key in SORT_KEYS})
        await self._add_readers(answer["items"])
        return Response.of(answer)

    async def one(self, request: Request, name: str) -> Response:
        api = self._api
        topic = api.topic(name)
        alive = alive_brokers(api.view)
        row = self._row(topic, alive)
        offsets = await self._offsets(topic)
        states = api.states_of(topic, alive)
        row["id"] = str(uuid.UUID(bytes=topic.topic_id))
        row["configs"] = self._configs(topic)
        row["partitions"] = [
            {
                "partition": number,
                "leader": states[number].leader,
                "epoch": api.view.inside.leaders.leader_of(topic, number)[1],
                "replicas": list(assignment.hosts),
                "in_sync": [broker for broker in assignment.hosts if broker in alive],
                "preferred": assignment.preferred_leader,
                "start": _text(offsets[0].get(number)),
                "end": _text(offsets[1].get(number)),
                "state": _state_of(states[number], assignment),
            }
            for number, assignment in enumerate(topic.partitions)
        ]
        row["groups"] = await self._groups(name)
        return Response.of(row)

    async def _groups(self, name: str) -> list[str]:
        """Those that have committed something in a topic, a thousand at most."""
        offsets, pace, found = self._api.catalog.group_offsets, Pace(), list[str]()
        for group in list(offsets):
            if name in offsets.topics(group):
                found.append(group)
                if len(found) == lists.LIMIT_MAX:
                    break
            await pace.breathe()
        return found

    async def _add_readers(self, rows: list[dict[str, Any]]) -> None:
        """How many groups have committed something in each topic, and the largest lag of any, of partitions
        that are kept here."""
        offsets, pace = self._api.catalog.group_offsets, Pace()
        for row in rows:
            row |= {"groups": 0, "lag_max": None}
        found = {row["name"]: row for row in rows}
        for group in list(offsets):
            for name in list(offsets.topics(group)):
                if name in found:
                    row = found[name]
                    row["groups"] += 1
                    lags = lags_of(self._api, group, name)
                    known = [lag for lag in (row["lag_max"], *lags) if lag is not None]
                    row["lag_max"] = max(known, default=None)
            await pace.breathe()
        for row in rows:
            row["lag_max"] = _text(row["lag_max"])

    def _row(self, topic: Topic, alive: frozenset[BrokerId]) -> dict[str, Any]:
        """Records and bytes are of the replicas here, as far as each knows what is committed."""
        states = self._api.states_of(topic, alive)
        records = size = 0
        is_exact = True
        for number in range(len(topic.partitions)):
            replica = self._api.view.inside.replicas.partition_by_id(topic.topic_id, number)
            if replica is None:
                is_exact = False
                continue
            records += replica.high_watermark - replica.log_start_offset
            size += replica.reading.size
        return {
            "name": topic.name,
            "internal": topic.is_internal,
            "partitions": len(topic.partitions),
            "replication": topic.replication_factor,
            "without_leader": sum(state.leader is None for state in states),
            "under_replicated": sum(state.in_sync < state.replicas for state in states),
            "records": str(records),
            "records_exact": is_exact,
            "bytes": size,
            "cleanup": topic.configs.get("cleanup.policy", "delete"),
        }

    async def _offsets(self, topic: Topic) -> tuple[dict[int, int], dict[int, int]]:
        """Where each partition begins and ends: of the replica here, or as its leader says."""
        starts: dict[int, int] = {}
        ends: dict[int, int] = {}
        for number in range(len(topic.partitions)):
            replica = self._api.view.inside.replicas.partition_by_id(topic.topic_id, number)
            if replica is not None:
                starts[number], ends[number] = replica.log_start_offset, replica.high_watermark
        if len(ends) < len(topic.partitions):
            with suppress(Refusal):  # without a leader nobody says
                client = self._api.client
                first = await client.ask(lambda c: c.admin.beginning_offsets(topic.name))
                last = await client.ask(lambda c: c.admin.end_offsets(topic.name))
                starts = {key.partition: offset for key, offset in first.items()} | starts
                ends = {key.partition: offset for key, offset in last.items()} | ends
        return starts, ends

    def _configs(self, topic: Topic) -> list[dict[str, Any]]:
        config = TopicConfig(topic.configs, self._api.view.inside.me.config)
        return [
            {
                "name": key.name,
                "value": key.format(config[key.name]),
                "default": key.format(key.default),
                "source": "topic" if key.name in topic.configs else "default",
                "read_only": key.ignored,
                "type": key.type.name.lower(),
                "doc": key.doc,
            }
            for key in TOPIC_CONFIGS.values()
        ]


def _state_of(state: PartitionState, assignment: PartitionAssignment) -> str:
    if state.leader is None:
        return "no_leader"
    return "moving" if assignment.is_moving else "ok"


def _text(number: int | None) -> str | None:
    return None if number is None else str(number)


def _sort_key(key: str) -> Any:
    return (lambda row: int(row[key])) if key == "records" else (lambda row: row[key])


def routes(api: Api) -> list[Route]:
    topics, base = Topics(api), "/api/v1/topics"
    return [
        Route(
            method="GET",
            path=base,
            need=Need.READ,
            handle=topics.all,
            parameters=lists.PARAMETERS,
            doc="Topics, a page at a time.",
        ),
        Route(
            method="GET",
            path=f"{base}/{{}}",
            need=Need.READ,
            handle=topics.one,
            doc="A topic, its partitions, settings and groups.",
        ),
    ]
