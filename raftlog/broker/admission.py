"""How many connections clients may have, all together and from one address."""

from __future__ import annotations

from collections import Counter

from raftlog.config import BrokerConfig
from raftlog.storage.descriptors import allowed, share_out


class Admission:
    """Counts the connections of all listeners against max.connections and max.connections.per.ip."""

    def __init__(self, config: BrokerConfig) -> None:
        affordable = share_out(allowed()).connections
        self._all_max = min(config.int("max.connections"), affordable)
        self._bound_by = "ulimit -n" if self._all_max == affordable else "max.connections"
        self._per_host_max = config.int("max.connections.per.ip")
        self._overrides = config.connections_per_ip
        self._by_host: Counter[str] = Counter()
        self.count = 0
        """Connections now."""

    def __repr__(self) -> str:
        return f"<Admission {self.count} of {self._all_max}>"

    def enter(self, host: str) -> str | None:
        """Count a new connection, or say why it is refused."""
        if self.count >= self._all_max:
            return f"{self._all_max} connections are open ({self._bound_by})"
        host_max = self._overrides.get(host, self._per_host_max)
        if self._by_host[host] >= host_max:
            return f"{self._by_host[host]} connections of it are open (max.connections.per.ip)"
        self._by_host[host] += 1
        self.count += 1
        return None

    def leave(self, host: str) -> None:
        """A connection that had entered is closed."""
        self.count -= 1
        self._by_host[host] -= 1
        if not self._by_host[host]:
            del self._by_host[host]
