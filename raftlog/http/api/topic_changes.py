"""What is changed of topics. By Kafka's own requests."""

from __future__ import annotations

from typing import Any

from raftlog.client.metadata import TopicPartition
from raftlog.http.api.source import Source
from raftlog.http.guard import Need
from raftlog.http.messages import Request, Response, bad_request
from raftlog.http.routes import Route


class TopicChanges:
    def __init__(self, api: Source) -> None:
        self._api = api

    async def create(self, request: Request) -> Response:
        body = request.json()
        _known(body, "name", "partitions", "replication", "configs")
        from raftlog.client.admin_values import NewTopic

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


def routes(api: Source) -> list[Route]:
    topics, base = TopicChanges(api), "/api/v1/topics"
    return [
        Route(
            method="POST",
            path=base,
            need=Need.CHANGE,
            handle=topics.create,
            parameters=("dry_run",),
            doc="Create one: `name`, `partitions`, `replication`, `configs`.",
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
