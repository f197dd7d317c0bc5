"""Where a request comes from, as far as the broker knows."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from raftlog.broker.gate import Gate

ANONYMOUS: Final = "User:ANONYMOUS"
"""Who has shown no credentials, in Kafka's words."""


@dataclass(slots=True)
class Software:
    """What a client says that it is, in ApiVersions (KIP-511)."""

    name: str = ""
    """Empty until it has said so."""


@dataclass(frozen=True, slots=True)
class Origin:
    """What holds for every request of a connection: the client's address, the name of the listener that it
    came by, and who it is."""

    host: str
    listener: str
    principal: str = ANONYMOUS

    @property
    def user(self) -> str:
        """As quotas name it: the principal without its type."""
        return self.principal.partition(":")[2]

    until: float = float("inf")
    """When the certificate ends that says who it is; the event loop's clock."""
    number: int = 0
    """A connection that is accepted later has a higher one."""
    gate: Gate | None = field(default=None, repr=False, compare=False)
    """Where the listener asks for a login."""
    software: Software = field(default_factory=Software, repr=False, compare=False)
