"""Embedded clusters, one broker included: started, asked, broken and cleaned away.

A cluster is its brokers, a folder and a source of chance. Everything on it is blocking and short, so that
the same object serves Trio, asyncio and plain tests.
"""

from __future__ import annotations

import contextlib
import logging
import random
import secrets
import shutil
import tempfile
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Unpack

import trio

from raftlog.client.opening import Opening
from raftlog.cluster.admin import AdminFailure, NewTopic
from raftlog.errors import RaftlogError
from raftlog.testing.broker import HOST, START_TIMEOUT_S, BrokerFailed, EmbeddedBroker
from raftlog.testing.faults import Faults
from raftlog.testing.starting import Starting, elsewhere, must_be_trio

if TYPE_CHECKING:
    from raftlog.client.client import Client
    from raftlog.client.options import ClientOptions
    from raftlog.testing.security import Security, TestSecurity

Setting = str | int | float | bool

DEFAULTS: Final[Mapping[str, Setting]] = {
    "raftlog.wal.file.bytes": 8 << 20,
    "group.min.session.timeout.ms": 100,  # so that tests can lose a member quickly
}
"""What is set unless a test sets it: little disk, short session time-outs allowed."""

CREATE_TIMEOUT_S: Final = 30.0
LEADER_TIMEOUT_S: Final = 30.0
LEADER_POLL_S: Final = 0.005


class TopicNotCreated(RaftlogError):
    """The brokers refused a topic; the message says why."""


