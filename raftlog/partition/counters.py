"""What went through a replica since its start, for people and metrics."""

from __future__ import annotations


class Counters:
    """Plain numbers: a batch costs an addition each."""

    __slots__ = ("batches_in", "bytes_in", "bytes_out", "records_in")

    def __init__(self) -> None:
        self.records_in = self.batches_in = self.bytes_in = 0
        """What producers had committed here."""
        self.bytes_out = 0
        """What consumers were sent; who sends it adds to it."""
