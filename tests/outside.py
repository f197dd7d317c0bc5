"""`raftlog console`, as a process."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def console(bootstrap: str, *arguments: str, may_warn: bool = False) -> Iterator[str]:
    """Its address, HOST:PORT. In the end it must stop with a signal's code, and say nothing that is wrong
    unless it may."""
    command = [sys.executable, "-m", "raftlog", "console", "-b", bootstrap, "--http-listen", "127.0.0.1:0"]
    process = subprocess.Popen(
        [*command, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        found = re.fullmatch(r"ready console=http://(\S+)/\n", line)
        assert found, (line, process.communicate()[1])
        yield found[1]
    finally:
        process.terminate()
        _, wrong = process.communicate(timeout=30)
    assert process.returncode == 128 + 15 and (may_warn or not wrong), (process.returncode, wrong)
