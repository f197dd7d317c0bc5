"""A distributed worker of Kafka Connect, and its REST."""

from __future__ import annotations

import json
import socket
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final
from urllib.error import HTTPError

from tests.foreign.commands import Background, JavaTools

REST_PATIENCE_S: Final = 60.0
GROUP: Final = "workers"


class Worker:
    """Its configurations, offsets and states are in three topics, and its sources may write exactly once.
    `more` are settings of the worker."""

    def __init__(
        self, apps: JavaTools, bootstrap: str, folder: Path, more: Mapping[str, str] | None = None
    ) -> None:
        with socket.socket() as found:
            found.bind(("127.0.0.1", 0))
            self._url = f"http://127.0.0.1:{found.getsockname()[1]}"
        settings = {
            "bootstrap.servers": bootstrap,
            "group.id": GROUP,
            "key.converter": "org.apache.kafka.connect.storage.StringConverter",
            "value.converter": "org.apache.kafka.connect.storage.StringConverter",
            "offset.flush.interval.ms": "500",
            "exactly.once.source.support": "enabled",
            "listeners": self._url,
            "plugin.discovery": "service_load",
            **(more or {}),
        }
        for kind in ("config", "offset", "status"):
            settings[f"{kind}.storage.topic"] = f"of-{kind}"
            settings[f"{kind}.storage.replication.factor"] = "3"
        properties = folder / "worker.properties"
        properties.write_text("".join(f"{name}={value}\n" for name, value in settings.items()))
        self.program = Background(apps.program("org.apache.kafka.connect.cli.ConnectDistributed", properties))

    def ask(self, method: str, path: str, body: object = None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        headers = {"Content-Type": "application/json"}
        request = urllib.request.Request(self._url + path, method=method, data=data, headers=headers)
        with urllib.request.urlopen(request, timeout=REST_PATIENCE_S) as answer:
            return json.loads(answer.read())

    def configure(self, name: str, settings: dict[str, str]) -> None:
        """Once the worker is up, and its group has settled."""

        def is_taken() -> bool:
            try:
                self.ask("PUT", f"/connectors/{name}/config", settings)
            except (HTTPError, OSError):
                return False
            return True

        self.program.until(f"the worker takes {name}", is_taken)

    def must_run(self, name: str) -> None:
        """The connector's only task."""
        (task,) = self.ask("GET", f"/connectors/{name}/status")["tasks"]
        assert task["state"] == "RUNNING", task
