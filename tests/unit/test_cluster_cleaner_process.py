"""What a broker makes of a cleaner's process that does not do its job."""

from __future__ import annotations

import sys

import pytest
import trio

from raftlog.cluster.compaction import PassFailed, run_in_process
from raftlog.storage.compaction.job import CleaningJob


@pytest.mark.parametrize("program", ["/bin/true", "/bin/false", "/bin/cat-that-is-not-there"])
def test_a_process_that_does_something_else_is_a_pass_that_failed(
    monkeypatch: pytest.MonkeyPatch, program: str
) -> None:
    """It ends with nothing said, with an error, or is not there: the broker lives on."""
    job = CleaningJob(
        sources=[],
        dirty_from=0,
        purge_to=0,
        aborted=[],
        epochs=[],
        target="/nowhere/pass",
        segment_bytes=1,
        index_interval_bytes=1,
        key_map_bytes=1,
        bytes_per_second=0,
    )
    monkeypatch.setattr(sys, "executable", program)
    with pytest.raises(PassFailed):
        trio.run(run_in_process, job)
