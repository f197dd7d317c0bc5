"""A session for who looks: a token for a cookie."""

from __future__ import annotations

import time

from raftlog.http.api.source import Source
from raftlog.http.guard import Need
from raftlog.http.messages import Refusal, Request, Response
from raftlog.http.routes import Route

BODY_MAX = 4096
"""What anybody may send is parsed in one go."""


class Session:
    def __init__(self, api: Source) -> None:
        self._api = api

    async def open(self, request: Request) -> Response:
        """A token for a cookie, so that a page need not keep it."""
        access = self._api.access
        token = request.json().get("token", "")
        role = access.role_of_token(token.encode(errors="replace")) if isinstance(token, str) else None
        if role is None and access.is_open:
            return Response.of({"role": "admin", "expires_s": None})
        if role is None:
            raise Refusal(401, "UNAUTHENTICATED", "that is no token of this broker")
        cookie = ("Set-Cookie", access.cookie_for(role, time.time()))
        return Response.of({"role": role.value, "expires_s": 8 * 3600}, headers=(cookie,))


def routes(api: Source) -> list[Route]:
    return [
        Route(
            method="POST",
            path="/api/v1/session",
            need=Need.SESSION,
            handle=Session(api).open,
            body_max=BODY_MAX,
            doc="A cookie for eight hours, for a `token`.",
        ),
    ]
