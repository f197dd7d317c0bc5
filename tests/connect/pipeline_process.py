"""`raftlog connect run` as a process that tests kill."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path


class PipelineProcess:
    """One worker with its pipeline file; its log is beside it."""

    def __init__(self, folder: Path, pipeline: str, bootstrap: str, *arguments: str) -> None:
        self.path = folder / "pipeline.toml"
        self.path.write_text(pipeline)
        self.log = folder / "connect.log"
        self._command = [sys.executable, "-m", "raftlog", "connect", "run", str(self.path)]
        self._command += ["--bootstrap", bootstrap, *arguments]
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, **environment: str) -> None:
        assert self._process is None or self._process.poll() is not None
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                self._command, stdout=log, stderr=log, env=os.environ | environment
            )

    @property
    def ended(self) -> int | None:
        assert self._process is not None
        return self._process.poll()

    def send(self, number: signal.Signals) -> None:
        """SIGSTOP has it stand still, SIGCONT go on."""
        assert self._process is not None
        self._process.send_signal(number)

    def end(self, number: signal.Signals) -> int:
        """Send a signal, and wait for the end."""
        assert self._process is not None
        if self._process.poll() is None:
            self._process.send_signal(number)
        return self._process.wait(30)

    def __enter__(self) -> PipelineProcess:
        return self

    def __exit__(self, *error: object) -> None:
        if self._process is not None:
            self.end(signal.SIGKILL)  # also one that stands still
        if error[0] is not None and self.log.exists():
            print(self.log.read_text(errors="replace")[-5_000:])
