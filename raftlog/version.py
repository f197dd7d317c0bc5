"""Which build this is: the package's version, and the commit that it was made of."""

from __future__ import annotations

import functools
import subprocess
from importlib import metadata
from pathlib import Path
from typing import Final

PACKAGE: Final = Path(__file__).parent
COMMIT_FILE: Final = PACKAGE / "commit.txt"
"""Written into wheels when they are built (hatch_build.py)."""
GIT_SECONDS_MAX: Final = 5.0


@functools.cache
def version() -> str:
    """As in pyproject.toml. Read once: it is in a file."""
    return metadata.version("raftlog")


@functools.cache
def commit() -> str:
    """The first digits of the commit; empty where nobody
    knows."""
    if COMMIT_FILE.exists():
        return COMMIT_FILE.read_text(encoding="ascii").strip()
    if not (PACKAGE.parent / ".git").exists():
        return ""
    return commit_of(PACKAGE.parent)


def commit_of(folder: Path) -> str:
    """The same of a folder with git's data, which it asks git for."""
    command = ["git", "-C", str(folder), "rev-parse", "--short=12", "HEAD"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=GIT_SECONDS_MAX, check=True)
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.strip()


def build() -> str:
    """For people: `0.1.0 (commit 0123456789ab)`."""
    made_of = commit()
    return f"{version()} (commit {made_of})" if made_of else version()
