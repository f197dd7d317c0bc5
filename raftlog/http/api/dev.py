"""What a broker of `raftlog dev` lets be done to it: only with `raftlog.dev.faults`, and only on loopback."""

from __future__ import annotations

import time
from typing import Final

import trio

from raftlog.http.api.context import Api
from raftlog.http.api.record_text import bytes_of
from raftlog.http.guard import Need
from raftlog.http.messages import Refusal, Request, Response, bad_request
from raftlog.http.routes import Route
from raftlog.http.view import Faults
from raftlog.types import BrokerId

SLOW_MS_MAX: Final = 600_000
OWN_DISK_S: Final = 1.0
"""How long a record that is answered is followed further: two followers may have it on their disks before
its leader has."""
OWN_DISK_POLL_S: Final = 0.02


class Dev:
    def __init__(self, api: Api, faults: Faults) -> None:
        self._api = api
        self._faults = faults
        self._is_following = False

    async def set(self, request: Request) -> Response:
        """All that is wrong from now on: links to whom are cut, how much longer a sync takes."""
        body = request.json()
        match body:
            case {"cut": list(cut), "slow_ms": int(slow)} if 0 <= slow <= SLOW_MS_MAX:
                if not all(isinstance(broker, int) for broker in cut):
                    raise bad_request("cut is a list of brokers")
                self._faults.set(frozenset(map(BrokerId, cut)), slow / 1000)
            case _:
                raise bad_request('it takes {"cut": [2, 3], "slow_ms": 0}')
        return Response.of(body)

    async def trace(self, request: Request) -> Response:
        """Produce one record here and tell its way. One at a time: the event loop is watched."""
        body = request.json()
        topic, partition = body.get("topic"), body.get("partition")
        if not isinstance(topic, str) or not isinstance(partition, int):
            raise bad_request("a record is followed to a topic and a partition")
        self._api.group_of(topic, str(partition))
        key, value = bytes_of(body.get("key"), "key"), bytes_of(body.get("value"), "value")
        if self._is_following:
            raise Refusal(503, "BUSY", "another record is being followed", retriable=True)
        client = await self._api.client.get()
        self._is_following = True
        try:
            async with client.producer(acks="all", linger_ms=0) as producer:
                with self._faults.follow() as followed:
                    began = time.monotonic()
                    last = await producer.send(topic, value, key=key, partition=partition)
                    took = round(1000 * (time.monotonic() - began), 1)
                    with trio.move_on_after(OWN_DISK_S):
                        while not followed.is_whole():  # noqa: ASYNC110
                            await trio.sleep(OWN_DISK_POLL_S)
        finally:
            self._is_following = False
        steps = followed.steps()
        if not steps:
            told = f"{topic}-{partition} was led by another broker when the record came: follow another one"
            raise Refusal(503, "NOT_LEADER_OR_FOLLOWER", told, retriable=True)
        return Response.of(
            {
                "partition": last.partition,
                "offset": str(last.offset),
                "count": 1,
                "ms": took,
                "trace": steps,
            }
        )


def routes(api: Api | None) -> list[Route]:
    if api is None or api.view.faults is None:
        return []
    dev = Dev(api, api.view.faults)
    return [
        Route(method="POST", path="/api/v1/dev/faults", need=Need.CHANGE, handle=dev.set, doc=""),
        Route(method="POST", path="/api/v1/dev/trace", need=Need.CHANGE, handle=dev.trace, doc=""),
    ]
