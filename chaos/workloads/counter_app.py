"""The app of the workload `counter`, as a process of its own: PROPERTIES STATE NAME, and a bug to be planted.

Each event is counted under its key, behind a repartition, exactly once, and each count is sent on.
"""

from __future__ import annotations

import json
import signal
import sys
from collections.abc import Callable, Iterator
from typing import Any, Final

import trio

from chaos.values import key_of, name_of
from chaos.workloads.producers import TRIO
from raftlog import from_properties
from raftlog import streams as rs
from raftlog.client.commits import GroupMetadata
from raftlog.client.group import Member
from raftlog.streams.task import Task

NAME: Final = "counter"
EVENTS: Final = "events"
COUNTS: Final = "counts"
SESSION_MS: Final = 6_000
HASTY: Final = "state ahead of commit"
NAMELESS: Final = "offsets of whoever is no member"
CAN_BE_STOPPED: Final = "listens to SIGTERM"
"""A worker prints this once it handles the signal. Before that SIGTERM ends the process with -15."""


def counter() -> rs.App:
    app = rs.App(NAME, guarantee="exactly_once")
    store = app.store("kept", value=rs.INT)
    events = app.stream(EVENTS).key_by(lambda value: key_of(name_of(value)), value=rs.BYTES)

    @events.process(store)
    def count(record: rs.Record, kept: rs.State) -> Iterator[int]:
        seen = kept.get(record.key, 0) + 1
        kept.set(record.key, seen)
        yield seen

    count.to(COUNTS, value=rs.JSON)
    return app


class Impatient:
    """A client whose groups miss a member soon: a worker that was killed is not waited for long."""

    def __init__(self, client: Any) -> None:
        self._client = client

    def consumer(self, *topics: str, **settings: Any) -> Any:
        if settings.get("group"):
            settings |= {"session_timeout_ms": SESSION_MS, "heartbeat_interval_ms": 500}
        return self._client.consumer(*topics, **settings)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)


def plant(name: str) -> None:
    """A bug that the checker of counts has to find."""
    PLANTS[name]()


def _hasty() -> None:
    """Changes go to the disk when a commit begins."""
    prepare = Task.prepare

    def hasty(self: Task) -> Any:
        prepared = prepare(self)
        self.committed({})
        self.flush()
        return prepared

    Task.prepare = hasty  # type: ignore[method-assign]


def _nameless() -> None:
    """A transaction's offsets are committed without member and generation, as before KIP-447: who slept while
    its partitions became another's still commits."""
    nobody = Member()
    GroupMetadata.check = lambda self, keys: None  # type: ignore[method-assign]
    GroupMetadata.member = property(lambda self: nobody)  # type: ignore[assignment]


PLANTS: Final[dict[str, Callable[[], None]]] = {HASTY: _hasty, NAMELESS: _nameless}


async def main(properties: str, state: str, name: str) -> None:
    """Until SIGTERM. The worker has its client until it has ended: it commits, and leaves its group."""
    with trio.open_signal_receiver(signal.SIGTERM) as signals:
        print(CAN_BE_STOPPED, flush=True)
        async with (
            from_properties(json.loads(properties), client_id=name, **TRIO) as client,
            trio.open_nursery() as nursery,
        ):

            async def work() -> None:
                await rs.run(counter(), Impatient(client), state=state, name=name)  # type: ignore[arg-type]

            nursery.start_soon(work)
            async for _ in signals:
                nursery.cancel_scope.cancel()


if __name__ == "__main__":
    if len(sys.argv) > 4:
        plant(sys.argv[4])
    at, folder, called = sys.argv[1:4]
    trio.run(main, at, folder, called)
