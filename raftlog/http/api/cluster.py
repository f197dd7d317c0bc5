"""The cluster and its brokers."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any, Final

import trio

from raftlog.http.api.context import Api
from raftlog.http.exposition import Pace
from raftlog.http.guard import Need, Role
from raftlog.http.history import LATENCIES, SERIES
from raftlog.http.messages import Request, Response, bad_request, json_of
from raftlog.http.reading import alive_brokers
from raftlog.http.routes import Route
from raftlog.metadata.catalog import BrokerInfo
from raftlog.types import BrokerId
from raftlog.version import version

Points = list[list[float | None]]

LARGEST: Final = ("term", *LATENCIES)
"""Series of which a cluster has its largest, not the sum."""


class Cluster:
    def __init__(self, api: Api) -> None:
        self._api = api

    async def about(self, request: Request) -> Response:
        """What a page of the console asks first: which broker serves the page, and what the page may do."""
        api = self._api
        role = api.access.check(request, Need.READ)
        return Response.of(
            {
                "mode": "broker",
                "broker": api.view.inside.me.id,
                "version": version(),
                "role": role.value,
                "read_only": api.access.is_readonly,
                "may_change": role is Role.ADMIN and not api.access.is_readonly,
                "sees_records": api.access.sees_records(role),
            }
        )

    async def cluster(self, request: Request) -> Response:
        return Response.of(await summary(self._api))

    async def brokers(self, request: Request) -> Response:
        api = self._api
        reports: dict[BrokerId, dict[str, Any] | None] = {}
        if request.flag("here"):
            reports[api.view.inside.me.id] = await api.own_report()
        else:
            reports = await api.reports()
        alive = alive_brokers(api.view)
        preferred = await api.shared.get("preferred", self._preferred)
        return Response.of(
            [
                {
                    "id": broker.id,
                    "host": broker.host,
                    "port": broker.port,
                    "listeners": [list(listener) for listener in broker.listeners],
                    "rack": broker.rack,
                    "state": _state_of(broker, broker.id in alive),
                    "incarnation": broker.incarnation.hex()[:8],
                    "preferred": preferred.get(broker.id, 0),
                    "is_this": broker.id == api.view.inside.me.id,
                    "report": reports.get(broker.id),
                }
                for broker in sorted(api.catalog.brokers.values(), key=lambda one: one.id)
            ]
        )

    async def _preferred(self) -> dict[BrokerId, int]:
        """How many partitions each broker should lead."""
        preferred: dict[BrokerId, int] = {}
        pace = Pace(rests=True)
        for topic in list(self._api.catalog.topics.values()):
            for assignment in topic.partitions:
                home = assignment.preferred_leader
                preferred[home] = preferred.get(home, 0) + 1
            await pace.breathe()
        return preferred

    async def history(self, request: Request) -> Response:
        """Of all brokers together by the second: sums, but the slowest broker's latencies and the highest
        term."""
        names = tuple(dict.fromkeys(request.text("names", ",".join(SERIES)).split(",")))
        unknown = [name for name in names if name not in SERIES]
        if unknown:
            raise bad_request(f"there is no series {unknown[0][:40]!r}, only {', '.join(SERIES)}")
        minutes = request.int("minutes", 10, 1, 10)
        since = request.int("since", time.time_ns() // 1_000_000 - 60_000 * minutes, 0, 1 << 53)
        points = await self._api.histories(since, 60 * minutes)
        columns = []
        for name, column in together(points, names):
            columns.append(f"{json_of(name)}:{json_of(column)}")
            await trio.lowlevel.checkpoint()
        return Response(body=f"{{{','.join(columns)}}}".encode())


def together(points: Points, names: tuple[str, ...]) -> Iterator[tuple[str, list[float | None]]]:
    """Points of several brokers as columns by name, one after the other: `at` is the beginning of each second
    (ms), the others have a figure for each second."""
    seconds: dict[int, Points] = {}
    for point in points:
        seconds.setdefault(int(point[0] or 0) // 1000, []).append(point)
    order = sorted(seconds)
    yield "at", [1000.0 * second for second in order]
    for name in names:
        place = 1 + SERIES.index(name)
        add = max if name in LARGEST else sum
        column: list[float | None] = []
        for second in order:
            figures = [f for point in seconds[second] if (f := point[place]) is not None]
            column.append(round(add(figures), 3) if figures else None)
        yield name, column


async def summary(api: Api) -> dict[str, Any]:
    """What a page shows first."""
    metadata, catalog = api.view.inside.metadata, api.catalog
    seen = await api.overview()
    return {
        "cluster_id": catalog.cluster_id,
        "version": version(),
        "broker": api.view.inside.me.id,
        "metadata": {
            "leader": metadata.leader,
            "term": metadata.group.term,
            "commit_index": str(metadata.group.commit_index),
            "applied_index": str(metadata.applied_index),
        },
        "brokers": len(catalog.brokers),
        "alive": len(alive_brokers(api.view)),
        "topics": len(catalog.topics),
        "groups": len(catalog.group_offsets),
        "partitions": seen.partitions,
        "without_leader": seen.without_leader,
        "under_replicated": seen.under_replicated,
        "moving": seen.moving,
        "durability": api.view.inside.me.config.str("raftlog.durability"),
        "problems": seen.problems,
        "rates": {name: None if f is None else round(f, 1) for name, f in api.history.last.items()},
    }


def _state_of(broker: BrokerInfo, is_alive: bool) -> str:
    if not is_alive:
        return "down"
    return "draining" if broker.draining else "alive"


def routes(api: Api) -> list[Route]:
    cluster = Cluster(api)
    return [
        Route(
            method="GET",
            path="/api/v1/about",
            need=Need.READ,
            handle=cluster.about,
            doc="Who serves this, as whom the request is made, and what that one may do.",
        ),
        Route(
            method="GET",
            path="/api/v1/cluster",
            need=Need.READ,
            handle=cluster.cluster,
            doc="The cluster: its metadata's leader, counts, what is wrong in words, this broker's rates.",
        ),
        Route(
            method="GET",
            path="/api/v1/brokers",
            need=Need.READ,
            handle=cluster.brokers,
            parameters=("here",),
            doc="Every broker, and what it says of itself (`report`; null for one that says nothing).",
        ),
        Route(
            method="GET",
            path="/api/v1/metrics/history",
            need=Need.READ,
            handle=cluster.history,
            parameters=("names", "minutes", "since"),
            doc=(
                "The brokers' figures of each of the last seconds together, ten minutes at most;"
                " `since` a time."
            ),
        ),
    ]
