"""What a worker that is told over HTTP runs: a compacted topic, in the format of Kafka Connect's own.

`connector-NAME` has a connector's options, `target-state-NAME` whether it is to run.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from typing import Any, Final, Literal

from raftlog.client.client import Client
from raftlog.client.producer import Producer
from raftlog.connect.contract import to_json
from raftlog.connect.topics import read_all

log: Final = logging.getLogger("raftlog.connect")

TOPIC: Final = "connect-configs"
CONNECTOR: Final = "connector-"
TARGET: Final = "target-state-"


def transactional_id(topic: str) -> str:
    """Of a worker's producer. No connector's has it, `connect-NAME`: no name has a colon."""
    return f"connect-configs:{topic}"


Target = Literal["RUNNING", "PAUSED", "STOPPED"]
_TARGETS: Final[dict[str, Target]] = {"PAUSED": "PAUSED", "STOPPED": "STOPPED"}


def _aimed(target: Target) -> dict[str, Any]:
    """Workers from before STOPPED take it for PAUSED."""
    return {"state": "PAUSED" if target == "STOPPED" else target, "state.v2": target}


class Configs:
    """All of a worker's. They are changed by one at a time."""

    def __init__(self, topic: str, producer: Producer) -> None:
        self.topic = topic
        self._producer = producer
        self.connectors: dict[str, dict[str, str]] = {}
        self.targets: dict[str, Target] = {}

    async def load(self, client: Client) -> None:
        """Read all that is there. Raises ConnectError."""
        await read_all(client, self.topic, self._take)

    def _take(self, key: bytes | None, value: bytes | None) -> None:
        name = (key or b"").decode("utf-8", "replace")
        try:
            found = None if value is None else json.loads(value)
            if name.startswith(CONNECTOR):
                given = None if found is None else found["properties"]
                self._is(name.removeprefix(CONNECTOR), given)
            elif name.startswith(TARGET):
                state = "RUNNING" if found is None else found.get("state.v2", found["state"])
                self.targets[name.removeprefix(TARGET)] = _TARGETS.get(state, "RUNNING")
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            log.warning("%s has something at %s that is no configuration", self.topic, name[:100])

    def _is(self, name: str, config: Any) -> None:
        if config is None:
            self.connectors.pop(name, None)
            self.targets.pop(name, None)
        else:
            self.connectors[name] = {str(key): str(value) for key, value in config.items()}

    async def put(self, name: str, config: dict[str, str], target: Target | None = None) -> None:
        """These are a connector's options from now on; whether it is to run stays as it is, or is said with
        them."""
        aimed = {} if target is None else {TARGET + name: _aimed(target)}
        await self._write({CONNECTOR + name: {"properties": config}, **aimed})
        self._is(name, config)
        if target is not None:
            self.targets[name] = target

    async def delete(self, name: str) -> None:
        """There is no such connector any more."""
        await self._write({CONNECTOR + name: None, TARGET + name: None})
        self._is(name, None)

    async def aim(self, name: str, target: Target) -> None:
        """A connector is to run or not."""
        await self._write({TARGET + name: _aimed(target)})
        self.targets[name] = target

    async def _write(self, values: Mapping[str, dict[str, Any] | None]) -> None:
        """All or nothing, whenever the worker is killed."""
        async with self._producer.transaction():
            for key, value in values.items():
                await self._producer.send_soon(
                    self.topic, None if value is None else to_json(value).encode(), key=key.encode()
                )
