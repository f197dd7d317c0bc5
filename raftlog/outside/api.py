"""The part of the API that a broker answers from its inside, as far as it can be told from outside."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final

import trio

from raftlog.client.health import PartitionState
from raftlog.client.metadata import PartitionView, TopicPartition, TopicView
from raftlog.http.access import Access
from raftlog.http.api import lists
from raftlog.http.api.source import counted
from raftlog.http.guard import Need, Role
from raftlog.http.messages import Refusal, Request, Response, Send, Stream
from raftlog.http.own_client import OwnClient
from raftlog.http.routes import Handler, Route
from raftlog.outside.look import Look
from raftlog.version import version

EVENTS_S: Final = 1.0
DESCRIBED_AT_ONCE: Final = 8
"""Groups of a page whose members are asked for at the same time."""
DESCRIBED_S: Final = 5.0
"""How long the members of a page's groups are waited for. Of the rest it is not said who they are."""
SORT_KEYS: Final = ("name", "partitions", "records", "bytes", "without_leader", "under_replicated")


class Outside:
    """`raftlog.http.api.source.Source` of a cluster somewhere else, and what is said of it."""

    def __init__(self, client: OwnClient, access: Access) -> None:
        self.client = client
        self.access = access
        self.look = Look(client)
        self.stopping = trio.Event()
        self.streams = 0

    def topic(self, name: str) -> TopicView:
        return self.look.topic(name)

    def counted(self, stream: Stream) -> Stream:
        return counted(self, stream)

    # The cluster

    async def about(self, request: Request) -> Response:
        role = self.access.check(request, Need.READ)
        return Response.of(
            {
                "mode": "outside",
                "broker": None,
                "version": version(),
                "role": role.value,
                "read_only": self.access.is_readonly,
                "may_change": role is Role.ADMIN and not self.access.is_readonly,
                "sees_records": self.access.sees_records(role),
            }
        )

    async def cluster(self, request: Request) -> Response:
        return Response.of(self._summary())

    def _summary(self) -> dict[str, Any]:
        look = self.look
        states = [state for topic in look.topics.values() for state in look.states_of(topic)]
        return {
            "cluster_id": look.cluster_id,
            "version": version(),
            "broker": None,
            "metadata": None if look.quorum is None else _metadata(look),
            "brokers": len(look.brokers),
            "alive": sum(broker.is_alive for broker in look.brokers),
            "topics": len(look.topics),
            "groups": len(look.groups),
            "partitions": len(states),
            "without_leader": sum(state.leader is None for state in states),
            "under_replicated": sum(state.in_sync < state.replicas for state in states),
            "moving": None,
            "durability": look.durability,
            "problems": look.problems(),
            "rates": self._rates(),
        }

    def _rates(self) -> dict[str, Any]:
        _, records, lag = self.look.points[-1] if self.look.points else (0, None, None)
        return {"records_in": records, "lag": lag}

    async def quorum(self, request: Request) -> Response:
        quorum = self.look.quorum
        if quorum is None:
            raise Refusal(
                503, "LEADER_NOT_AVAILABLE", "nobody says who votes on the metadata", retriable=True
            )
        return Response.of(
            {
                **_metadata(self.look),
                "members": [
                    {
                        "id": one.id,
                        "voter": one.is_voter,
                        "end": str(one.log_end_offset),
                        "heard": None if one.last_fetch_ms < 0 else str(one.last_fetch_ms),
                        "caught_up": None if one.last_caught_up_ms < 0 else str(one.last_caught_up_ms),
                    }
                    for one in sorted(quorum.members, key=lambda one: (not one.is_voter, one.id))
                ],
            }
        )

    async def brokers(self, request: Request) -> Response:
        look = self.look
        partitions = [each for topic in look.topics.values() for each in topic.partitions]
        rows = []
        for broker in look.brokers:
            disk, sizes = look.disks.get(broker.id), look.sizes.get(broker.id)
            state = "draining" if broker.is_draining else "alive"
            rows.append(
                {
                    "id": broker.id,
                    "host": broker.host,
                    "port": broker.port,
                    "rack": broker.rack,
                    "state": state if broker.is_alive else "down",
                    "is_this": False,
                    "report": {
                        "leads": sum(each.leader == broker.id for each in partitions),
                        "replicas": sum(broker.id in each.replicas for each in partitions),
                        "bytes": None if sizes is None else sum(sizes.values()),
                        "disk": None if disk is None else {"total": disk.total, "free": disk.free},
                    },
                }
            )
        return Response.of(rows)

    async def history(self, request: Request) -> Response:
        """As a broker's, with the series that are known."""
        since = request.int("since", 0, 0, 1 << 53)
        points = [point for point in self.look.points if point[0] > since]
        return Response.of(
            {
                "at": [at // 1000 * 1000 for at, _, _ in points],
                "records_in": [None if rate is None else round(rate, 3) for _, rate, _ in points],
                "lag": [lag for _, _, lag in points],
            }
        )

    async def events(self, request: Request) -> Response:
        """`hello`, and `rates` once a second while the cluster answers."""

        async def follow(send: Send) -> None:
            await send(b"retry: 1000\n\n" + _message("hello", self._summary()))
            while not self.stopping.is_set():
                await self.look.look()
                if self.look.problem is None:
                    await send(_message("rates", self._rates()))
                else:
                    await send(b":\n\n")
                with trio.move_on_after(EVENTS_S):
                    await self.stopping.wait()

        return Response(
            content_type="text/event-stream",
            headers=(("X-Accel-Buffering", "no"),),
            stream=self.counted(follow),
        )

    # Topics

    async def topics(self, request: Request) -> Response:
        names = lists.matching(request, self.look.topics)
        rows = [self._row(self.look.topics[name]) for name in names]
        keys: dict[str, Callable[[dict[str, Any]], Any]] = {key: _sort_key(key) for key in SORT_KEYS}
        page = lists.sorted_page(request, rows, keys)
        for row in page["items"]:
            row |= self._readers(row["name"])
        return Response.of(page)

    def _row(self, topic: TopicView) -> dict[str, Any]:
        look = self.look
        states = look.states_of(topic)
        keys = [TopicPartition(topic.name, each.partition) for each in topic.partitions]
        counted = [key for key in keys if key in look.starts and key in look.ends]
        sizes = [
            max((found[key] for found in look.sizes.values() if key in found), default=None) for key in keys
        ]
        return {
            "name": topic.name,
            "internal": topic.is_internal,
            "partitions": len(keys),
            "replication": max((len(each.replicas) for each in topic.partitions), default=0),
            "without_leader": sum(state.leader is None for state in states),
            "under_replicated": sum(state.in_sync < state.replicas for state in states),
            "records": str(sum(look.ends[key] - look.starts[key] for key in counted)),
            "records_exact": False,
            "bytes": sum(size for size in sizes if size is not None),
            "cleanup": None,
        }

    def _readers(self, topic: str) -> dict[str, Any]:
        """How many groups have committed something in it, and the largest lag of any."""
        groups = {
            group: self.look.lags_of(group, topic)
            for group, committed in self.look.committed.items()
            if any(key.topic == topic for key in committed)
        }
        lags = [lag for found in groups.values() for lag in found]
        return {"groups": len(groups), "lag_max": str(max(lags)) if lags else None}

    async def one_topic(self, request: Request, name: str) -> Response:
        look, topic = self.look, self.look.topic(name)
        configs = await self.client.ask(lambda c: c.admin.describe_configs(topic=name))
        cleanup = configs.get("cleanup.policy")
        return Response.of(
            {
                **self._row(topic),
                "id": str(uuid.UUID(bytes=topic.topic_id)),
                "cleanup": None if cleanup is None else cleanup.value,
                "configs": [
                    {
                        "name": entry.name,
                        "value": entry.value,
                        "default": None,
                        "source": entry.source,
                        "read_only": entry.read_only,
                        "type": "",
                        "doc": "",
                    }
                    for entry in sorted(configs.values(), key=lambda entry: entry.name)
                ],
                "partitions": [
                    self._partition(TopicPartition(name, each.partition), each, state)
                    for each, state in zip(topic.partitions, look.states_of(topic), strict=True)
                ],
                "groups": [
                    group
                    for group, committed in look.committed.items()
                    if any(key.topic == name for key in committed)
                ],
            }
        )

    def _partition(self, key: TopicPartition, each: PartitionView, state: PartitionState) -> dict[str, Any]:
        return {
            "partition": each.partition,
            "leader": each.leader,
            "epoch": each.leader_epoch,
            "replicas": list(each.replicas),
            "in_sync": list(each.in_sync),
            "preferred": each.replicas[0] if each.replicas else None,
            "start": _text(self.look.starts.get(key)),
            "end": _text(self.look.ends.get(key)),
            "state": "no_leader" if state.leader is None else "ok",
        }

    # Groups

    async def groups(self, request: Request) -> Response:
        look = self.look
        page, following = lists.page_of(request, names := lists.matching(request, look.groups))
        rows: dict[str, dict[str, Any]] = {}
        deadline = trio.current_time() + DESCRIBED_S
        left = iter(page)

        async def some() -> None:
            for name in left:  # in the page's order, whoever comes to it
                await one(name)

        async def one(name: str) -> None:
            found = None
            with trio.move_on_at(deadline), suppress(Refusal):  # the others are shown without it
                found = await self.client.ask(lambda c: c.admin.describe_group(name))
            lags = look.lags_of(name)
            listed = look.groups.get(name)
            rows[name] = {
                "id": name,
                "state": listed.state if listed is not None else "",
                "protocol_type": listed.protocol_type if listed is not None else "",
                "topics": sorted({key.topic for key in look.committed.get(name, {})}),
                "lag": str(sum(lags)) if lags else None,
                "lag_max": str(max(lags)) if lags else None,
                "members": None if found is None else len(found.members),
                "coordinator": None if found is None else found.coordinator,
            }

        async with trio.open_nursery() as nursery:
            for _ in range(DESCRIBED_AT_ONCE):
                nursery.start_soon(some)
        return Response.of({"items": [rows[name] for name in page], "total": len(names), "next": following})


def _metadata(look: Look) -> dict[str, Any]:
    assert look.quorum is not None
    return {
        "leader": look.quorum.leader,
        "term": look.quorum.epoch,
        "commit_index": str(look.quorum.high_watermark),
        "applied_index": None,
    }


def _message(kind: str, value: object) -> bytes:
    return f"event: {kind}\ndata: {json.dumps(value, separators=(',', ':'))}\n\n".encode()


def _text(number: int | None) -> str | None:
    return None if number is None else str(number)


def _sort_key(key: str) -> Callable[[dict[str, Any]], Any]:
    return (lambda row: int(row[key])) if key == "records" else (lambda row: row[key])


def routes(outside: Outside) -> list[Route]:
    def get(path: str, handle: Handler, *parameters: str) -> Route:
        return Route(
            method="GET",
            path=f"/api/v1/{path}",
            need=Need.READ,
            handle=handle,
            doc="",
            parameters=parameters,
        )

    return [
        get("about", outside.about),
        get("cluster", outside.cluster),
        get("quorum", outside.quorum),
        get("brokers", outside.brokers),
        get("metrics/history", outside.history, "since"),
        get("events", outside.events),
        get("topics", outside.topics, *lists.PARAMETERS),
        get("topics/{}", outside.one_topic),
        get("groups", outside.groups, *lists.PARAMETERS),
    ]
