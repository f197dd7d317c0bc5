"""The console's files over HTTP: the same for everybody, so that who may see nothing is told what is
missing."""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio

from raftlog.http.guard import Need
from raftlog.http.messages import Refusal, Request, Response
from raftlog.http.routes import Route

if TYPE_CHECKING:
    from raftlog.console.assets import Asset


class Page:
    """Reads the files with the first request, in a thread."""

    def __init__(self) -> None:
        self._assets: dict[str, Asset] | None = None

    async def index(self, request: Request) -> Response:
        return await self._give(request, "index.html")

    async def file(self, request: Request, name: str) -> Response:
        return await self._give(request, name)

    async def vendored(self, request: Request, name: str) -> Response:
        return await self._give(request, f"vendor/{name}")

    async def _give(self, request: Request, path: str) -> Response:
        if self._assets is None:
            from raftlog.console.assets import read_assets

            self._assets = await trio.to_thread.run_sync(read_assets)
        asset = self._assets.get(path)
        if asset is None:
            raise Refusal(404, "NOT_FOUND", "there is no such file")
        headers = (("ETag", asset.etag), ("Cache-Control", "no-cache"), ("Vary", "Accept-Encoding"))
        if request.headers.get("if-none-match") == asset.etag:
            return Response(status=304, content_type=asset.content_type, headers=headers)
        if "gzip" not in request.headers.get("accept-encoding", ""):
            return Response(content_type=asset.content_type, headers=headers, body=asset.body)
        packed = (*headers, ("Content-Encoding", "gzip"))
        return Response(content_type=asset.content_type, headers=packed, body=asset.packed)


def routes(page: Page) -> list[Route]:
    return [
        Route(method="GET", path="/", need=Need.PROBE, handle=page.index, doc="The console."),
        Route(
            method="GET",
            path="/console/{}",
            need=Need.PROBE,
            handle=page.file,
            doc="Its scripts and its stylesheet.",
        ),
        Route(
            method="GET",
            path="/console/vendor/{}",
            need=Need.PROBE,
            handle=page.vendored,
            doc="Libraries that it uses, as they were published.",
        ),
    ]
