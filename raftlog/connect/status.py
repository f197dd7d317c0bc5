"""How a connector does: what people are shown, and what a worker counts."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

State = Literal["UNASSIGNED", "RUNNING", "PAUSED", "STOPPED", "FAILED"]
"""Kafka Connect's words."""


@dataclass
class Status:
    """One connector's. `trace` is why it failed, `trouble` what it waits for; records are those written."""

    state: State = "UNASSIGNED"
    trace: str = ""
    trouble: str = ""
    records: int = 0
    dead_letters: int = 0
    left_out: int = 0
    """Bad records that went nowhere, by `errors.tolerance`."""
    retries: int = 0
    topics: set[str] = field(default_factory=set)
    """Those that were written or read."""
    notes: dict[str, int] = field(default_factory=dict)
    """What a connector counts of its own."""