class EmbeddedCluster:
    """Running brokers. Made by `embedded_cluster`, `embedded_broker` and their like."""

    def __init__(
        self,
        nodes: int,
        *,
        data_dir: str | Path | None = None,
        seed: int | None = None,
        settings: Mapping[str, Setting] | None = None,
        security: Security | None = None,
    ) -> None:
        if nodes < 1:
            raise ValueError(f"a cluster has at least one broker, not {nodes}")
        self.seed = secrets.randbits(32) if seed is None else seed
        """What its random choices came from; pass it on to have the same ones again."""
        self._is_temporary = data_dir is None
        self.folder = Path(tempfile.mkdtemp(prefix="raftlog-") if data_dir is None else data_dir)
        self._security = _secured(security, self.folder / "security")
        self.brokers = [
            EmbeddedBroker(
                number,
                self.folder / f"broker-{number}",
                with_peers=nodes > 1,
                seed=self.seed,
                protocol="PLAINTEXT" if security is None else "SASL_SSL",
            )
            for number in range(1, nodes + 1)
        ]
        secured = {} if self._security is None else self._security.settings
        self._settings = {**dotted(DEFAULTS), **secured, **dotted(settings or {})}
        if nodes > 1:
            peers = [f"{broker.id}@{HOST}:{broker.peer_port}" for broker in self.brokers]
            self._settings["raftlog.peers"] = ",".join(peers)
        self._is_open = False
        self.faults = Faults(self, random.Random(f"faults/{self.seed}"))

    @property
    def is_open(self) -> bool:
        """Between `open` and `close`."""
        return self._is_open

    def report(self) -> str:
        """What the cluster looks like now, for people: brokers, topics with the offsets at their ends, groups
        with their members and lag, faults so far, what each broker has logged last. Blocking, for a second at
        most."""
        from raftlog.testing.report import report

        return report(self.brokers, self.faults.history)

    def __enter__(self) -> EmbeddedCluster:
        """Start all brokers and wait until they serve."""
        try:
            self.open()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<EmbeddedCluster {self.bootstrap} seed={self.seed}>"

    if not TYPE_CHECKING:  # so that mypy and pyright go on refusing a wrong name

        def __getattr__(self, name):
            raise AttributeError(elsewhere(name, self), name=name, obj=self)

    @property
    def bootstrap(self) -> str:
        """`host:port,…` of all brokers, for a client's `bootstrap_servers`."""
        return ",".join(broker.bootstrap for broker in self.brokers)

    @property
    def port(self) -> int:
        """The first broker's port."""
        return self.brokers[0].port

    def broker(self, broker: int | EmbeddedBroker) -> EmbeddedBroker:
        """A broker by its id; ids count from 1."""
        found = [b for b in self.brokers if broker in (b.id, b)]
        if not found:
            raise ValueError(f"there is no broker {broker!r}, only 1 to {len(self.brokers)}")
        return found[0]

    def client(self, **options: Unpack[ClientOptions]) -> AbstractAsyncContextManager[Client]:
        """A Trio client of all brokers: `raftlog.open_client` says what the options are."""
        from raftlog.client.client import from_properties

        return from_properties(self.client_properties, **options)

    @property
    def client_properties(self) -> dict[str, str]:
        """What a client is set up with, as Java and `raftlog.from_properties` take it: where the brokers are,
        and how to log in if they ask."""
        from raftlog.testing.security import client_properties

        return client_properties(self.bootstrap, self._security)

    @property
    def librdkafka_settings(self) -> dict[str, str]:
        """The same for confluent-kafka."""
        from raftlog.testing.security import librdkafka_settings

        return librdkafka_settings(self.bootstrap, self._security)

    @property
    def kafka_python_settings(self) -> dict[str, str]:
        """The same as keywords of kafka-python."""
        from raftlog.testing.security import kafka_python_settings

        return kafka_python_settings(self.bootstrap, self._security)

    def create_topic(
        self, name: str, partitions: int = 1, replication_factor: int = -1, **configs: Setting
    ) -> str:
        """Create a topic that any client can use at once; its name. Blocking.

        -1 replicas are three, or as many as there are brokers. Configs are keywords: `retention_ms=1000`.
        Raises TopicNotCreated.
        """
        new = NewTopic(
            name=name,
            partitions=partitions,
            replication_factor=replication_factor,
            configs=dotted(configs),
        )
        for broker in self._usable():

            async def create(broker: EmbeddedBroker = broker) -> object:
                return await broker.backend.admin.create_topic(new, timeout=CREATE_TIMEOUT_S)

            result = broker.call(create).result(CREATE_TIMEOUT_S + 1)
            if isinstance(result, AdminFailure):
                raise TopicNotCreated(f"topic {name!r}: {result.error.name}: {result.message}")
            return name
        raise TopicNotCreated(f"topic {name!r}: no broker is running")

    def leader(
        self, topic: str, partition: int = 0, *, timeout_s: float = LEADER_TIMEOUT_S
    ) -> EmbeddedBroker:
        """The broker that leads a partition; waits for an election if it must. Blocking.

        Of two that think they lead (one was cut off) it is the one in the later term. Raises ValueError when
        there is no such topic or partition, TimeoutError.
        """
        deadline = time.monotonic() + timeout_s
        while True:
            leaders = [
                (replica.leader_epoch, broker.id, broker)
                for broker in self.brokers
                if broker.is_running
                and (replica := broker.backend.replicas.partition(topic, partition)) is not None
                and replica.is_leader
            ]
            if leaders:
                return max(leaders)[2]
            self._check_exists(topic, partition)
            if time.monotonic() > deadline:
                raise TimeoutError(f"nobody leads {topic}-{partition} after {timeout_s:g} s")
            time.sleep(LEADER_POLL_S)

    def _check_exists(self, topic: str, partition: int) -> None:
        """Raise ValueError for what does not exist, as far as that is certain: the leader of the metadata
        must say so, with all before its term applied, and no other broker may know better."""
        running = [broker for broker in self.brokers if broker.is_running]
        known = [one for broker in running if (one := broker.backend.catalog.topics.get(topic)) is not None]
        if not any(broker.inside.metadata.is_ready for broker in running):
            return
        if not known:
            names = sorted({name for broker in running for name in broker.backend.catalog.topics})
            raise ValueError(f"there is no topic {topic!r}; there are: {', '.join(names) or 'none'}")
        count = max(len(one.partitions) for one in known)
        if not 0 <= partition < count:
            raise ValueError(f"topic {topic!r} has no partition {partition}, only 0 to {count - 1}")

    def start(self, broker: EmbeddedBroker) -> None:
        """Start a broker without waiting until it serves."""
        broker.launch(self._settings)

    def wait_ready(self, timeout_s: float = START_TIMEOUT_S) -> None:
        """Wait until every broker that was started, and is not paused, serves. Blocking; in Trio use
        `ready`. Raises BrokerFailed."""
        deadline = time.monotonic() + timeout_s
        for broker in self._usable():
            broker.wait_ready(deadline - time.monotonic())

    async def ready(self, timeout_s: float = START_TIMEOUT_S) -> None:
        """As `wait_ready`, and other tasks run meanwhile. A call that is cancelled returns when the wait
        is over."""
        await trio.to_thread.run_sync(self.wait_ready, timeout_s)

    def check(self) -> None:
        """Raise BrokerFailed if a broker ended although nobody stopped it."""
        for broker in self.brokers:
            broker.check()

    def open(self) -> None:
        """Start all brokers and wait until they serve. Blocking. Raises ConfigError or BrokerFailed."""
        self._is_open = True
        for broker in self.brokers:
            self.start(broker)
        self.wait_ready()

    def close(self) -> None:
        """End all brokers, and remove what was temporary; a folder that stays is left in good order.
        Blocking. Raises BrokerFailed if a broker had ended by itself."""
        self._is_open = False
        failures = []
        with _quiet():  # brokers that see the others end one after the other would say so
            for broker in self.brokers:
                try:
                    if self._is_temporary or broker.is_paused:
                        broker.kill()
                    else:
                        broker.stop(hand_over=False)
                except BrokerFailed as failure:
                    failures.append(failure)
                broker.release()
        if self._is_temporary:
            shutil.rmtree(self.folder, ignore_errors=True)
        if failures:
            raise failures[0]

    def _usable(self) -> list[EmbeddedBroker]:
        return [broker for broker in self.brokers if broker.is_running and not broker.is_paused]


