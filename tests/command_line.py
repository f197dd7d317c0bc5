"""`raftlog` in this process, which has imported everything already."""

from __future__ import annotations

import contextlib
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import pytest

from raftlog.cli import main


@dataclass(frozen=True, slots=True)
class Result:
    """How a command ended, and what it printed."""

    code: int
    stdout: bytes
    stderr: bytes

    @property
    def output(self) -> str:
        return self.stdout.decode()

    @property
    def errors(self) -> str:
        return self.stderr.decode()


def run_raftlog(*arguments: str, input: bytes = b"", together: bool = False) -> Result:
    """Run the command to its end, with files as its standard streams. If together, what it says on stderr is
    in its output, at its place."""
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        paths = [Path(folder) / name for name in ("stdin", "stdout", "stderr")]
        paths[0].write_bytes(input)
        with paths[0].open() as stdin, paths[1].open("w") as stdout, paths[2].open("w") as stderr:
            patch.setattr(sys, "stdin", stdin)
            said = stdout if together else stderr
            with (
                contextlib.redirect_stdout(stdout),
                contextlib.redirect_stderr(said),
                pytest.raises(SystemExit) as ended,
            ):
                main(list(arguments))
        assert isinstance(ended.value.code, int), ended.value.code
        return Result(ended.value.code, paths[1].read_bytes(), paths[2].read_bytes())
