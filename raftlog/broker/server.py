"""A broker: its share of the cluster, and the listener that Kafka clients talk to."""

from __future__ import annotations

import contextlib
import ipaddress
import logging
import random
import socket
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Final, Protocol

import trio

from raftlog.broker.backend import Backend
from raftlog.broker.binding import listen
from raftlog.broker.certificate import Certificate, certificates_of
from raftlog.broker.listener import Listener
from raftlog.broker.readiness import Readiness
from raftlog.broker.registry import spoken
from raftlog.broker.signposts import Signposts
from raftlog.cluster.front import Front
from raftlog.cluster.inside import Inside
from raftlog.cluster.node import Node
from raftlog.config import BrokerConfig, is_every_interface
from raftlog.config.addresses import join_host_port
from raftlog.errors import ConfigError
from raftlog.storage.disk import Disk

if TYPE_CHECKING:
    from raftlog.broker.tokens import Tokens

log = logging.getLogger("raftlog.broker")

HAND_OVER_TIMEOUT_S: Final = 2.0
"""How long a stop waits for others to take the leaderships over."""
OPEN_PEER_PORT: Final = (
    "the peer port %s is open to whoever knows the cluster id, which every client is told: give the brokers a"
    " secret (raftlog.peer.secret.file), or let nobody but them reach it"
)
HALF_OPEN_PEER_PORT: Final = (
    "the peer port %s still takes brokers without the cluster's secret: once all have it, set"
    " raftlog.peer.secret.required=true"
)


class Life(Protocol):
    """What a broker starts and stops: see `raftlog.cluster.node`."""

    async def run(
        self,
        peer_listeners: Sequence[trio.SocketListener],
        *,
        task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
    ) -> None: ...
    async def hand_over(self, timeout: float) -> None: ...
    def close(self) -> None: ...


