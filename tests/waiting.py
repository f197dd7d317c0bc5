"""Waiting for a condition, in tests that have no event loop."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

PATIENCE_S: Final = 40.0
"""How long a test waits for what must come; generous, since the machine may be slow."""


def until(what: str, condition: Callable[[], object]) -> None:
    """Poll a condition until it holds."""
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, f"not within {PATIENCE_S} s: {what}"
        time.sleep(0.02)
