"""A worker: the connectors of a pipeline in one process. One that fails for good ends all, with its reason,
so that whoever supervises the process sees it."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Sequence
from contextlib import nullcontext
from typing import Final

import trio

from raftlog.client.client import Client, open_client
from raftlog.client.errors import ClientError
from raftlog.client.nursery import background
from raftlog.connect import positions, topics
from raftlog.connect.errors import ConnectError, ConnectorFailed
from raftlog.connect.pipeline import Spec, load
from raftlog.connect.sinking import SinkRunner
from raftlog.connect.sourcing import SourceRunner
from raftlog.connect.status import Status
from raftlog.errors import ConfigError

log: Final = logging.getLogger("raftlog.connect")

STOP_SECONDS_MAX: Final = 10.0
"""How long connectors that are cancelled may take for their last flush and their goodbye."""


async def run(
    pipeline: str | Sequence[Spec],
    brokers: str | Client = "localhost:9092",
    *,
    positions_topic: str = positions.TOPIC,
) -> None:
    """Run the connectors of a pipeline until this is cancelled: `trio.run(run, "pipeline.toml")`.

    `pipeline` is a file, or what `load` or `parse` made; `brokers` are addresses, or a client, whose
    `async with` must outlive this call; sources keep their positions in `positions_topic`.

    Raises ConfigError, and ConnectorFailed with the connector's name. Cancelled, sinks flush and commit; what
    a source has not written comes again.
    """
    specs = load(pipeline) if isinstance(pipeline, str) else list(pipeline)
    _check(specs)
    await outlived(brokers, lambda client: _run_all(specs, client, positions_topic))


async def outlived(brokers: str | Client, work: Callable[[Client], Awaitable[None]]) -> None:
    """Do something with a client that ends after it. Cancelled, connectors end first: who leaves its group
    needs the client for it."""
    life, doing = trio.CancelScope(shield=True), trio.CancelScope()
    async with background() as nursery:
        with life:
            async with open_client(brokers) if isinstance(brokers, str) else nullcontext(brokers) as client:
                nursery.start_soon(_stop_when_cancelled, doing, life)
                with doing:
                    await work(client)
        nursery.cancel_scope.cancel()


async def _stop_when_cancelled(work: trio.CancelScope, life: trio.CancelScope) -> None:
    try:
        await trio.sleep_forever()
    finally:
        work.cancel()
        life.deadline = trio.current_time() + STOP_SECONDS_MAX


async def _run_all(specs: Sequence[Spec], client: Client, positions_topic: str) -> None:
    if any(spec.is_source for spec in specs):
        await topics.prepare(client, positions_topic)
    async with background() as nursery:
        for spec in specs[1:]:
            nursery.start_soon(run_one, spec, client, positions_topic, Status())
        await run_one(specs[0], client, positions_topic, Status())


async def run_one(spec: Spec, client: Client, positions_topic: str, status: Status) -> None:
    """Run a connector until this is cancelled. Raises ConnectorFailed."""
    log.info("connector %s: %s", spec.name, spec.kind)
    try:
        if spec.is_source:
            await SourceRunner(spec, client, positions_topic, status).run()
        else:
            await SinkRunner(spec, client, status).run()
    except (ConnectError, ClientError, ConfigError, OSError) as error:
        status.state, status.trace = "FAILED", str(error)
        raise ConnectorFailed(spec.name, str(error)) from error


def _check(specs: Sequence[Spec]) -> None:
    if not specs:
        raise ConfigError("there is no connector to run")
    names = [spec.name for spec in specs]
    twice = {name for name in names if names.count(name) > 1}
    if twice:
        raise ConfigError(f"two connectors are called {min(twice)!r}: give each a name of its own")
