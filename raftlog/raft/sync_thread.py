"""The thread that waits for the disk in the event loop's place.

Trio's own threads cost 0.2 to 0.3 ms there and back, most of it the loop's CPU: a task, a limiter, a context
for each call. A queue and a callback cost 0.05 ms. The difference is paid for every write while the disk is
slow, and then by every record.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from queue import SimpleQueue

import trio


class SyncThread:
    """Does one piece of blocking work at a time. It is started by the first one."""

    def __init__(self, on_end: Callable[[float, Exception | None], None]) -> None:
        """`on_end(seconds, error)` is called in the loop when a piece has ended: how long it took, and what
        it raised, if it did."""
        self._on_end = on_end
        self._work: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._token: trio.lowlevel.TrioToken | None = None
        self._is_over = trio.Event()

    def submit(self, work: Callable[[], None]) -> None:
        """Have it done. From the loop, once the one before has ended."""
        if self._token is None:
            self._token = trio.lowlevel.current_trio_token()
            threading.Thread(target=self._run, name="raftlog-sync", daemon=True).start()
        self._work.put(work)

    async def aclose(self) -> None:
        """End the thread, after what it is at. Waits for that although cancelled."""
        if self._token is None:
            return
        self._work.put(None)
        with trio.CancelScope(shield=True):
            await self._is_over.wait()

    def _run(self) -> None:
        assert self._token is not None
        while (work := self._work.get()) is not None:
            error = None
            started = time.perf_counter()
            try:
                work()
            except Exception as raised:
                error = raised
            seconds = time.perf_counter() - started
            self._token.run_sync_soon(self._on_end, seconds, error)
        self._token.run_sync_soon(self._is_over.set)
