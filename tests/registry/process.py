"""`raftlog registry` as a process, and what a test asks of it."""

from __future__ import annotations

import http.client
import json
import selectors
import signal
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any
from urllib.parse import urlencode

from raftlog.testing.processes import RAFTLOG, free_port

PATIENCE_S = 60.0
CONTENT_TYPE = "application/vnd.schemaregistry.v1+json"


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    body: bytes
    headers: Mapping[str, str]

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def error(self) -> tuple[int, int]:
        return self.status, self.json["error_code"]


class RegistryProcess:
    """Started with `with`."""

    def __init__(self, bootstrap: str, log: Path, *arguments: str, host: str = "127.0.0.1") -> None:
        self.port = free_port()
        self.ready = ""
        self._log = log
        self._command = [
            *RAFTLOG,
            "registry",
            "--bootstrap",
            bootstrap,
            "--listen",
            f"{host}:{self.port}",
            *arguments,
        ]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        return self._process.pid

    def __enter__(self) -> RegistryProcess:
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(self._command, stdout=subprocess.PIPE, stderr=log)
        assert self._process.stdout is not None
        with selectors.DefaultSelector() as selector:
            selector.register(self._process.stdout, selectors.EVENT_READ)
            assert selector.select(PATIENCE_S), "it said nothing"
        self.ready = self._process.stdout.readline().decode()
        assert self.ready.startswith("ready "), self._log.read_text()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def stop(self, number: signal.Signals = signal.SIGTERM) -> None:
        self._process.send_signal(number)
        self._process.wait(PATIENCE_S)
        assert self._process.stdout is not None
        self._process.stdout.close()

    def ask(
        self,
        method: str,
        path: str,
        body: object = None,
        *,
        headers: Mapping[str, str] | None = None,
        **query: object,
    ) -> Answer:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE_S)
        sent = {"Content-Type": CONTENT_TYPE, **(headers or {})}
        data = body if isinstance(body, bytes | None) else json.dumps(body).encode()
        try:
            connection.request(method, f"{path}?{urlencode(query)}" if query else path, data, sent)
            answer = connection.getresponse()
            return Answer(answer.status, answer.read(), dict(answer.getheaders()))
        finally:
            connection.close()

    def register(self, subject: str, schema: object, kind: str = "AVRO", **query: object) -> Answer:
        """A schema given as text, or as what is JSON of it."""
        return self.ask("POST", f"/subjects/{subject}/versions", schema_body(schema, kind), **query)


def schema_body(schema: object, kind: str = "AVRO") -> dict[str, object]:
    return {"schema": schema if isinstance(schema, str) else json.dumps(schema), "schemaType": kind}


def record(name: str, *fields: str, **defaults: object) -> dict[str, object]:
    """An Avro record of longs; those with a default are named as keywords."""
    plain: list[dict[str, object]] = [{"name": field, "type": "long"} for field in fields]
    more: list[dict[str, object]] = [
        {"name": field, "type": "long", "default": value} for field, value in defaults.items()
    ]
    return {"type": "record", "name": name, "fields": plain + more}
