"""What the cluster's half of a broker is told by the half that serves clients."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from raftlog.cluster.this_broker import ThisBroker
from raftlog.metadata.brokers import RegisterBroker
from raftlog.metadata.commands import LEVEL_KNOWN

Spoken = list[tuple[int, int]]
"""What clients use, as (API, version)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Front:
    """Where a broker is reached, and what its clients use."""

    advertised: tuple[tuple[str, str, int], ...] = (("PLAINTEXT", "localhost", 9092),)
    """Where clients reach it, by the listener's name."""
    peer_advertised: tuple[str, int] = ("", 0)
    """Where other brokers reach it; port 0 for a broker that has no peers."""
    spoken: Callable[[], Spoken] = list
    """What clients use here."""
    on_spoken: Callable[[Spoken], None] = lambda spoken: None
    """What to do about what the clients of a peer use: they will come here, too."""

    def registration(self, me: ThisBroker) -> RegisterBroker:
        """What this start of the broker says of itself."""
        peer_host, peer_port = self.peer_advertised
        _, host, port = self.advertised[0]
        return RegisterBroker(
            broker_id=me.id,
            incarnation=me.incarnation,
            host=host,
            port=port,
            peer_host=peer_host,
            peer_port=peer_port,
            rack=me.config.str("broker.rack") or None,
            listeners=self.advertised if len(self.advertised) > 1 else (),
            metadata_level=LEVEL_KNOWN,
        )
