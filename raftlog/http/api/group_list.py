"""The consumer groups, as a broker of their cluster knows them without asking for each."""

from __future__ import annotations

from raftlog.http.api import lists
from raftlog.http.api.context import Api, lags_of
from raftlog.http.exposition import Pace
from raftlog.http.guard import Need
from raftlog.http.messages import Request, Response
from raftlog.http.routes import Route


class GroupList:
    def __init__(self, api: Api) -> None:
        self._api = api

    async def all(self, request: Request) -> Response:
        client = self._api.client
        found = {one.group: one for one in await client.ask(lambda c: c.admin.list_groups())}
        names = lists.matching(request, found)
        page, following = lists.page_of(request, names)
        offsets, pace, rows = self._api.catalog.group_offsets, Pace(), []
        inside = self._api.view.inside
        coordinator = inside.coordination.coordinator_id
        members = {} if coordinator is None else await inside.reports.members_of(coordinator) or {}
        for name in page:
            topics = sorted(offsets.topics(name)) if name in offsets else []
            lags = [lag for topic in topics for lag in lags_of(self._api, name, topic)]
            rows.append(
                {
                    "id": name,
                    "state": found[name].state,
                    "protocol_type": found[name].protocol_type,
                    "topics": topics,
                    "lag": str(sum(lags)) if lags else None,
                    "lag_max": str(max(lags)) if lags else None,
                    "members": members.get(name, 0),
                    "coordinator": coordinator,
                }
            )
            await pace.breathe()
        return Response.of({"items": rows, "total": len(names), "next": following})


def routes(api: Api) -> list[Route]:
    return [
        Route(
            method="GET",
            path="/api/v1/groups",
            need=Need.READ,
            handle=GroupList(api).all,
            parameters=lists.PARAMETERS,
            doc="Consumer groups, a page at a time.",
        )
    ]