class Broker:
    """Opened by `open`, alive inside `run`, released by `close`."""

    def __init__(
        self,
        life: Life,
        backend: Backend,
        inside: Inside,
        readiness: Readiness,
        sockets: list[tuple[str, socket.socket]],
        peer_sockets: list[socket.socket],
        certificates: Mapping[str, Certificate],
        tokens: Tokens | None,
    ) -> None:
        """`sockets` are those for clients, each with the name of its listener; `certificates` are by the
        names of those in TLS, `tokens` for those that take any."""
        self.backend = backend
        """As its handlers see it."""
        self.inside = inside
        self.listener: Listener | None = None
        """The Kafka listener, once it serves."""
        self.signposts = Signposts(backend.config)
        """Where else it is to be found, for who comes to a wrong port."""
        self._life = life
        self._readiness = readiness
        self._sockets = sockets
        self._peer_sockets = peer_sockets
        self._certificates = certificates
        self._tokens = tokens
        self.address: tuple[str, int] = sockets[0][1].getsockname()[:2]
        """Where its first listener is: the port that was given when 0 was asked for."""

    def __repr__(self) -> str:
        return f"<Broker {self.backend.broker_id} on {self.address[0]}:{self.address[1]}>"

    @classmethod
    def open(
        cls, config: BrokerConfig, *, disk: Disk | None = None, rng: random.Random | None = None
    ) -> Broker:
        """Bind the listeners and open the data folder. Blocking; nothing is served before `run`. Tests pass
        a disk and a source of chance of their own.

        Raises ConfigError (a bad setting, or a port that is taken), DataDirBusy, DamagedLog, DiskFailed.
        """
        certificates = certificates_of(config)
        tokens = _tokens(config)
        with contextlib.ExitStack() as opened:
            sockets: list[tuple[str, socket.socket]] = []
            advertised: list[tuple[str, str, int]] = []
            for listener, told in zip(config.listeners, config.advertised_listeners, strict=True):
                bound = _bound(opened, listener.host, listener.port, "--listen")
                sockets += [(listener.name, one) for one in bound]
                port = told.port or bound[0].getsockname()[1]
                advertised.append((listener.name, _reachable(told.host), port))
            peer_sockets: list[socket.socket] = []
            if config.peers or config.join:
                peer_sockets = _bound(opened, *config.peer_listen, "--peer-listen")
                _warn_of_peer_port(config, peer_sockets)
            peer_advertised = ("", 0)
            if peer_sockets:
                host, port = config.peer_advertised
                peer_advertised = (_reachable(host), port or peer_sockets[0].getsockname()[1])
            readiness = Readiness()
            front = Front(
                advertised=tuple(advertised),
                peer_advertised=peer_advertised,
                spoken=spoken,
                on_spoken=readiness.will_be_spoken,
            )
            life, backend, inside = _open_node(config, front, disk, rng)
            opened.pop_all()
        return cls(life, backend, inside, readiness, sockets, peer_sockets, certificates, tokens)

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Serve until cancelled; `started` when clients can be served. Raises DiskFailed, SafetyError or
        ConfigError (see `Node.run`): then the broker must not go on."""
        async with trio.open_nursery() as nursery:
            await nursery.start(self._life.run, self._peer_listeners())
            self.listener = Listener(
                self.backend, self._sockets, self._certificates, self._tokens, self.signposts
            )
            nursery.start_soon(self.listener.run)
            nursery.start_soon(self._readiness.run)
            task_status.started()

    def _peer_listeners(self) -> list[trio.SocketListener]:
        return [trio.SocketListener(trio.socket.from_stdlib_socket(one)) for one in self._peer_sockets]

    async def hand_over(self) -> None:
        """Before a planned stop: give the leaderships away, so that no client waits for an election."""
        await self._life.hand_over(HAND_OVER_TIMEOUT_S)

    def close(self) -> None:
        """After `run`: make everything durable and release the data folder. Blocking."""
        for sock in (*(sock for _, sock in self._sockets), *self._peer_sockets):
            sock.close()
        self._life.close()


def _open_node(
    config: BrokerConfig, front: Front, disk: Disk | None, rng: random.Random | None
) -> tuple[Life, Backend, Inside]:
    """The only place that knows a node: from here on it is a life and its parts."""
    node = Node.open(config, front=front, disk=disk, rng=rng)
    backend = Backend(
        broker_id=node.me.id,
        now_ms=node.me.now_ms,
        config=config,
        memory=node.memory,
        catalog=node.catalog,
        replicas=node.replicas,
        leaders=node.leaders,
        presence=node.presence,
        groups=node.groups,
        coordination=node.coordination,
        offsets=node.offsets,
        admin=node.admin,
        authorizer=node.authorizer,
        enforcement=node.enforcement,
        users=node.users,
        changes=node.changes,
        operations=node.operations,
        quorum=node.quorum,
        reports=node.inside.reports,
        proposer=node.proposer,
        producer_ids=node.producer_ids,
        transactions=node.transactions,
        verification=node.verification,
    )
    return node, backend, node.inside


def _bound(opened: contextlib.ExitStack, host: str, port: int, option: str) -> list[socket.socket]:
    """Listening sockets, closed with `opened`. Raises ConfigError that says what to do."""
    try:
        return [opened.enter_context(contextlib.closing(sock)) for sock in listen(host, port)]
    except OSError as error:
        raise ConfigError(
            f"cannot listen on {host}:{port}: {error.strerror}; choose another with {option} HOST:PORT"
        ) from error


def _tokens(config: BrokerConfig) -> Tokens | None:
    """What checks tokens, where some listener takes them. Raises ConfigError: a broker that cannot check them
    must not serve."""
    with_login = [each.name for each in config.listeners if config.asks_for_login(each.name)]
    mechanisms = [config.for_listener(name).list("sasl.enabled.mechanisms") for name in with_login]
    if not any("OAUTHBEARER" in each for each in mechanisms):
        return None
    from raftlog.broker.tokens import Tokens

    tokens = Tokens(config)
    tokens.load()
    return tokens


def _warn_of_peer_port(config: BrokerConfig, sockets: Sequence[socket.socket]) -> None:
    """Say who else may come in by it."""
    has_secret = bool(config.str("raftlog.peer.secret.file"))
    if not has_secret and any(map(_is_reached_by_others, sockets)):
        log.warning(OPEN_PEER_PORT, join_host_port(*config.peer_listen))
    elif has_secret and not config.bool("raftlog.peer.secret.required"):
        log.warning(HALF_OPEN_PEER_PORT, join_host_port(*config.peer_listen))


def _is_reached_by_others(sock: socket.socket) -> bool:
    """Others than this machine's own processes."""
    return not ipaddress.ip_address(sock.getsockname()[0]).is_loopback


def _reachable(host: str) -> str:
    """A host that others can connect to."""
    return socket.gethostname() if is_every_interface(host) else host
