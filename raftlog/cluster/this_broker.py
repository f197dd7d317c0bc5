"""Who a broker is between a start and its end, and by what it goes: the values that its parts share."""

from __future__ import annotations

import base64
import random
import uuid
from dataclasses import dataclass

from raftlog.cluster.steady_clock import SteadyClock
from raftlog.config import BrokerConfig
from raftlog.raft.values import RaftTiming
from raftlog.types import BrokerId


@dataclass(frozen=True, slots=True, kw_only=True)
class ThisBroker:
    """One start of this broker. The same broker has another incarnation when it is started again."""

    id: BrokerId
    incarnation: bytes
    config: BrokerConfig
    timing: RaftTiming
    rng: random.Random
    clock: SteadyClock
    """What is written down, and compared with that. Seconds of a monotonic clock come in as `now`, or are
    Trio's."""

    @classmethod
    def of(cls, config: BrokerConfig, *, rng: random.Random, clock: SteadyClock | None = None) -> ThisBroker:
        """As the configuration says. Draws the incarnation."""
        return cls(
            id=BrokerId(config.int("node.id")),
            incarnation=rng.randbytes(16),
            config=config,
            timing=timing_of(config),
            rng=rng,
            clock=clock if clock is not None else SteadyClock(),
        )

    def now_ms(self) -> int:
        """The broker's time in milliseconds, which no jump of the wall clock moves."""
        return self.clock.now_ms()

    def new_topic_id(self) -> bytes:
        """A random UUID of version 4, never one of the reserved low ids (KIP-516)."""
        return uuid.UUID(bytes=self.rng.randbytes(16), version=4).bytes

    def new_member_id(self) -> str:
        """The random part of a group member's id."""
        return str(uuid.UUID(bytes=self.rng.randbytes(16), version=4))

    def new_cluster_id(self) -> str:
        """A cluster id as Kafka makes them: 16 random bytes in URL-safe base64 without padding."""
        return base64.urlsafe_b64encode(self.rng.randbytes(16)).decode().rstrip("=")


def timing_of(config: BrokerConfig) -> RaftTiming:
    """The time-outs of every group of a broker."""
    election = config.int("raftlog.election.timeout.ms") / 1000
    return RaftTiming(
        heartbeat=config.int("raftlog.heartbeat.interval.ms") / 1000,
        election_min=election,
        election_max=1.5 * election,  # a round of votes takes a tenth of the difference
        lease=0.0,  # see `probing`: elections do not wait out a lease
    )
