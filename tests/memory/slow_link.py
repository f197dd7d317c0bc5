"""A network that carries few bytes a second, between real sockets."""

from __future__ import annotations

import socket
from typing import Final

import trio

BUFFER_BYTES: Final = 64 << 10
"""What it holds of a connection: little, as does a switch."""
STEP: Final = 0.01


async def throttle(
    port: int,
    bytes_a_second: float,
    task_status: trio.TaskStatus[int] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Listen, and carry what comes on to `port` and back. Starts with the port that it listens at."""

    async def carry(stream: trio.SocketStream) -> None:
        other = await trio.open_tcp_stream("127.0.0.1", port)
        async with stream, other, trio.open_nursery() as nursery:
            nursery.start_soon(_one_way, stream, other, nursery.cancel_scope)
            nursery.start_soon(_one_way, other, stream, nursery.cancel_scope)

    async def _one_way(source: trio.SocketStream, target: trio.SocketStream, scope: trio.CancelScope) -> None:
        try:
            while data := await source.receive_some(max(1, int(bytes_a_second * STEP))):
                await target.send_all(data)
                await trio.sleep(len(data) / bytes_a_second)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass
        scope.cancel()

    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    for listener in listeners:
        listener.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER_BYTES)
    task_status.started(listeners[0].socket.getsockname()[1])
    await trio.serve_listeners(carry, listeners)
