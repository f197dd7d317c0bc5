"""Topics: what there is, and changes. Changes go through Kafka's own requests."""

from __future__ import annotations

import uuid
from contextlib import suppress
from typing import Any

from raftlog.client.health import PartitionState
from raftlog.client.metadata import TopicPartition
from raftlog.config import TOPIC_CONFIGS, TopicConfig
from raftlog.http.access import Need
from raftlog.http.api import lists
from raftlog.http.api.context import Api
from raftlog.http.exposition import Pace
from raftlog.http.messages import Refusal, Request, Response, bad_request
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
            return Response.of({"items": rows, "total": len(names), "next": following})
        rows = []
        for name in names:
            topic = api.catalog.topic(name)
            if topic is not None:
                rows.append(self._row(topic, alive))
            await pace.breathe()
        return Response.of(lists.sorted_page(request, rows, {key: _sort_key(key) for key in SORT_KEYS}))

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

    def _row(self, topic: Topic, alive: frozenset[BrokerId]) -> dict[str, Any]:
        """Records and bytes are of the replicas here, and exact only where all are and this broker leads."""
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
            is_exact = is_exact and replica.is_leader
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

    # Changes

    async def create(self, request: Request) -> Response:
        body = request.json()
        _known(body, "name", "partitions", "replication", "configs")
        from raftlog.client.admin import NewTopic

        topic = NewTopic(
            name=body.get("name", ""),
            partitions=body.get("partitions", -1),
            replication_factor=body.get("replication", -1),
            configs=body.get("configs", {}),
        )
        is_dry = request.flag("dry_run")
        await self._api.client.ask(lambda c: c.admin.create_topics([topic], validate_only=is_dry))
        return Response.of({"name": topic.name, "dry_run": is_dry}, 201)

    async def alter_config(self, request: Request, name: str) -> Response:
        body = request.json()
        _known(body, "set", "remove")
        self._api.topic(name)
        changes: dict[str, Any] = {**body.get("set", {}), **dict.fromkeys(body.get("remove", []))}
        await self._api.client.ask(lambda client: client.admin.alter_configs(changes, topic=name))
        return Response.of({"name": name})

    async def add_partitions(self, request: Request, name: str) -> Response:
        body = request.json()
        _known(body, "total")
        self._api.topic(name)
        total = _number(body.get("total"))
        await self._api.client.ask(lambda client: client.admin.create_partitions(name, total))
        return Response.of({"name": name, "partitions": total})

    async def delete_records(self, request: Request, name: str) -> Response:
        body = request.json()
        _known(body, "before")
        self._api.topic(name)
        before = {
            TopicPartition(name, _number(partition)): _number(offset)
            for partition, offset in body.get("before", {}).items()
        }
        starts = await self._api.client.ask(lambda client: client.admin.delete_records(before))
        return Response.of({"start": {str(key.partition): str(offset) for key, offset in starts.items()}})

    async def delete(self, request: Request, name: str) -> Response:
        body = request.json()
        _known(body, "confirm")
        if body.get("confirm") != name:
            raise bad_request('the body names the topic once more: {"confirm": NAME}')
        self._api.topic(name)
        await self._api.client.ask(lambda client: client.admin.delete_topic(name))
        return Response(status=204)


def _state_of(state: PartitionState, assignment: PartitionAssignment) -> str:
    if state.leader is None:
        return "no_leader"
    return "moving" if assignment.is_moving else "ok"


def _known(body: dict[str, Any], *names: str) -> None:
    unknown = sorted(body.keys() - set(names))
    if unknown:
        raise bad_request(f"there is no {unknown[0][:40]!r} here, only: {', '.join(names)}")


def _number(text: object) -> int:
    if isinstance(text, int) and not isinstance(text, bool):
        return text
    if isinstance(text, str) and text.isascii() and text.lstrip("-").isdigit() and len(text) <= 20:
        return int(text)
    raise bad_request(f"{str(text)[:40]!r} is no number")


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
            method="POST",
            path=base,
            need=Need.CHANGE,
            handle=topics.create,
            parameters=("dry_run",),
            doc="Create one: `name`, `partitions`, `replication`, `configs`.",
        ),
        Route(
            method="GET",
            path=f"{base}/{{}}",
            need=Need.READ,
            handle=topics.one,
            doc="A topic, its partitions, settings and groups.",
        ),
        Route(
            method="DELETE",
            path=f"{base}/{{}}",
            need=Need.CHANGE,
            handle=topics.delete,
            doc="Delete one; the body repeats its name as `confirm`.",
        ),
        Route(
            method="PATCH",
            path=f"{base}/{{}}/config",
            need=Need.CHANGE,
            handle=topics.alter_config,
            doc="Change settings: `set` and `remove`.",
        ),
        Route(
            method="POST",
            path=f"{base}/{{}}/partitions",
            need=Need.CHANGE,
            handle=topics.add_partitions,
            doc="Make it have `total` partitions.",
        ),
        Route(
            method="POST",
            path=f"{base}/{{}}/delete-records",
            need=Need.CHANGE,
            handle=topics.delete_records,
            doc="Delete what is `before` an offset, by partition.",
        ),
    ]
