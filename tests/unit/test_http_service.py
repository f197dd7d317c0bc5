"""Who may ask the registry and the worker of connectors, without a broker: `raftlog.http.service`."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from raftlog.connect.rest import ConnectApp
from raftlog.connect.rest_connectors import ConnectorCalls
from raftlog.connect.rest_worker import WorkerCalls
from raftlog.http.guard import Tokens
from raftlog.http.messages import Head, Refusal, Response
from raftlog.http.service import HEADERS, Access, Service
from raftlog.registry.api import routes
from raftlog.registry.app import RegistryApp

NOTHING: Any = SimpleNamespace(state=None)
"""Handlers are not called here."""
BOTH = Tokens(admin=b"a" * 16, viewer=b"v" * 16)
NONE = Tokens(admin=None, viewer=None)
JSON = {"content-type": "application/json; charset=utf-8", "content-length": "2"}


def app(what: str, tokens: Tokens, *, asks_nobody: bool = False) -> Service:
    access = Access(what=what, tokens=tokens, hosts=["known"], asks_nobody=asks_nobody, closed="closed")
    if what == "registry":
        return RegistryApp(routes(NOTHING), access)
    return ConnectApp([*WorkerCalls("x").routes(), *ConnectorCalls(NOTHING, "me").routes()], access)


async def answer(app: Service, method: str, path: str, who: str = "", **headers: str) -> int:
    """What is answered before a handler is asked; 200 when one would be."""
    named = {"host": "known", **JSON, **{name.replace("_", "-"): value for name, value in headers.items()}}
    if who:
        named["authorization"] = f"Bearer {who * 16}"
    head = Head(method=method, path=tuple(path[1:].split("/")), query={}, headers=named, peer="127.0.0.1")
    try:
        await app.admit(head)
    except Refusal as refusal:
        return app.refused(refusal).status
    return 200


CHANGES = {"registry": "/config", "worker": "/connectors/x/config"}


@pytest.mark.parametrize("what", CHANGES)
async def test_who_may_change(what: str) -> None:
    """A token where there is one; none on loopback, or where it was said so."""
    change = CHANGES[what]
    guarded = app(what, BOTH)
    assert [await answer(guarded, "PUT", change, who) for who in ("", "x", "v", "a")] == [401, 401, 403, 200]
    assert [await answer(guarded, "GET", change, who) for who in ("", "x", "v", "a")] == [401, 401, 200, 200]
    assert await answer(app(what, BOTH, asks_nobody=True), "PUT", change) == 401
    assert await answer(app(what, NONE), "PUT", change) == 403
    assert await answer(app(what, NONE, asks_nobody=True), "PUT", change) == 200


@pytest.mark.parametrize("what", CHANGES)
async def test_what_is_refused_of_anybody(what: str) -> None:
    """Another's name, another site's page, another kind of body."""
    served, change = app(what, NONE, asks_nobody=True), CHANGES[what]
    assert await answer(served, "PUT", change, host="evil.example") == 421
    assert await answer(served, "PUT", change, origin="http://evil.example") == 403
    assert await answer(served, "PUT", change, content_type="text/plain") == 415
    assert await answer(served, "GET", "/nothing/of/ours") == 404


async def test_what_differs() -> None:
    """A slash at the end, and a change without a body."""
    registry, worker = (app(what, NONE, asks_nobody=True) for what in CHANGES)
    assert await answer(registry, "GET", "/subjects/") == 200
    assert await answer(worker, "PUT", "/connectors/x/stop", content_type="", content_length="0") == 200


async def test_a_probe_is_anybodys() -> None:
    """The worker's sign of life, whoever may ask for the rest."""
    worker = app("worker", NONE)
    assert await answer(worker, "GET", "/health", host="any") == 200
    head = Head(method="GET", path=("health",), query={}, headers={}, peer="127.0.0.1")
    assert worker.is_probe(head)
    assert worker.finish(head, Response(status=204)).headers == HEADERS


async def test_a_viewer_has_no_options_judged() -> None:
    """They may name files, `${file:…}`, which the worker reads then, and whose text a mistake may show."""
    worker = app("worker", BOTH)
    path = "/connector-plugins/postgres-cdc/config/validate"
    assert await answer(worker, "PUT", path, "v") == 403
    assert await answer(worker, "PUT", path, "a") == 200
