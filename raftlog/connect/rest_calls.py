"""What the calls of the REST interface share: how one is described, and options as texts."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

from raftlog.http.guard import Need
from raftlog.http.messages import Refusal, Response
from raftlog.http.routes import Route

BODY_BYTES_MAX: Final = 1 << 20

Handler = Callable[..., Awaitable[Response]]


def route(method: str, path: str, handle: Handler, doc: str) -> Route:
    """A call. Parameters that it does not know are passed over. To have options judged needs what to set them
    needs: the worker reads the files that they name."""
    return Route(
        method=method,
        path=path,
        need=Need.READ if method == "GET" else Need.CHANGE,
        handle=handle,
        doc=doc,
        parameters=None,
        body_max=BODY_BYTES_MAX if method in ("POST", "PUT", "PATCH") else 0,
    )


def text(value: Any) -> str:
    match value:
        case bool():
            return "true" if value else "false"
        case tuple():
            return ",".join(map(str, value))
    return str(value)


def flat_of(config: Any) -> dict[str, str]:
    """Options as texts. Raises Refusal for what is no flat map."""
    if not isinstance(config, Mapping):
        raise Refusal(400, "BAD_REQUEST", "the connector's options are a JSON object")
    for name, value in config.items():
        if not isinstance(value, str | int | float | bool):
            raise Refusal(400, "BAD_REQUEST", f"option {name[:100]!r} is no text")
    return {name: text(value) for name, value in config.items()}
