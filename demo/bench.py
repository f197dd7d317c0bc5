"""`make bench`: a broker in a temporary folder, and `raftlog bench` on it. Arguments go to every load.

What the figures mean and how to compare them is in docs/numbers.md.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

from raftlog.testing.processes import broker_process

LOADS = (
    ("produce", "--size", "100", "--seconds", "5", "--runs", "3"),
    ("consume", "--runs", "3"),
    ("produce", "--size", "1000", "--seconds", "5", "--runs", "3", "--topic", "raftlog-bench-1000"),
    ("consume", "--runs", "3", "--topic", "raftlog-bench-1000"),
    ("latency", "--size", "100", "--seconds", "5", "--runs", "3", "--topic", "raftlog-bench-latency"),
)


def main() -> int:
    with (
        tempfile.TemporaryDirectory(prefix="raftlog-bench-") as folder,
        broker_process(Path(folder) / "data") as broker,
    ):
        for load in LOADS:
            command = [sys.executable, "-m", "raftlog", "bench", *load, "--bootstrap", broker.bootstrap]
            code = subprocess.run([*command, *sys.argv[1:]]).returncode
            if code:
                return code
            print()
    return 0


if __name__ == "__main__":
    try:
        raise SystemExit(main())
    except KeyboardInterrupt:
        raise SystemExit(130) from None
