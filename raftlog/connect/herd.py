"""A worker that is told over HTTP what to run. It has each connector's options, whether it is to run, and how
it does; a connector that fails stays where it is until somebody restarts it.

A connector is one task, number 0. To pause one is to stop it: its group or its producer is left.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import trio

from raftlog.client.client import Client
from raftlog.client.metadata import TopicPartition
from raftlog.connect import flat
from raftlog.connect.configs import Configs, Target
from raftlog.connect.contract import Unit
from raftlog.connect.errors import ConnectError, ConnectorExists, ConnectorFailed, NoConnector
from raftlog.connect.pipeline import CONNECTORS_MAX, SinkSettings, Spec
from raftlog.connect.positions import Positions
from raftlog.connect.status import Status
from raftlog.connect.worker import run_one
from raftlog.errors import ConfigError

log: Final = logging.getLogger("raftlog.connect")

STOPPED_FIRST: Final = (
    "Connectors must be in the STOPPED state before their offsets can be modified. This can be done for the "
    "specified connector by issuing a 'PUT' request to the '/connectors/{}/stop' endpoint"
)


@dataclass
class Member:
    """A connector. Without a spec its options are wrong, and status says why."""

    name: str
    spec: Spec | None
    status: Status = field(default_factory=Status)
    scope: trio.CancelScope | None = None
    ended: trio.Event = field(default_factory=trio.Event)

    @property
    def kind(self) -> str:
        """As Kafka Connect says it."""
        return "unknown" if self.spec is None else "source" if self.spec.is_source else "sink"


class Herd:
    """The connectors, each by its name."""

    def __init__(self, client: Client, nursery: trio.Nursery, configs: Configs, positions_topic: str) -> None:
        self.configs = configs
        self.members: dict[str, Member] = {}
        self._client = client
        self._nursery = nursery
        self._positions_topic = positions_topic
        self._lock = trio.Lock()
        self._seen: dict[str, Positions] = {}
        self._looking = trio.Lock()

    async def start(self) -> None:
        """Run what is to run."""
        for name in self.configs.connectors:
            self._begin(name)

    async def create(self, name: str, config: dict[str, str], target: Target | None = None) -> None:
        """Have a new connector, which is to run unless something else is said. Raises ConfigError and
        ConnectorExists, and changes nothing."""
        flat.parse(name, config)
        async with self._lock:
            if name in self.listed():
                raise ConnectorExists(f"Connector {name} already exists")
            await self._set(name, config, target)

    async def put(self, name: str, config: dict[str, str]) -> bool:
        """Have a connector with these options; whether it is new. Raises ConfigError, and changes nothing."""
        flat.parse(name, config)
        async with self._lock:
            is_new = name not in self.listed()
            await self._set(name, config)
            return is_new

    async def _set(self, name: str, config: dict[str, str], target: Target | None = None) -> None:
        if name not in self.members and len(self.members) >= CONNECTORS_MAX:
            raise ConfigError(f"one worker runs {CONNECTORS_MAX} connectors")
        await self.configs.put(name, config, target)
        await self._end(name)
        self._begin(name)

    async def delete(self, name: str) -> None:
        """End a connector, and forget its options; its offsets stay, as in Kafka Connect."""
        async with self._lock:
            self._member(name)
            await self.configs.delete(name)
            await self._end(name)
            del self.members[name]
            self._seen.pop(name, None)

    async def aim(self, name: str, target: Target) -> None:
        """Have a connector run or not."""
        async with self._lock:
            self._member(name)
            if self.configs.targets.get(name, "RUNNING") != target:
                await self.configs.aim(name, target)
                await self._end(name)
                self._begin(name)

    async def restart(self, name: str, *, only_failed: bool = False) -> None:
        """End a connector, and run it anew."""
        async with self._lock:
            if self._member(name).status.state == "FAILED" or not only_failed:
                await self._end(name)
                self._begin(name)

    def listed(self) -> dict[str, Member]:
        """Those that have options. One that is being deleted has none, and is there until it has ended."""
        return {name: one for name, one in self.members.items() if name in self.configs.connectors}

    def _member(self, name: str) -> Member:
        """Whom somebody may have deleted while this waited for the lock. Raises NoConnector."""
        member = self.listed().get(name)
        if member is None:
            raise NoConnector(f"Connector {name} not found")
        return member

    def _begin(self, name: str) -> None:
        before = self.members.get(name)
        member = self.members[name] = Member(name, None)
        if before is not None:
            member.status.topics = before.status.topics  # until somebody has them forgotten
        try:
            member.spec = flat.parse(name, self.configs.connectors[name])
        except ConfigError as error:
            member.status.state, member.status.trace = "FAILED", str(error)
            return
        target = self.configs.targets.get(name, "RUNNING")
        if target != "RUNNING":
            member.status.state = target
            return
        member.scope = trio.CancelScope()
        self._nursery.start_soon(self._run, member, member.scope, member.spec)

    async def _run(self, member: Member, scope: trio.CancelScope, spec: Spec) -> None:
        try:
            with scope:
                await run_one(spec, self._client, self._positions_topic, member.status)
        except ConnectorFailed as error:
            log.error("%s", error)
        except Exception as error:  # a mistake in one connector is not the end of the others
            log.exception("connector %s met an error of its own", member.name)
            member.status.state, member.status.trace = "FAILED", f"{type(error).__name__}: {error}"
        finally:
            member.ended.set()

    async def _end(self, name: str) -> None:
        member = self.members.get(name)
        if member is not None and member.scope is not None:
            member.scope.cancel()
            await member.ended.wait()

    # -- offsets

    async def offsets(self, name: str) -> list[dict[str, Any]]:
        """Where a connector is, as Kafka Connect tells it."""
        spec = self._member(name).spec
        if spec is None:
            return []
        if isinstance(spec.settings, SinkSettings):
            found = await self._client.admin.group_offsets(_group(spec.settings, name))
            return [
                {
                    "partition": {"kafka_topic": key.topic, "kafka_partition": key.partition},
                    "offset": {"kafka_offset": place.offset},
                }
                for key, place in sorted(found.items())
            ]
        positions = await self._positions(name)
        return [
            {"partition": unit.partition, "offset": dict(position)}
            for unit, position in positions.stored.items()
        ]

    async def change_offsets(self, name: str, wanted: Sequence[tuple[dict[str, Any], Any]]) -> None:
        """Have a stopped connector go on elsewhere; None forgets where it was. Raises ConnectError."""
        async with self._lock:
            await self._change_offsets(name, self._stopped(name), wanted)

    async def forget_offsets(self, name: str) -> None:
        """Have a stopped connector begin anew. Raises ConnectError."""
        async with self._lock:
            spec = self._stopped(name)
            there = await self.offsets(name)
            await self._change_offsets(name, spec, [(one["partition"], None) for one in there])

    def _stopped(self, name: str) -> Spec:
        """Who may be moved, as long as the lock is held. Raises ConnectError."""
        member = self._member(name)
        if member.status.state != "STOPPED" or member.spec is None:
            raise ConnectError(STOPPED_FIRST.format(name))
        return member.spec

    async def _change_offsets(
        self, name: str, spec: Spec, wanted: Sequence[tuple[dict[str, Any], Any]]
    ) -> None:
        if isinstance(spec.settings, SinkSettings):
            return await self._change_group(_group(spec.settings, name), wanted)
        positions = await self._positions(name)
        async with (
            self._client.producer(transactional_id=f"connect-{name}") as producer,
            producer.transaction(),
        ):
            for partition, offset in wanted:
                key, value = positions.record(Unit.of(**partition), offset or {})
                await producer.send_soon(positions.topic, None if offset is None else value, key=key)

    async def _change_group(self, group: str, wanted: Sequence[tuple[dict[str, Any], Any]]) -> None:
        moved, gone = {}, []
        for partition, offset in wanted:
            try:
                key = TopicPartition(str(partition["kafka_topic"]), int(partition["kafka_partition"]))
                if offset is None:
                    gone.append(key)
                else:
                    moved[key] = int(offset["kafka_offset"])
            except (KeyError, TypeError, ValueError) as error:
                raise ConnectError(
                    'of a sink it is {"kafka_topic": …, "kafka_partition": …} and {"kafka_offset": …}'
                ) from error
        if moved:
            await self._client.admin.alter_group_offsets(group, moved)
        if gone:
            await self._client.admin.delete_group_offsets(group, gone)

    async def _positions(self, name: str) -> Positions:
        """As far as they are known, and what has come since: consoles ask again and again."""
        async with self._looking:
            found = self._seen.get(name)
            if found is None:
                found = Positions(self._client, self._positions_topic, name, "start")
            await found.load_more()
            if name in self.members:
                self._seen[name] = found
            return found


def _group(settings: SinkSettings, name: str) -> str:
    return settings.group or f"connect-{name}"
