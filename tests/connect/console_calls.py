"""What kafbat UI and AKHQ ask of Kafka Connect, as calls in an order, and what an answer looks like.

`python -m tests.connect.record_kafka_connect` plays them on Kafka Connect itself, and keeps the answers in
`kafka_connect_answers.json`; the tests play them on ours, and compare.
"""

from __future__ import annotations

import json
import time
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.error import HTTPError

RECORDED: Final = Path(__file__).with_name("kafka_connect_answers.json")
PATIENCE_S: Final = 60.0
FREE: Final = ("config", "offset", "partition", "value", "recommended_values", "src", "out")
"""Fields in which anything may be: what is in them is not a part of an answer's form."""


@dataclass(frozen=True)
class Peer:
    """Who is asked, and its connectors: a source of lines, and a sink."""

    url: str
    source_class: str
    source: dict[str, str]
    sink: dict[str, str]
    partition: dict[str, str]
    """Of the source, as its offsets tell it."""

    def ask(self, method: str, path: str, body: object = None) -> tuple[int, Any]:
        """Status and answer; None for an empty one."""
        data = None if body is None else json.dumps(body).encode()
        headers = {} if body is None else {"Content-Type": "application/json"}
        request = urllib.request.Request(self.url + path, method=method, data=data, headers=headers)
        try:
            with urllib.request.urlopen(request, timeout=PATIENCE_S) as answer:
                status, text = answer.status, answer.read()
        except HTTPError as error:
            with error:
                status, text = error.code, error.read()
        try:
            return status, json.loads(text) if text else None
        except ValueError:
            return status, "no JSON"


Call = tuple[str, str, object]


