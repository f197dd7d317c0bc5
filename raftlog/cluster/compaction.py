"""The cleaner's Trio shell: compacts the logs of this broker, one pass at a time.

A pass runs in a process of its own, so that it takes no turn of the event loop: this one chooses the log with
the most that is dirty, hands the process its job, and puts what it has written in the place of what it read.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Final

import trio

from raftlog.cluster.replicas import Replicas
from raftlog.cluster.rounds import slices
from raftlog.cluster.this_broker import ThisBroker
from raftlog.errors import DamagedLog, FileRefused
from raftlog.partition.partition import Partition
from raftlog.storage.cleaning import Cleanable
from raftlog.storage.compaction.cleaner import clean
from raftlog.storage.compaction.job import DAMAGED, CleaningJob, CleaningResult
from raftlog.storage.disk import RealDisk
from raftlog.storage.store import Store

RETRY_S: Final = 600.0
"""After a pass that failed its log is left alone for so long."""
MESSAGE_MAX: Final = 1000
"""Characters of what a process says before it ends."""

RunPass = Callable[[CleaningJob], Awaitable[CleaningResult]]

log = logging.getLogger("raftlog.storage")


class PassFailed(Exception):
    """The process did not do its job."""


class Compaction:
    """Of one broker."""

    def __init__(self, me: ThisBroker, store: Store, replicas: Replicas) -> None:
        config = me.config
        self._is_enabled = config.bool("log.cleaner.enable")
        self._backoff_s = config.int("log.cleaner.backoff.ms") / 1000
        self._key_map_bytes = config.int("log.cleaner.dedupe.buffer.size")
        self._bytes_per_second = int(config.float("log.cleaner.io.max.bytes.per.second"))
        self._me = me
        self._store = store
        self._replicas = replicas
        self._failed: dict[Partition, float] = {}
        """Logs whose last pass failed, and when they are tried again."""
        self._passes = 0

    async def run(self) -> None:
        """Until cancelled; not at all where log.cleaner.enable says no."""
        while self._is_enabled:
            await trio.sleep(self._backoff_s)
            while (due := await self._due()) is not None:
                if not await self._clean(*due):
                    break

    async def _due(self) -> tuple[Partition, Cleanable] | None:
        """The log with the most that is dirty, of those that are due."""
        now, now_ms = trio.current_time(), self._me.now_ms()
        self._failed = {partition: until for partition, until in self._failed.items() if until > now}
        best: tuple[Partition, Cleanable] | None = None
        for some in slices(self._replicas.partitions):
            for partition in some:
                found = partition.compacting.find(partition.settings, now_ms)
                if found is None or partition in self._failed:
                    continue
                if best is None or found.dirty_ratio > best[1].dirty_ratio:
                    best = partition, found
            await trio.lowlevel.checkpoint()
        return best

    async def _clean(self, partition: Partition, found: Cleanable) -> bool:
        """A pass over one log; whether it has come to something."""
        name = f"{partition.topic}-{partition.partition}"
        self._passes += 1
        # The process of an earlier life of this broker may not have noticed yet that it is of no use.
        scratch = f"{self._me.incarnation.hex()}-{self._passes}"
        try:
            target = await trio.to_thread.run_sync(partial(self._store.aside.begin_pass, scratch))
            job = partition.compacting.job(
                found,
                partition.settings,
                target=target,
                key_map_bytes=self._key_map_bytes,
                bytes_per_second=self._bytes_per_second,
            )
            result = await self._run_pass(job)
            taken = partition.compacting.take(found, job, result)
        except (DamagedLog, FileRefused, PassFailed) as error:
            if not partition.compacting.has_still(found):
                log.info("%s was not compacted: it has lost some of what was to be meanwhile", name)
                return False
            log.error("%s was not compacted: %s", name, error)
            self._failed[partition] = trio.current_time() + RETRY_S
            return False
        finally:  # when the broker stops, the next start does this
            await trio.to_thread.run_sync(partial(self._store.aside.end_pass, scratch))
        size = sum(file.size for file in result.files)
        log.info(
            "%s was compacted up to offset %d: %d of %d bytes are left, %d of %d records%s",
            name,
            result.clean_to,
            size,
            sum(source.size for source in job.sources),
            result.records_kept,
            result.records_read,
            "" if taken else "; it has lost some of that meanwhile, and is left as it is",
        )
        return taken

    async def _run_pass(self, job: CleaningJob) -> CleaningResult:
        if isinstance(self._store.disk, RealDisk):
            return await run_in_process(job)
        return await trio.to_thread.run_sync(partial(clean, self._store.disk, job))


async def run_in_process(job: CleaningJob) -> CleaningResult:
    """Run a pass in a process. Cancelled, it ends the process. Raises DamagedLog, PassFailed."""
    command = [sys.executable, "-m", "raftlog.storage.compaction"]
    try:
        done = await trio.run_process(
            command, stdin=job.encode(), capture_stdout=True, capture_stderr=True, check=False
        )
    except OSError as error:
        raise PassFailed(f"{command[0]} cannot be started: {error}") from error
    said = done.stderr.decode(errors="replace").strip()[-MESSAGE_MAX:]
    if done.returncode == DAMAGED:
        raise DamagedLog(said)
    if done.returncode:
        raise PassFailed(f"the process ended with {done.returncode}: {said}")
    try:
        return CleaningResult.decode(done.stdout)
    except ValueError as error:  # the process may be of another build, while a broker is upgraded
        raise PassFailed(f"the process answered something else: {error}") from error
