"""Which build this is."""

from __future__ import annotations

import functools
from importlib import metadata


@functools.cache
def version() -> str:
    """Read once: it is in a file."""
    return metadata.version("raftlog")
