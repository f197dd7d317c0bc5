"""The cluster and its brokers."""

from __future__ import annotations

from typing import Any

from raftlog.http.access import Need
from raftlog.http.api.context import Api
from raftlog.http.history import SERIES
from raftlog.http.messages import Request, Response, bad_request
from raftlog.http.reading import alive_brokers
from raftlog.http.routes import Route
from raftlog.http.version import version
from raftlog.metadata.catalog import BrokerInfo


class Cluster:
    def __init__(self, api: Api) -> None:
        self._api = api

    async def cluster(self, request: Request) -> Response:
        return Response.of(await summary(self._api))

    async def brokers(self, request: Request) -> Response:
        api = self._api
        reports, alive = await api.reports(), alive_brokers(api.view)
        preferred = dict.fromkeys(api.catalog.brokers, 0)
        async for topic, _ in api.each_topic():
            for assignment in topic.partitions:
                home = assignment.preferred_leader
                preferred[home] = preferred.get(home, 0) + 1
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
                    "preferred": preferred[broker.id],
                    "is_this": broker.id == api.view.inside.me.id,
                    "report": reports.get(broker.id),
                }
                for broker in sorted(api.catalog.brokers.values(), key=lambda one: one.id)
            ]
        )

    async def history(self, request: Request) -> Response:
        names = tuple(request.text("names", ",".join(SERIES)).split(","))
        unknown = [name for name in names if name not in SERIES]
        if unknown:
            raise bad_request(f"there is no series {unknown[0][:40]!r}, only {', '.join(SERIES)}")
        minutes = request.int("minutes", 10, 1, 10)
        return Response.of(self._api.history.series(names, 60 * minutes))


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
        "partitions": seen.partitions,
        "without_leader": seen.without_leader,
        "under_replicated": seen.under_replicated,
        "moving": seen.moving,
        "durability": api.view.inside.me.config.str("raftlog.durability"),
        "problems": seen.problems,
        "rates": {name: round(figure, 1) for name, figure in api.history.last.items()},
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
            doc="Every broker, and what it says of itself now (`report`; null for one that says nothing).",
        ),
        Route(
            method="GET",
            path="/api/v1/metrics/history",
            need=Need.READ,
            handle=cluster.history,
            parameters=("names", "minutes"),
            doc="This broker's figures of each of the last seconds, ten minutes at most.",
        ),
    ]
