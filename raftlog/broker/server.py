"""A broker: a node of the cluster, and the listener that Kafka clients talk to."""

from __future__ import annotations

import socket

import trio

from raftlog.broker.listener import Listener, listen
from raftlog.cluster.node import Node
from raftlog.config import BrokerConfig
from raftlog.errors import ConfigError


class Broker:
    """Opened by `open`, alive inside `run`, released by `close`."""

    def __init__(self, node: Node, sock: socket.socket) -> None:
        self.node = node
        self._listener_socket = sock
        self._listener: Listener | None = None
        self.address: tuple[str, int] = sock.getsockname()[:2]
        """Where it listens: the port that was given when 0 was asked for."""

    def __repr__(self) -> str:
        return f"<Broker {self.node.broker_id} on {self.address[0]}:{self.address[1]}>"

    @classmethod
    def open(cls, config: BrokerConfig) -> Broker:
        """Bind the listener and open the data folder. Blocking; nothing is served before `run`.

        Raises ConfigError (a bad setting, or a port that is taken), DataDirBusy, DamagedLog, DiskFailed.
        """
        listener = config.listeners[0]
        try:
            sock = listen(listener.host, listener.port)
        except OSError as error:
            raise ConfigError(
                f"cannot listen on {listener.host}:{listener.port}: {error.strerror}; "
                "choose another address with --listen HOST:PORT"
            ) from error
        try:
            node = Node.open(config)
        except BaseException:
            sock.close()
            raise
        broker = cls(node, sock)
        told = config.advertised_listeners
        host, port = (told[0].host, told[0].port) if told else (listener.host, 0)
        if host in ("", "0.0.0.0", "::"):
            host = socket.gethostname()
        node.advertised = (host, port or broker.address[1])
        return broker

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Serve until cancelled; `started` when clients can be served. Raises DiskFailed or SafetyError:
        then the broker must not go on."""
        async with trio.open_nursery() as nursery:
            await nursery.start(self.node.run)
            self._listener = Listener(self.node, self._listener_socket)
            nursery.start_soon(self._listener.run)
            task_status.started()

    def close(self) -> None:
        """After `run`: make everything durable and release the data folder. Blocking."""
        self._listener_socket.close()
        self.node.close()
