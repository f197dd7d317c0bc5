"""HTTP for a broker that is about to be served: the only place that knows both."""

from __future__ import annotations

import logging

from raftlog.broker.binding import listen
from raftlog.broker.connection import Connection
from raftlog.broker.listener import Listener
from raftlog.broker.people import People
from raftlog.broker.registry import served
from raftlog.broker.server import Broker
from raftlog.broker.traffic import Traffic
from raftlog.config import BrokerConfig
from raftlog.config.addresses import join_host_port
from raftlog.errors import ConfigError
from raftlog.http.app import Endpoints
from raftlog.http.view import ClientView, Faults, View
from raftlog.protocol.api import ApiKey

log = logging.getLogger("raftlog.http")


class _Kafka:
    """`raftlog.http.view.Kafka` of a listener."""

    def __init__(self, listener: Listener) -> None:
        self._listener = listener

    @property
    def traffic(self) -> dict[ApiKey, Traffic]:
        return self._listener.traffic

    def statistics(self) -> dict[str, int]:
        return self._listener.statistics()

    def clients(self) -> list[ClientView]:
        return [_client(connection) for connection in self._listener.connections]


def _client(connection: Connection) -> ClientView:
    last = connection.last_request
    return ClientView(
        host=connection.origin.host,
        listener=connection.origin.listener,
        client_id=(last.client_id or "") if last else "",
        since=connection.since,
        requests=connection.requests,
        bytes_in=connection.bytes_in,
        bytes_out=connection.outbox.bytes_sent,
        unanswered=connection.outbox.unanswered,
        last_api=ApiKey(last.api).name if last else "",
    )


def open_endpoints(config: BrokerConfig, broker: Broker, faults: Faults | None = None) -> Endpoints | None:
    """HTTP as the settings want it, bound and not served yet; None for none. Raises ConfigError."""
    if config.http_listen is None:
        return None
    host, port = config.http_listen
    try:
        sockets = listen(host, port)
    except OSError as error:
        said = f"cannot listen for HTTP on {join_host_port(host, port)}: {error.strerror}"
        if config.is_set("raftlog.http.listen"):
            raise ConfigError(f"{said}; choose another with --http-listen HOST:PORT") from error
        log.warning("%s: probes and metrics are not served; --http-listen HOST:PORT chooses another", said)
        return None
    view = View(
        inside=broker.inside,
        kafka=lambda: None if broker.listener is None else _Kafka(broker.listener),
        versions={api.key: (api.first, api.last) for api in served()},
        bootstrap=broker.address,
        faults=faults,
    )
    try:
        directory = None if broker.backend.authorizer is None else People(broker.backend)
        endpoints = Endpoints(config, view, sockets, directory)
    except ConfigError:
        for sock in sockets:
            sock.close()
        raise
    broker.signposts.http = endpoints.address
    return endpoints
