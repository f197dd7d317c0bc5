"""How many connections clients may have, all together, from one address and by one listener, and how fast
they may come."""

from __future__ import annotations

from collections import Counter
from typing import Final

from raftlog.broker.quotas import BURST_S, Bucket
from raftlog.config import BrokerConfig
from raftlog.net.hosts import is_this_machine
from raftlog.storage.descriptors import allowed, share_out

RESERVED: Final = 10
"""Connections of this machine beyond max.connections: who looks after a broker that is full comes by them."""

RATE: Final = "max.connection.creation.rate"


class Admission:
    """Counts the connections of all listeners against max.connections, max.connections.per.ip and what single
    listeners have of their own."""

    def __init__(self, config: BrokerConfig) -> None:
        affordable = share_out(allowed()).connections
        self._all_max = min(config.int("max.connections"), affordable)
        self._bound_by = "ulimit -n" if self._all_max == affordable else "max.connections"
        self._per_host_max = config.int("max.connections.per.ip")
        self._overrides = config.connections_per_ip
        self._of_listener = {
            name: int(str(own["max.connections"]))
            for name, own in config.of_listeners.items()
            if "max.connections" in own
        }
        self._by_host: Counter[str] = Counter()
        self._by_listener: Counter[str] = Counter()
        self.count = 0
        """Connections now."""

    def __repr__(self) -> str:
        return f"<Admission {self.count} of {self._all_max}>"

    def enter(self, host: str, listener: str = "") -> str | None:
        """Count a new connection, or say why it is refused."""
        if self.count >= self._all_max + (RESERVED if is_this_machine(host) else 0):
            return f"{self._all_max} connections are open ({self._bound_by})"
        host_max = self._overrides.get(host, self._per_host_max)
        if self._by_host[host] >= host_max:
            return f"{self._by_host[host]} connections of it are open (max.connections.per.ip)"
        if self._by_listener[listener] >= self._of_listener.get(listener, self._all_max + RESERVED):
            return f"{self._by_listener[listener]} connections to {listener} are open (its max.connections)"
        self._by_host[host] += 1
        self._by_listener[listener] += 1
        self.count += 1
        return None

    def leave(self, host: str, listener: str = "") -> None:
        """A connection that had entered is closed."""
        self.count -= 1
        self._by_listener[listener] -= 1
        self._by_host[host] -= 1
        if not self._by_host[host]:
            del self._by_host[host]


class CreationRate:
    """How fast connections come, all together and by listeners that have a rate of their own (KIP-612). What
    one address may is a quota: `ClientQuotas.connected`. Times are seconds of any clock that goes on."""

    def __init__(self, config: BrokerConfig) -> None:
        rates = {name: config.for_listener(name).int(RATE) for name in ("", *config.of_listeners)}
        self._rates = {name: (Bucket(BURST_S), rate) for name, rate in rates.items()}

    def __repr__(self) -> str:
        return f"<CreationRate {', '.join(f'{name} {rate}/s' for name, (_, rate) in self._rates.items())}>"

    def wait_s(self, listener: str, now: float) -> float:
        """Seconds until nothing is owed; 0 when nothing is."""
        return max(bucket.wait_s(rate, now) for bucket, rate in self._of(listener))

    def came(self, listener: str, now: float) -> float:
        """A connection has come; seconds that it waits before it is served. One that is refused is not to be
        told of: who connects again and again would run up a debt that keeps everybody out for hours."""
        for bucket, rate in self._of(listener):
            bucket.take(1, rate, now)
        return self.wait_s(listener, now)

    def _of(self, listener: str) -> list[tuple[Bucket, int]]:
        return [self._rates[name] for name in self._rates.keys() & {"", listener}]
