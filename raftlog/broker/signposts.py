"""Where else this broker listens, in a sentence, for who came to the wrong port."""

from __future__ import annotations

from raftlog.config import BrokerConfig, is_every_interface
from raftlog.config.addresses import join_host_port
from raftlog.net.hosts import is_this_machine


class Signposts:
    """Of one broker. A client is told of no port that it cannot reach."""

    def __init__(self, config: BrokerConfig) -> None:
        self._config = config
        self.http: tuple[str, int] | None = None
        """Where HTTP is served, once it is known."""

    def to_http(self, client: str) -> str:
        """For a client at this address."""
        if self.http is None:
            return "This broker serves no HTTP (raftlog.http.listen)."
        host, port = self.http
        if is_every_interface(host):
            return f"This broker's console and HTTP API are on port {port}."
        if is_this_machine(host) and not is_this_machine(client):
            return "This broker's console and HTTP API answer on its own machine alone (raftlog.http.listen)."
        return f"This broker's console and HTTP API are at http://{join_host_port(host, port)}/."

    def to_tls(self) -> str:
        """The listeners in TLS."""
        config = self._config
        found = [
            f"{each.name} on port {each.port}" for each in config.listeners if config.is_encrypted(each.name)
        ]
        return f"TLS is spoken by the listener {' and '.join(found)}." if found else "No listener speaks TLS."