def running_cluster(
    nodes: int = 3,
    *,
    data_dir: str | Path | None = None,
    seed: int | None = None,
    security: Security | None = None,
    **settings: Setting,
) -> AbstractContextManager[EmbeddedCluster]:
    """A cluster of real brokers in threads, for tests that are not Trio's; all of them serve.

    `settings` are Kafka's dotted keys with underscores: `num_partitions=3`, `raftlog_durability="os"`.
    With `security="sasl_ssl"` they ask for a login, in TLS: `client_properties` has what it takes.
    Without `data_dir` the data lies in a temporary folder that is removed in the end. Raises ConfigError for
    a bad setting, and BrokerFailed on the way out if a broker ended that nobody killed.
    """
    running = _running(nodes, data_dir=data_dir, seed=seed, security=security, settings=settings)
    return Starting(running, "with running_cluster() as cluster:")


def running_broker(
    *,
    data_dir: str | Path | None = None,
    seed: int | None = None,
    security: Security | None = None,
    **settings: Setting,
) -> AbstractContextManager[EmbeddedCluster]:
    """A single broker: a cluster of one, as `running_cluster`."""
    running = _running(1, data_dir=data_dir, seed=seed, security=security, settings=settings)
    return Starting(running, "with running_broker() as broker:")


def embedded_cluster(
    nodes: int = 3,
    *,
    data_dir: str | Path | None = None,
    seed: int | None = None,
    security: Security | None = None,
    **settings: Setting,
) -> AbstractAsyncContextManager[EmbeddedCluster]:
    """As `running_cluster`, in a Trio test: other tasks run while it starts and stops. Cancelled, it is
    stopped and cleaned away all the same. Raises NotOnTrio under asyncio."""
    embedded = _embedded(nodes, data_dir=data_dir, seed=seed, security=security, settings=settings)
    return Opening(embedded, "async with embedded_cluster() as cluster:")


def embedded_broker(
    *,
    data_dir: str | Path | None = None,
    seed: int | None = None,
    security: Security | None = None,
    **settings: Setting,
) -> AbstractAsyncContextManager[EmbeddedCluster]:
    """A single broker: a cluster of one, as `embedded_cluster`."""
    embedded = _embedded(1, data_dir=data_dir, seed=seed, security=security, settings=settings)
    return Opening(embedded, "async with embedded_broker() as broker:")


@contextlib.contextmanager
def _running(nodes: int, **options: Any) -> Iterator[EmbeddedCluster]:
    with EmbeddedCluster(nodes, **options) as cluster:
        yield cluster


@contextlib.asynccontextmanager
async def _embedded(nodes: int, **options: Any) -> AsyncIterator[EmbeddedCluster]:
    must_be_trio()
    cluster = EmbeddedCluster(nodes, **options)
    try:
        await trio.to_thread.run_sync(cluster.open)
        yield cluster
    finally:
        with trio.CancelScope(shield=True):
            await trio.to_thread.run_sync(cluster.close)


def _secured(security: Security | None, folder: Path) -> TestSecurity | None:
    if not isinstance(security, str):
        return security
    from raftlog.testing.security import TestSecurity

    return TestSecurity(folder)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Nothing of the brokers reaches the log, in this process."""
    logger = logging.getLogger("raftlog")
    was = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(was)


def dotted(settings: Mapping[str, Setting]) -> dict[str, str]:
    """Keywords as Kafka's keys and texts."""
    return {
        key.replace("_", "."): str(value).lower() if isinstance(value, bool) else str(value)
        for key, value in settings.items()
    }
