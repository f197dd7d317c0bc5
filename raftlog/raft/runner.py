"""The driver's Trio shell: waits for work or a deadline, and chooses where the disk is waited for.

A sync that takes a tenth of a millisecond is cheaper inline than a hop to a thread and back (see
`sync_thread`). Once the disk has been slow, syncs go to the thread, and the loop goes on with messages and
heartbeats meanwhile; when it has been fast for a while they come back. A large block always goes to the
thread, and says nothing of how long a small one would take. Checkpoints run in threads.
"""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING, Final

import trio

from raftlog.errors import FileRefused
from raftlog.raft.driver import FOREVER, Driver
from raftlog.raft.durations import Durations
from raftlog.raft.sync_thread import SyncThread

if TYPE_CHECKING:
    from raftlog.storage.checkpoint import CheckpointJob

SLOW_SYNC: Final = 0.010
"""Seconds. One inline sync that takes longer sends the next ones to a thread."""
FAST_SYNC: Final = 0.002
"""Seconds. Syncs come back to the loop when their running mean is below this, and
`SLOW_FOR` has passed since the last slow one."""
SLOW_FOR: Final = 5.0
INLINE_BYTES_MAX: Final = 512 << 10
"""Bytes of a block up to which it may be written and synced in the loop."""
CHECKPOINT_RETRY: Final = 1.0
"""Seconds until a checkpoint for which a file could not be opened is tried again; the WAL grows meanwhile."""
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


class TurnTimes:
    """What turns take of the event loop, without the syncs that are waited for in it, and those; and what
    the disk takes beside it."""

    def __init__(self) -> None:
        self.turns = Durations()
        self.syncs = Durations()
        self.thread_syncs = Durations()
        self.checkpoints = Durations()
        self.stalls = 0
        """Syncs during which leaderships were handed over."""
        self.syncing_since: float | None = None
        """When the sync that is under way in the thread was begun, by the loop's clock; None without one."""


class Runner:
    """Runs a Driver until it is cancelled or the disk fails."""

    def __init__(self, driver: Driver, times: TurnTimes | None = None) -> None:
        self.driver = driver
        self._times = times if times is not None else TurnTimes()
        self.pace = DiskPace()
        self._sleeper: trio.lowlevel.Task | None = None
        self._is_due = True
        self._timer = trio.CancelScope()
        self._timer_at = FOREVER
        self._failure: Exception | None = None
        self._syncs = SyncThread(self._sync_ended)
        self._is_large = False
        """The block that is written, or was last."""
        self._sync_done = False
        self._stalled_at = FOREVER
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
            await self._syncs.aclose()  # storage is not closed under it
            driver.on_work = lambda: None
            driver.abandon()
        if self._failure is not None:
            raise self._failure

    def _turn(self, nursery: trio.Nursery) -> None:
        driver, began, synced_in = self.driver, time.perf_counter(), 0.0
        now = trio.current_time()
        if self._sync_done:
            self._sync_done = False
            driver.synced(now)
        elif now >= self._stalled_at:
            self._stalled_at = now + STALLED
            self._times.stalls += 1
            if driver.yield_leadership(now):
                log.warning("the disk has been syncing for %.1f s: leaderships are handed over", STALLED)
        ticket = driver.begin(now)
        if ticket is not None:
            self._is_large = ticket.size > INLINE_BYTES_MAX
            if self.pace.is_fast(now) and not self._is_large:
                started = time.perf_counter()
                ticket.sync()
                synced_in = time.perf_counter() - started
                self._times.syncs.add(synced_in)
                self.pace.note(synced_in, now)
                driver.synced(now)
            else:
                self._stalled_at = now + STALLED
                self._times.syncing_since = now
                self._syncs.submit(ticket.sync)
        driver.finish(now)
        if driver.store.checkpoint_due and not self._checkpoint_running:
            self._checkpoint_running = True
            nursery.start_soon(self._checkpoint, driver.store.begin_checkpoint())
        self._arm_timer()
        self._times.turns.add(time.perf_counter() - began - synced_in)

    def _sync_ended(self, seconds: float, error: Exception | None) -> None:
        self._stalled_at = FOREVER
        self._times.syncing_since = None
        self._times.thread_syncs.add(seconds)
        self._failure = self._failure or error
        if error is None:
            if not self._is_large:
                self.pace.note(seconds, trio.current_time())
            self._sync_done = True
        self._wake()

    async def _checkpoint(self, job: CheckpointJob) -> None:
        """The thread is never left behind: storage is not closed under it."""
        started = time.perf_counter()
        try:
            while not job.is_done:
                try:
                    await trio.to_thread.run_sync(job.run, abandon_on_cancel=False)
                except FileRefused as error:
                    log.warning("a checkpoint waits for a file, and the write-ahead log grows: %s", error)
                    await trio.sleep(CHECKPOINT_RETRY)
        except Exception as error:
            self._failure = error
        else:
            self.driver.store.finish_checkpoint(job)
            self._times.checkpoints.add(time.perf_counter() - started)
        self._checkpoint_running = False
        self._wake()

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
        deadline = min(self.driver.next_deadline, self._stalled_at)
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
