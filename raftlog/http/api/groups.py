"""One consumer group: who is in it, how far it is, and where it goes on. By Kafka's own requests."""

from __future__ import annotations

from typing import Any

from raftlog.client.metadata import TopicPartition
from raftlog.http.api.source import Source
from raftlog.http.guard import Need
from raftlog.http.messages import Refusal, Request, Response, bad_request
from raftlog.http.routes import Route

EARLIEST, LATEST = -2, -1
Key = TopicPartition


class Groups:
    def __init__(self, api: Source) -> None:
        self._api = api

    async def one(self, request: Request) -> Response:
        name, client = request.required("id"), self._api.client
        found = await client.ask(lambda c: c.admin.describe_group(name))
        if found.state == "Dead":
            raise Refusal(404, "GROUP_ID_NOT_FOUND", f"there is no group {name[:260]!r}")
        committed = await client.ask(lambda c: c.admin.group_offsets(name))
        readers = {key: member.member_id for member in found.members for key in member.partitions}
        keys = sorted({*committed, *readers})
        starts, ends = await self._places(keys, EARLIEST), await self._places(keys, LATEST)
        rows = []
        for key in keys:
            at, end = committed.get(key), ends.get(key)
            lag = None if at is None or end is None else max(0, end - at.offset)
            rows.append(
                {
                    "topic": key.topic,
                    "partition": key.partition,
                    "committed": None if at is None else str(at.offset),
                    "metadata": "" if at is None else at.metadata,
                    "start": _text(starts.get(key)),
                    "end": _text(end),
                    "lag": _text(lag),
                    "member": readers.get(key),
                    "stranded": key not in readers and bool(found.members),
                }
            )
        return Response.of(
            {
                "id": name,
                "state": found.state,
                "protocol": found.protocol,
                "protocol_type": found.protocol_type,
                "coordinator": found.coordinator,
                "members": [
                    {
                        "id": member.member_id,
                        "instance": member.instance_id,
                        "client": member.client_id,
                        "host": member.host,
                        "partitions": [list(key) for key in member.partitions],
                    }
                    for member in found.members
                ],
                "offsets": rows,
            }
        )

    async def _places(self, keys: list[Key], spec: int) -> dict[Key, int]:
        """Offsets of the partitions that there are; a topic may have been deleted since."""
        known = [key for key in keys if self._is_there(key)]
        if not known:
            return {}
        found = await self._api.client.ask(lambda c: c.admin.list_offsets(dict.fromkeys(known, spec)))
        return {key: place.offset for key, place in found.items() if place is not None}

    def _is_there(self, key: Key) -> bool:
        try:
            return key.partition < len(self._api.topic(key.topic).partitions)
        except Refusal:
            return False

    # Changes

    async def reset(self, request: Request) -> Response:
        name, body, client = request.required("id"), request.json(), self._api.client
        found = await client.ask(lambda c: c.admin.describe_group(name))
        if found.members:
            members = ", ".join(member.client_id or member.member_id for member in found.members[:10])
            raise Refusal(409, "NON_EMPTY_GROUP", f"its members must be stopped first: {members}")
        before = await client.ask(lambda c: c.admin.group_offsets(name))
        keys = self._chosen(body.get("topics"), before)
        after = await self._targets(str(body.get("to", "")), keys, {k: at.offset for k, at in before.items()})
        if body.get("dry_run") is not True and after:
            await client.ask(lambda c: c.admin.alter_group_offsets(name, after))
        rows = []
        for key in keys:
            old, new = before.get(key), after.get(key)
            moves = None if old is None or new is None else new - old.offset
            rows.append(
                {
                    "topic": key.topic,
                    "partition": key.partition,
                    "before": None if old is None else str(old.offset),
                    "after": _text(new),
                    "moves": _text(moves),
                }
            )
        return Response.of({"id": name, "dry_run": body.get("dry_run") is True, "rows": rows})

    def _chosen(self, topics: Any, committed: Any) -> list[Key]:
        """Partitions by topic, `{"orders": [0, 1]}`; without any, all that the group has committed."""
        if topics is None:
            return sorted(committed)
        if not isinstance(topics, dict):
            raise bad_request('topics is {"orders": [0, 1]}')
        keys = []
        for topic, numbers in topics.items():
            count = len(self._api.topic(topic).partitions)
            for number in numbers if isinstance(numbers, list) else range(count):
                if not isinstance(number, int) or isinstance(number, bool) or not 0 <= number < count:
                    raise bad_request(f"there is no partition {topic}-{str(number)[:20]}")
                keys.append(Key(topic, number))
        return sorted(set(keys))

    async def _targets(self, to: str, keys: list[Key], before: dict[Key, int]) -> dict[Key, int]:
        """Where each partition goes on, within what is there. Those that nothing is said of stay."""
        starts, ends = await self._places(keys, EARLIEST), await self._places(keys, LATEST)
        kind, _, rest = to.partition(":")
        wanted: dict[Key, int]
        if to == "earliest":
            wanted = starts
        elif to == "latest":
            wanted = ends
        elif kind == "time":
            wanted = {**ends, **await self._places(keys, _number(rest, 0))}
        elif kind == "offset":
            wanted = dict.fromkeys(keys, _number(rest, 0))
        elif kind == "shift":
            by = _number(rest, None)
            wanted = {key: before[key] + by for key in keys if key in before}
        elif kind == "group":
            other = await self._api.client.ask(lambda c: c.admin.group_offsets(rest))
            wanted = {key: other[key].offset for key in keys if key in other}
        else:
            raise bad_request("to is earliest, latest, time:MS, offset:N, shift:N or group:NAME")
        return {
            key: min(max(place, starts[key]), ends[key])
            for key, place in wanted.items()
            if key in starts and key in ends
        }

    async def delete(self, request: Request) -> Response:
        name = request.required("id")
        await self._api.client.ask(lambda c: c.admin.delete_group(name))
        return Response(status=204)

    async def forget(self, request: Request) -> Response:
        name, topic = request.required("id"), request.required("topic")
        committed = await self._api.client.ask(lambda c: c.admin.group_offsets(name))
        keys = [key for key in committed if key.topic == topic]
        if keys:
            await self._api.client.ask(lambda c: c.admin.delete_group_offsets(name, keys))
        return Response(status=204)


def _number(text: str, low: int | None) -> int:
    digits = text.removeprefix("-") if low is None else text
    if not (digits.isascii() and digits.isdigit() and len(digits) <= 19):
        raise bad_request(f"{text[:40]!r} is no number")
    return int(text)


def _text(number: int | None) -> str | None:
    return None if number is None else str(number)


def routes(api: Source) -> list[Route]:
    groups, base = Groups(api), "/api/v1/groups"
    return [
        Route(
            method="GET",
            path=f"{base}/detail",
            need=Need.READ,
            handle=groups.one,
            parameters=("id",),
            doc="A group: members, offsets, lag.",
        ),
        Route(
            method="POST",
            path=f"{base}/offsets",
            need=Need.CHANGE,
            handle=groups.reset,
            parameters=("id",),
            doc="Have an empty group go on elsewhere: `to`, `topics`, `dry_run`.",
        ),
        Route(
            method="DELETE",
            path=base,
            need=Need.CHANGE,
            handle=groups.delete,
            parameters=("id",),
            doc="Delete a group that has no members.",
        ),
        Route(
            method="DELETE",
            path=f"{base}/offsets",
            need=Need.CHANGE,
            handle=groups.forget,
            parameters=("id", "topic"),
            doc="Forget its offsets in a topic.",
        ),
    ]
