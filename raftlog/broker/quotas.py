"""Holds clients to their quotas on this broker: measures what they take, and says how long they pause.

As in Kafka (KIP-13, KIP-124, KIP-219, KIP-599) who is above a quota is told how long it takes to come below
(`throttle_time`), and nothing more is read from its connection until then: the pause is what enforces the
quota, since clients need not obey. Other than Kafka, whose windows forget, every measure is a bucket of
tokens. Without quotas nothing is measured.

Measures are of the entity that has the quota, so that all connections of a user share one.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

from raftlog.metadata.catalog import Catalog
from raftlog.metadata.quota_table import Entity, Quotas
from raftlog.metadata.quotas import CONNECTION, FETCH, MUTATION, NAME_BYTES_MAX, PRODUCE, REQUEST

BURST_S: Final = 2.0
"""What a client may take at once, as seconds of its quota. Ten in Kafka, so much that half a minute of a
quota is over it by a third."""
MUTATIONS_BURST_S: Final = 11.0
"""The same for partitions that are created and deleted, as in Kafka: they come in bursts."""
PAUSE_MAX_S: Final = 10.0
"""However far above its quota a client is: then it is measured again."""
REQUEST_PAUSE_MAX_S: Final = 1.0
"""The same for the time of requests, as in Kafka: the window's size."""
MEASURES_MAX: Final = 10_000
"""Entities that are measured at once; beyond it the one that was measured longest ago is forgotten. A client
id is whatever a client says, so that there may be any number."""


class Bucket:
    """Tokens that come back at the rate of the quota. What a bucket holds may be taken at once; what is over
    it has to wait. Times are seconds of any clock that goes on."""

    __slots__ = ("_at", "_burst_s", "_tokens")

    def __init__(self, burst_s: float) -> None:
        """`burst_s`: what the bucket holds, as seconds of the quota."""
        self._burst_s = burst_s
        self._tokens = 0.0
        """Below what the bucket holds: it begins full."""
        self._at = 0.0

    def wait_s(self, quota: float, now: float) -> float:
        """Seconds until nothing is owed; 0 when nothing is."""
        self._refill(quota, now)
        return max(0.0, -self._tokens / quota - self._burst_s)

    def take(self, amount: float, quota: float, now: float) -> None:
        """More than there is may be taken: what was asked for at once is done at once, and owed."""
        self._refill(quota, now)
        self._tokens -= amount

    def _refill(self, quota: float, now: float) -> None:
        self._tokens = min(0.0, self._tokens + quota * (now - self._at))
        self._at = now


class ClientQuotas:
    """Of a broker. Times are seconds of the event loop's clock; a user is a principal without its type."""

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog
        self._buckets: OrderedDict[tuple[str, Entity], Bucket] = OrderedDict()
        self._known: OrderedDict[tuple[str, str, str], tuple[Entity, float] | None] = OrderedDict()
        self._known_of: tuple[Quotas, int] | None = None

    def __repr__(self) -> str:
        return f"<ClientQuotas {len(self._buckets)} measured>"

    @property
    def are_set(self) -> bool:
        """Whether anybody has a quota: nothing is to be measured otherwise."""
        return len(self._catalog.quotas) > 0

    def produced(self, user: str, client: str, size: int, now: float) -> float:
        """A Produce request has come; seconds to pause."""
        return self._take(PRODUCE, user, client, size, now, PAUSE_MAX_S)

    def fetched(self, user: str, client: str, size: int, now: float) -> float:
        """A Fetch is answered; seconds to pause."""
        return self._take(FETCH, user, client, size, now, PAUSE_MAX_S)

    def spent(self, user: str, client: str, seconds: float, now: float) -> float:
        """A request has kept the event loop for so long, of which 100 % is one; seconds to pause."""
        return self._take(REQUEST, user, client, 100 * seconds, now, REQUEST_PAUSE_MAX_S)

    def mutation_wait_s(self, user: str, client: str, now: float) -> float:
        """Seconds until partitions may be created or deleted again; 0: now."""
        found = self._quota(MUTATION, user, client)
        return 0.0 if found is None else self._bucket(MUTATION, found[0]).wait_s(found[1], now)

    def mutated(self, user: str, client: str, partitions: int, now: float) -> float:
        """So many partitions are created or deleted; seconds to pause."""
        return self._take(MUTATION, user, client, partitions, now, PAUSE_MAX_S)

    def connection_wait_s(self, address: str, now: float) -> float:
        """Seconds until an address may connect again without waiting; 0: now."""
        return self._connecting(address, 0, now)

    def connected(self, address: str, now: float) -> float:
        """A connection has come, and is not refused; seconds that it waits before it is served."""
        return self._connecting(address, 1, now)

    def _connecting(self, address: str, connections: int, now: float) -> float:
        quota = self._catalog.quotas.for_address(CONNECTION, address)
        if quota is None:
            return 0.0
        bucket = self._bucket(CONNECTION, (("ip", address),))
        bucket.take(connections, quota, now)
        return bucket.wait_s(quota, now)

    def _take(self, key: str, user: str, client: str, amount: float, now: float, most: float) -> float:
        found = self._quota(key, user, client)
        if found is None:
            return 0.0
        entity, quota = found
        bucket = self._bucket(key, entity)
        bucket.take(amount, quota, now)
        return min(bucket.wait_s(quota, now), most)

    def _bucket(self, key: str, entity: Entity) -> Bucket:
        found = self._buckets.get((key, entity))
        if found is not None:
            self._buckets.move_to_end((key, entity))
            return found
        if len(self._buckets) >= MEASURES_MAX:
            self._buckets.popitem(last=False)
        made = Bucket(MUTATIONS_BURST_S if key == MUTATION else BURST_S)
        self._buckets[key, entity] = made
        return made

    def _quota(self, key: str, user: str, client: str) -> tuple[Entity, float] | None:
        quotas = self._catalog.quotas
        client = client[:NAME_BYTES_MAX]  # no entity has a longer name, and many are kept
        if self._known_of is None or self._known_of[0] is not quotas or self._known_of[1] != quotas.version:
            self._known.clear()
            self._known_of = (quotas, quotas.version)
        question = (key, user, client)
        if question not in self._known:
            if len(self._known) >= MEASURES_MAX:
                self._known.popitem(last=False)
            self._known[question] = quotas.for_client(key, user, client)
        return self._known[question]
