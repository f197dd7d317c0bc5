"""What `raftlog.connect` raises, and what a connector raises to say whose fault something is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from raftlog.errors import RaftlogError

if TYPE_CHECKING:
    from raftlog.client.metadata import TopicPartition


class ConnectError(RaftlogError):
    """Anything that ends a connector."""


class NoConnector(ConnectError):
    """There is none of that name, any more."""


class ConnectorExists(ConnectError):
    """There is one of that name already."""


class Unavailable(ConnectError):
    """A connector raises it when what it talks to does not answer now, and may later. The worker goes back to
    what is committed and tries again, with growing pauses, for `errors.retry_s`; not before `after_s`
    seconds, when the other side has said so. A sink whose target does not say how far it is says by `safe`
    what it has: offsets as `flush` gives them, which are committed before."""

    def __init__(
        self, told: str, *, after_s: float = 0.0, safe: Mapping[TopicPartition, int] | None = None
    ) -> None:
        super().__init__(told)
        self.after_s = after_s
        self.safe = safe or {}


class Refused(ConnectError):
    """A sink raises it when its target will never take a record of those that it was given, a transform when
    a record is not what it should be. The worker finds the record, and does with it what `errors` says."""


class PositionLost(ConnectError):
    """Where a connector should go on is not there any more; the text names both places."""


class ConnectorFailed(ConnectError):
    """A connector has ended. `connector` is its name, `__cause__` is why."""

    def __init__(self, connector: str, reason: str) -> None:
        super().__init__(f"connector {connector}: {reason}")
        self.connector = connector
