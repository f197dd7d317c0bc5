"""Where a request comes from, as far as the broker knows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

ANONYMOUS: Final = "User:ANONYMOUS"
"""Who has shown no credentials, in Kafka's words."""


@dataclass(frozen=True, slots=True)
class Origin:
    """What holds for every request of a connection: the client's address, the name of the listener that it
    came by, and who it is."""

    host: str
    listener: str
    principal: str = ANONYMOUS