def calls(peer: Peer) -> dict[str, Call | Callable[[], bool]]:
    """By name; functions are waited for until they say yes."""

    def is_(name: str, state: str, tasks: int) -> Callable[[], bool]:
        def there() -> bool:
            status, found = peer.ask("GET", f"/connectors/{name}/status")
            if status != 200:
                return False
            states = [found["connector"]["state"], *(one["state"] for one in found["tasks"])]
            return states == [state] * (1 + tasks)

        return there

    def has_offsets() -> bool:
        status, found = peer.ask("GET", "/connectors/src/offsets")
        return status == 200 and bool(found["offsets"])

    named = {**peer.source, "name": "src"}
    validate = f"/connector-plugins/{peer.source_class}/config/validate"
    moved = {"offsets": [{"partition": peer.partition, "offset": {"position": 0}}]}
    return {
        "root": ("GET", "/", None),
        "plugins": ("GET", "/connector-plugins", None),
        "no connectors": ("GET", "/connectors", None),
        "create": ("POST", "/connectors", {"name": "src", "config": peer.source}),
        "1": is_("src", "RUNNING", 1),
        "create again": ("POST", "/connectors", {"name": "src", "config": peer.source}),
        "create without a class": ("POST", "/connectors", {"name": "x", "config": {"topic": "t"}}),
        "create without an option": (
            *("POST", "/connectors"),
            {"name": "x", "config": {"connector.class": peer.source_class}},
        ),
        "create, names differ": ("POST", "/connectors", {"name": "x", "config": named}),
        "connectors": ("GET", "/connectors", None),
        "connector": ("GET", "/connectors/src", None),
        "no connector": ("GET", "/connectors/nobody", None),
        "config": ("GET", "/connectors/src/config", None),
        "no config": ("GET", "/connectors/nobody/config", None),
        "put": ("PUT", "/connectors/src/config", named),
        "put a new one": ("PUT", "/connectors/out/config", peer.sink),
        "put a wrong one": ("PUT", "/connectors/src/config", {"connector.class": peer.source_class}),
        "2": is_("src", "RUNNING", 1),
        "3": is_("out", "RUNNING", 1),
        "4": has_offsets,
        "status": ("GET", "/connectors/src/status", None),
        "status of a sink": ("GET", "/connectors/out/status", None),
        "no status": ("GET", "/connectors/nobody/status", None),
        "tasks": ("GET", "/connectors/src/tasks", None),
        "no tasks": ("GET", "/connectors/nobody/tasks", None),
        "task": ("GET", "/connectors/src/tasks/0/status", None),
        "no task": ("GET", "/connectors/src/tasks/9/status", None),
        "topics": ("GET", "/connectors/src/topics", None),
        "expanded": ("GET", "/connectors?expand=info&expand=status", None),
        "expanded by status": ("GET", "/connectors?expand=status", None),
        "pause": ("PUT", "/connectors/src/pause", None),
        "5": is_("src", "PAUSED", 1),
        "status of a paused one": ("GET", "/connectors/src/status", None),
        "resume": ("PUT", "/connectors/src/resume", None),
        "6": is_("src", "RUNNING", 1),
        "restart": ("POST", "/connectors/src/restart", None),
        "restart with tasks": ("POST", "/connectors/src/restart?includeTasks=true&onlyFailed=false", None),
        "restart nobody": ("POST", "/connectors/nobody/restart", None),
        "7": is_("src", "RUNNING", 1),
        "restart a task": ("POST", "/connectors/src/tasks/0/restart", None),
        "restart no task": ("POST", "/connectors/src/tasks/9/restart", None),
        "8": is_("src", "RUNNING", 1),
        "offsets": ("GET", "/connectors/src/offsets", None),
        "offsets of nobody": ("GET", "/connectors/nobody/offsets", None),
        "change offsets of one that runs": ("PATCH", "/connectors/src/offsets", moved),
        "forget offsets of one that runs": ("DELETE", "/connectors/src/offsets", None),
        "stop": ("PUT", "/connectors/src/stop", None),
        "9": is_("src", "STOPPED", 0),
        "status of a stopped one": ("GET", "/connectors/src/status", None),
        "tasks of a stopped one": ("GET", "/connectors/src/tasks", None),
        "change offsets": ("PATCH", "/connectors/src/offsets", moved),
        "change no offsets": ("PATCH", "/connectors/src/offsets", {"offsets": []}),
        "offsets of a stopped one": ("GET", "/connectors/src/offsets", None),
        "forget offsets": ("DELETE", "/connectors/src/offsets", None),
        "forgotten offsets": ("GET", "/connectors/src/offsets", None),
        "stop nobody": ("PUT", "/connectors/nobody/stop", None),
        "validate": ("PUT", validate, named),
        "validate a wrong one": ("PUT", validate, {"connector.class": peer.source_class}),
        "validate nothing": ("PUT", "/connector-plugins/nothing/config/validate", {"name": "x"}),
        "forget topics": ("PUT", "/connectors/src/topics/reset", None),
        "loggers": ("GET", "/admin/loggers", None),
        "set a logger": ("PUT", "/admin/loggers/root", {"level": "INFO"}),
        "health": ("GET", "/health", None),
        "nowhere": ("GET", "/nowhere", None),
        "wrong method": ("DELETE", "/connectors", None),
        "delete": ("DELETE", "/connectors/src", None),
        "delete nobody": ("DELETE", "/connectors/nobody", None),
    }


def play(peer: Peer) -> dict[str, Any]:
    """All of them: what was answered."""
    answers: dict[str, Any] = {}
    for name, call in calls(peer).items():
        if callable(call):
            give_up = time.monotonic() + PATIENCE_S
            while not call():
                assert time.monotonic() < give_up, (name, peer.ask("GET", "/connectors?expand=status"))
                time.sleep(0.1)
        else:
            status, answer = peer.ask(*call)
            answers[name] = {"status": status, "answer": answer}
    return answers


def form(answer: Any) -> Any:
    """What an answer looks like: names of fields, types of values; of a list what its members have."""
    match answer:
        case dict():
            return {
                name: "…" if name in FREE and not isinstance(value, dict) else _inside(name, value)
                for name, value in answer.items()
            }
        case list():
            return [form(answer[0])] if answer else []
        case None:
            return None
    return type(answer).__name__


def _inside(name: str, value: Any) -> Any:
    return "…" if name in FREE and name not in ("src", "out", "value") else form(value)
