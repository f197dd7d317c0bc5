"""A browser that reads nothing any more (scenario 14)."""

from __future__ import annotations

from typing import Any

import trio
import trio.testing

from raftlog.http.connection import WRITE_S, Connection, Terms
from raftlog.http.messages import Head, Refusal, Request, Response, Send

PIECE = bytes(1 << 20)


class Streaming:
    """Answers every request with a stream that has more to say for ever."""

    def __init__(self) -> None:
        self.asked = 0
        """Pieces that were asked to be sent: one waits for the client, and none behind it."""

    def is_probe(self, head: Head) -> bool:
        return False

    async def admit(self, head: Head) -> int:
        return 0

    async def handle(self, request: Request) -> Response:
        async def follow(send: Send) -> None:
            while True:
                self.asked += 1
                await send(PIECE)

        return Response(content_type="text/event-stream", stream=follow)

    def refused(self, refusal: Refusal) -> Response:
        return refusal.response

    def finish(self, head: Head | None, response: Response) -> Response:
        return response


async def test_14_who_stops_reading_a_stream_is_closed_after_twenty_seconds(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """The stream is one without any buffer: whatever is not read is not sent."""
    browser, server = trio.testing.lockstep_stream_pair()
    app = Streaming()
    served: Any = server
    ended_at = float("inf")

    async def serve() -> None:
        nonlocal ended_at
        await Connection(served, "127.0.0.1", app, Terms()).run()
        ended_at = trio.current_time()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve)
        await browser.send_all(b"GET /api/v1/events HTTP/1.1\r\nHost: localhost\r\n\r\n")
        read = 0
        while read < 3 * len(PIECE):
            data = await browser.receive_some(1 << 16)
            assert data, "it was answered by an end"
            read += len(data)
        stopped_at, asked = trio.current_time(), app.asked
        await trio.sleep(600)
        assert stopped_at <= ended_at <= stopped_at + WRITE_S + 1
        assert app.asked == asked
