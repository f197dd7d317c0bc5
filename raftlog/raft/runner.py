"""The driver's Trio shell: waits for work or a deadline, and chooses where the disk is waited for.

A sync that takes a tenth of a millisecond is cheaper inline than a hop to a thread and back (0.1 against
0.3 ms). Once the disk has been slow, syncs go to a worker thread, and the loop goes on with messages and
heartbeats meanwhile; when it has been fast for a while they come back. Checkpoints always run in a thread.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

import trio

from raftlog.raft.driver import FOREVER, Driver

if TYPE_CHECKING:
    from raftlog.storage.checkpoint import CheckpointJob
    from raftlog.storage.store import WriteTicket

SLOW_SYNC: Final = 0.010
"""Seconds. One inline sync that takes longer sends the next ones to a thread."""
FAST_SYNC: Final = 0.002
"""Seconds. Syncs come back to the loop when their running mean is below this, and
`SLOW_FOR` has passed since the last slow one."""
SLOW_FOR: Final = 5.0
STALLED: Final = 1.0
"""Seconds. A sync that takes longer makes this broker hand its leaderships over: its followers' disks may
be fine, and nothing is committed without the leader's."""


log = logging.getLogger("raftlog.raft")


class DiskPace:
    """Whether the disk is fast enough to be waited for in the event loop."""

    def __init__(self) -> None:
        self.mean = 0.0
        self._slow_until = float("-inf")

    def note(self, seconds: float, now: float) -> None:
        """A sync took `seconds`, and ended at `now`."""
        self.mean += (seconds - self.mean) / 8
        if seconds > SLOW_SYNC:
            self._slow_until = now + SLOW_FOR

    def is_fast(self, now: float) -> bool:
        return now >= self._slow_until and self.mean < FAST_SYNC


class Runner:
    """Runs a Driver until it is cancelled or the disk fails."""

    def __init__(self, driver: Driver) -> None:
        self.driver = driver
        self.pace = DiskPace()
        self._sleeper: trio.lowlevel.Task | None = None
        self._is_due = True
        self._timer = trio.CancelScope()
        self._timer_at = FOREVER
        self._failure: Exception | None = None
        self._sync_done = False
        self._checkpoint_running = False

    async def run(self) -> None:
        """Turns until cancelled. Raises DiskFailed or SafetyError when the broker must stop; in every case
        all pending proposals have been answered when it ends."""
        driver = self.driver
        driver.on_work = self._rouse
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._run_timer)
                while self._failure is None:
                    await self._wait()
                    if self._failure is None:
                        try:
                            self._turn(nursery)
                        except Exception as error:
                            self._failure = error
                nursery.cancel_scope.cancel()
        finally:
            driver.on_work = lambda: None
            driver.abandon()
        if self._failure is not None:
            raise self._failure

    def _turn(self, nursery: trio.Nursery) -> None:
        driver = self.driver
        now = trio.current_time()
        if self._sync_done:
            self._sync_done = False
            driver.synced(now)
        ticket = driver.begin(now)
        if ticket is not None:
            if self.pace.is_fast(now):
                started = time.perf_counter()
                ticket.sync()
                self.pace.note(time.perf_counter() - started, now)
                driver.synced(now)
            else:
                nursery.start_soon(self._sync_in_thread, ticket)
        driver.finish(now)
        if driver.store.checkpoint_due and not self._checkpoint_running:
            self._checkpoint_running = True
            nursery.start_soon(self._checkpoint, driver.store.begin_checkpoint())
        self._arm_timer()

    async def _sync_in_thread(self, ticket: WriteTicket) -> None:
        started = time.perf_counter()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._yield_when_stalled)
            if await self._in_thread(ticket.sync):
                self.pace.note(time.perf_counter() - started, trio.current_time())
                self._sync_done = True
            nursery.cancel_scope.cancel()
        self._wake()

    async def _yield_when_stalled(self) -> None:
        while True:
            await trio.sleep(STALLED)
            if self.driver.yield_leadership(trio.current_time()):
                log.warning("the disk has been syncing for %.1f s: leaderships are handed over", STALLED)

    async def _checkpoint(self, job: CheckpointJob) -> None:
        if await self._in_thread(job.run):
            self.driver.store.finish_checkpoint(job)
        self._checkpoint_running = False
        self._wake()

    async def _in_thread(self, work: Callable[[], None]) -> bool:
        """Run it where it may block. A failure stops the loop. The thread is never left behind: storage is
        not closed under it."""
        try:
            await trio.to_thread.run_sync(work, abandon_on_cancel=False)
        except Exception as error:
            self._failure = error
            return False
        return True

    # Waiting

    def _wake(self) -> None:
        """A turn is due although the driver does not know it yet."""
        self._is_due = True
        self._rouse()

    def _rouse(self) -> None:
        if self._sleeper is not None:
            trio.lowlevel.reschedule(self._sleeper)
            self._sleeper = None

    async def _wait(self) -> None:
        """Until there is work. Always lets the other tasks run first, so that what they propose meanwhile
        shares one write."""
        if self._is_due or self.driver.has_work:
            self._is_due = False
            await trio.lowlevel.checkpoint()
            return

        def abort(raise_cancel: object) -> trio.lowlevel.Abort:
            self._sleeper = None
            return trio.lowlevel.Abort.SUCCEEDED

        self._sleeper = trio.lowlevel.current_task()
        await trio.lowlevel.wait_task_rescheduled(abort)
        self._is_due = False

    def _arm_timer(self) -> None:
        deadline = self.driver.next_deadline
        if deadline < self._timer_at:
            self._timer_at = deadline
            self._timer.deadline = deadline

    async def _run_timer(self) -> None:
        while True:
            self._timer = trio.CancelScope(deadline=self._timer_at)
            with self._timer:
                await trio.sleep_forever()
            self._timer_at = FOREVER
            self._wake()
