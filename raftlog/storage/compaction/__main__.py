"""The process in which a pass runs: the job comes by stdin, what was done goes to stdout.

It is nice, keeps to the rate that the job names, and ends when the broker that started it has ended: nobody
would take over what it writes.
"""

from __future__ import annotations

import os
import sys
import time
from typing import Final

from raftlog.errors import DamagedLog
from raftlog.storage.compaction.cleaner import clean
from raftlog.storage.compaction.job import DAMAGED, CleaningJob
from raftlog.storage.disk import RealDisk

NICENESS: Final = 10
_STEP: Final = 1 << 20
"""Bytes between two looks at the clock."""


class _Rate:
    """Waits so that no more than `bytes_per_second` pass; 0 means no limit."""

    def __init__(self, bytes_per_second: int) -> None:
        self._rate = bytes_per_second
        self._parent = os.getppid()
        self._begun = time.monotonic()
        self._bytes = self._since = 0

    def __call__(self, size: int) -> None:
        self._bytes += size
        self._since += size
        if self._since < _STEP:
            return
        self._since = 0
        if os.getppid() != self._parent:
            sys.exit("the broker has ended")
        if self._rate:
            ahead = self._bytes / self._rate - (time.monotonic() - self._begun)
            if ahead > 0:
                time.sleep(ahead)


def main() -> int:
    job = CleaningJob.decode(sys.stdin.buffer.read())
    os.nice(NICENESS)
    try:
        result = clean(RealDisk(), job, _Rate(job.bytes_per_second))
    except DamagedLog as error:
        print(error, file=sys.stderr)
        return DAMAGED
    sys.stdout.buffer.write(result.encode())
    return 0


if __name__ == "__main__":
    sys.exit(main())
