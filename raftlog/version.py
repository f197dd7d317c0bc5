"""Which build this is: the package's version, and the commit that it was made of."""

from __future__ import annotations

import functools
import subprocess
from importlib import metadata, util
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
    """The first digits of the commit; empty where nobody knows."""
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


@functools.cache
def is_compiled() -> bool:
    """Whether the record codec is the compiled one (hatch_build.py)."""
    found = util.find_spec("raftlog.records.record")
    return found is not None and not (found.origin or "").endswith(".py")


def build() -> str:
    """For people: `0.1.0 (commit 0123456789ab)`, or `0.1.0 (commit 0123456789ab, compiled codec)`."""
    made_of = f"commit {commit()}" if commit() else ""
    told = ", ".join(filter(None, (made_of, "compiled codec" if is_compiled() else "")))
    return f"{version()} ({told})" if told else version()
