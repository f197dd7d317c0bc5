"""Raft at work: each broker speaks for its own replica of a group, and only a leader has followers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import trio

from raftlog.http.api.context import METADATA_NAME, Api
from raftlog.http.exposition import Pace
from raftlog.http.guard import Need
from raftlog.http.messages import Refusal, Request, Response, bad_request
from raftlog.http.routes import Route
from raftlog.types import METADATA_GROUP, BrokerId, GroupKey, partition_of_group

GROUPS_MAX = 200
_INDEXES = ("last_index", "synced_index", "commit_index", "applied_index")
_FOLLOWER_INDEXES = ("match", "next", "behind")


class Raft:
    def __init__(self, api: Api) -> None:
        self._api = api

    async def groups(self, request: Request) -> Response:
        """The groups of this broker, by what is searched for in their names."""
        wanted, limit = request.text("search").lower(), request.int("limit", 50, 1, GROUPS_MAX)
        inside, pace = self._api.view.inside, Pace()
        names, total = [], 0
        for key in list(inside.driver.groups):
            name = self._api.name_of(key)
            if wanted in name.lower():
                total += 1
                names.append((key != METADATA_GROUP, name, key))
            await pace.breathe()
        rows = []
        for _, name, key in sorted(names)[:limit]:
            report = await inside.reports.replica_of(inside.me.id, key)
            if report is not None:
                view = _view(report)
                place_followers(view, {})
                rows.append({"group": name, **view})
            await pace.breathe()
        return Response.of({"items": rows, "total": total})

    async def group(self, request: Request, topic: str, partition: str) -> Response:
        api = self._api
        key = api.group_of(topic, partition)
        brokers = self._members(key)
        me = api.view.inside.me.id
        is_here = request.flag("here")
        said: dict[str, Any] = {}

        async def ask(broker: BrokerId) -> None:
            began = trio.current_time()
            wanted = not is_here or broker == me
            report = await api.view.inside.reports.replica_of(broker, key) if wanted else None
            took = round(trio.current_time() - began, 3)
            said[str(broker)] = None if report is None else {"as_of_s": took, **_view(report)}

        async with trio.open_nursery() as nursery:
            for broker in brokers:
                nursery.start_soon(ask, broker)
        return Response.of(group_as_told(api.name_of(key), said))

    def _members(self, key: GroupKey) -> list[BrokerId]:
        if key == METADATA_GROUP:
            return sorted(self._api.view.inside.metadata.group.membership.members)
        topic_id, number = partition_of_group(key)
        topic = self._api.catalog.topic(topic_id)
        return sorted(topic.partitions[number].hosts) if topic else []

    async def transfer(self, request: Request, topic: str, partition: str) -> Response:
        """As the brokers do among themselves; the preferred leader takes it back after a while."""
        api, to = self._api, request.json().get("to")
        if not isinstance(to, int) or isinstance(to, bool):
            raise bad_request('the body names a broker: {"to": 2}')
        key = api.group_of(topic, partition)
        inside = api.view.inside
        if key == METADATA_GROUP:
            leader = inside.metadata.leader
        else:
            found = api.topic(topic)
            leader = inside.leaders.leader_of(found, int(partition))[0]
        if leader is None:
            raise Refusal(503, "LEADER_NOT_AVAILABLE", "it has no leader now", retriable=True)
        reason = await inside.operations.transfer(leader, key, BrokerId(to))
        if reason is not None:
            raise Refusal(409, "ELECTION_NOT_NEEDED", reason)
        return Response.of({"group": api.name_of(key), "from": leader, "to": to})

    async def elect(self, request: Request) -> Response:
        """Every partition's preferred leader, or those of the topics that are named."""
        await self._api.client.ask(lambda client: client.admin.operations.elect_leaders())
        return Response.of({"elected": True})


def _view(report: dict[str, Any]) -> dict[str, Any]:
    """Indexes as strings."""
    view = dict(report)
    for name in _INDEXES:
        view[name] = str(view[name])
    view["followers"] = [
        {**row, **{name: str(row[name]) for name in _FOLLOWER_INDEXES}} for row in report["followers"]
    ]
    return view


def group_as_told(name: str, said: dict[str, Any]) -> dict[str, Any]:
    """A group by what each of its brokers said of its own replica; None for one that said nothing."""
    known = [view for view in said.values() if view is not None]
    for view in known:
        place_followers(view, said)
    newest = max(known, key=lambda view: view["term"], default=None)
    return {
        "group": name,
        "voters": newest["voters"] if newest else [],
        "learners": newest["learners"] if newest else [],
        "said_by": {broker: said[broker] for broker in sorted(said, key=int)},
    }


def place_followers(view: dict[str, Any], said: Mapping[str, dict[str, Any] | None]) -> None:
    """How much each follower of a leader has on disk, and how far it is behind by that, one number from the
    other: what the leader knows, or, where it has heard no place in its term yet, what the follower says
    itself. None where nobody says: a new leader knows as little of one that is down as of an empty one."""
    last = int(view["last_index"])
    for row in view["followers"]:
        own = said.get(str(row["broker"]))
        on_disk = int(row["match"])
        if on_disk == 0 and own is not None:
            on_disk = min(last, int(own["synced_index"]))
        is_known = on_disk > 0 or own is not None
        row["on_disk"] = str(on_disk) if is_known else None
        row["behind"] = str(last - on_disk) if is_known else None


def routes(api: Api) -> list[Route]:
    raft, base = Raft(api), "/api/v1/raft"
    return [
        Route(
            method="GET",
            path=base,
            need=Need.READ,
            handle=raft.groups,
            parameters=("search", "limit"),
            doc="The groups of this broker.",
        ),
        Route(
            method="GET",
            path=f"{base}/{{}}/{{}}",
            need=Need.READ,
            handle=raft.group,
            parameters=("here",),
            doc=f"One group, said by each of its brokers; the metadata's is `{METADATA_NAME}/0`.",
        ),
        Route(
            method="POST",
            path=f"{base}/{{}}/{{}}/transfer",
            need=Need.CHANGE,
            handle=raft.transfer,
            doc="Hand the leadership `to` another broker.",
        ),
        Route(
            method="POST",
            path="/api/v1/elections",
            need=Need.CHANGE,
            handle=raft.elect,
            doc="Give partitions back to their preferred leaders.",
        ),
    ]
