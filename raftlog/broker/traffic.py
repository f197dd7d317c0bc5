"""What went through one API since the start: how long answers took, their bytes, and what was refused."""

from __future__ import annotations

from raftlog.broker.latency import Latency


class Traffic:
    """Plain counters: a request costs an addition each."""

    __slots__ = ("failed", "latency", "refused", "request_bytes", "response_bytes")

    def __init__(self) -> None:
        self.latency = Latency()
        self.request_bytes = 0
        self.response_bytes = 0
        self.refused = 0
        """Things that clients asked for and were not given, such as a batch or a topic."""
        self.failed = 0
        """Requests that met an error of ours."""

    def __repr__(self) -> str:
        return f"<Traffic {self.request_bytes} bytes in, {self.response_bytes} out, {self.latency!r}>"
