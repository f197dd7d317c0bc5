"""One real broker in a thread of this process, which can be killed and stopped as a process can.

The thread has an event loop of its own. So a test that blocks does not stop its broker, a broker with a
slow disk stops only itself, and stopping a loop is what SIGSTOP is to a process: the kernel goes on
accepting connections and bytes, and nobody answers. Everything here is blocking and may be called from any
thread, a Trio task's too; nothing takes longer than a few milliseconds but `start` and `stop`.

The ports are the broker's for life: they stay bound while it is down, so that clients that know them meet
nobody else there.
"""

from __future__ import annotations

import contextlib
import random
import socket
import threading
from collections.abc import Awaitable, Callable, Mapping, Sequence
from concurrent.futures import Future
from functools import partial
from pathlib import Path
from typing import Final, TypeVar

import trio

from raftlog.broker.backend import Backend
from raftlog.broker.server import Broker
from raftlog.cluster.inside import Inside
from raftlog.config import BrokerConfig
from raftlog.errors import RaftlogError, StorageError
from raftlog.testing.disk import FaultyDisk
from raftlog.testing.log_tails import tails
from raftlog.testing.network import Network
from raftlog.types import BrokerId

HOST: Final = "127.0.0.1"
START_TIMEOUT_S: Final = 30.0
"""How long a start may take; generous, since the machine may be busy with other tests."""
STOP_TIMEOUT_S: Final = 30.0
PAUSE_TIMEOUT_S: Final = 5.0
"""How long a pause waits for the loop to come to it: the loop may be inside a slow sync."""

KILLED: Final = "the broker was killed"

T = TypeVar("T")


class BrokerFailed(RaftlogError):
    """An embedded broker did not start, or ended by itself; its error is the cause of this one."""


class EmbeddedBroker:
    """A broker that runs in a thread between `start` and `stop` or `kill`. Made by a cluster."""

    def __init__(
        self, broker_id: int, data_dir: Path, *, with_peers: bool, seed: int, protocol: str = "PLAINTEXT"
    ) -> None:
        self.id = broker_id
        self.data_dir = data_dir
        self.disk = FaultyDisk()
        self.network = Network()
        self.is_running = False
        """Started, and not stopped or killed since; it may be paused."""
        self._seed = seed
        self._protocol = protocol
        self._starts = 0
        self._reserved = [_reserve() for _ in range(1 + with_peers)]
        ports = [int(sock.getsockname()[1]) for sock in self._reserved]
        self.port = ports[0]
        """Where it serves, or served, Kafka clients."""
        self.peer_port = ports[1] if with_peers else 0
        """Where it serves other brokers; 0 for a broker that has none."""
        self._run: _Run | None = None
        self._resumed = threading.Event()
        self._resumed.set()

    def __repr__(self) -> str:
        state = "down" if not self.is_running else "paused" if self.is_paused else "running"
        return f"<EmbeddedBroker {self.id} {self.bootstrap} {state}>"

    @property
    def bootstrap(self) -> str:
        """`host:port` for a client's `bootstrap_servers`."""
        return f"{HOST}:{self.port}"

    @property
    def failure(self) -> BaseException | None:
        """What it ended by, if nobody ended it."""
        return self._run.failure if self._run is not None else None

    def log_tail(self) -> list[str]:
        """The last lines that it has logged since its start: warnings, and what happened to the cluster."""
        return list(self._run.log_tail) if self._run is not None else []

    @property
    def is_paused(self) -> bool:
        """Between `pause` and `resume`."""
        return not self._resumed.is_set()

    @property
    def backend(self) -> Backend:
        """The running broker's parts, to look at. Not thread-safe: use `call` for anything else."""
        return self._running().broker().backend

    @property
    def inside(self) -> Inside:
        """What is below them: Raft and the links. As thread-safe as `backend`."""
        return self._running().broker().inside

    def launch(self, settings: Mapping[str, str]) -> None:
        """Start it without waiting; `settings` are Kafka's dotted keys."""
        assert not self.is_running, self
        self._starts += 1
        self.disk = FaultyDisk()
        own = {
            "node.id": str(self.id),
            "listeners": f"{self._protocol}://{self.bootstrap}",
            "log.dirs": str(self.data_dir),
        }
        if self.peer_port:
            own["raftlog.peer.listen"] = f"{HOST}:{self.peer_port}"
        config = BrokerConfig.of({**settings, **own})
        # A restart is another process: it must not draw what the one before drew.
        rng = random.Random(f"{self._seed}/{self.id}/{self._starts}")
        self._run = _Run(config, self.disk, self.network, rng)
        self.is_running = True
        self._run.thread.start()

    def wait_ready(self, timeout_s: float = START_TIMEOUT_S) -> None:
        """Wait until it serves. Raises BrokerFailed."""
        run = self._running()
        if not run.ready.wait(timeout_s):
            raise BrokerFailed(f"broker {self.id} does not serve after {timeout_s:g} s")
        self.check()

    def check(self) -> None:
        """Raise BrokerFailed if the broker ended although nobody stopped it."""
        if self.is_running and self._run is not None and self._run.failure is not None:
            raise BrokerFailed(f"broker {self.id} failed: {self._run.failure!r}") from self._run.failure

    def call(self, function: Callable[..., Awaitable[T]], *args: object) -> Future[T]:
        """Run an async function on the broker's event loop; a future of what it returns."""
        return self._running().call(function, *args)

    def cut(self, peers: frozenset[BrokerId]) -> None:
        """Lose what goes to these brokers or comes from them; others are reached again."""
        cut = partial(self.network.cut, peers)
        self._running().in_loop(cut, 0.0 if self.is_paused else PAUSE_TIMEOUT_S)

    def pause(self) -> None:
        """As SIGSTOP: it keeps its sockets and answers nothing until `resume`."""
        if not self.is_paused and self.is_running:
            self._resumed.clear()
            self._running().hold(self._resumed, PAUSE_TIMEOUT_S)

    def resume(self) -> None:
        """As SIGCONT: it goes on after `pause`."""
        self._resumed.set()

    def kill(self) -> None:
        """As SIGKILL: what it has not written yet is lost, and nobody is told."""
        self._end(hand_over=False, kill=True)

    def stop(self, *, hand_over: bool = True) -> None:
        """As SIGTERM: hand the leaderships over, answer nothing any more, make everything durable."""
        self._end(hand_over=hand_over, kill=False)

    def _end(self, *, hand_over: bool, kill: bool) -> None:
        if not self.is_running or self._run is None:
            return
        self.is_running = False
        self._run.end(self._resumed, hand_over=hand_over, kill=kill)

    def release(self) -> None:
        """Give the ports back, after the last stop."""
        for sock in self._reserved:
            sock.close()

    def _running(self) -> _Run:
        if not self.is_running or self._run is None:
            raise BrokerFailed(f"broker {self.id} is down")
        return self._run


class _Run:
    """One life of a broker: a thread, from its start to its end."""

    def __init__(self, config: BrokerConfig, disk: FaultyDisk, network: Network, rng: random.Random) -> None:
        self.thread = threading.Thread(
            target=self._main, name=f"raftlog-{config.int('node.id')}", daemon=True
        )
        self.ready = threading.Event()
        """It serves, or has failed."""
        self.failure: BaseException | None = None
        self.log_tail: Sequence[str] = ()
        self._config, self._disk, self._network, self._rng = config, disk, network, rng
        self._broker: Broker | None = None
        self._token: trio.lowlevel.TrioToken | None = None
        self._nursery: trio.Nursery | None = None
        self._looping = threading.Event()
        """The event loop takes work, or never will."""

    def broker(self) -> Broker:
        self._looping.wait(START_TIMEOUT_S)
        if self._broker is None:
            raise BrokerFailed(f"the broker is not there: {self.failure!r}")
        return self._broker

    def _main(self) -> None:
        self.log_tail = tails.begin()
        try:
            self._broker = Broker.open(self._config, disk=self._disk, rng=self._rng)
            self._broker.inside.links.through = self._network.through
            try:
                trio.run(self._serve, self._broker)
            finally:
                self._broker.close()
        except BaseException as error:
            if not _is_the_kill(error):
                self.failure = error
        finally:
            tails.end()
            self._looping.set()
            self.ready.set()

    async def _serve(self, broker: Broker) -> None:
        self._token = trio.lowlevel.current_trio_token()
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            self._looping.set()
            await nursery.start(broker.run)
            self.ready.set()

    def call(self, function: Callable[..., Awaitable[T]], *args: object) -> Future[T]:
        future: Future[T] = Future()

        async def run() -> None:
            try:
                result = await function(*args)
            except Exception as error:
                future.set_exception(error)
            except BaseException as error:
                future.set_exception(BrokerFailed("the broker stopped meanwhile"))
                raise error
            else:
                future.set_result(result)

        def start() -> None:
            assert self._nursery is not None
            self._nursery.start_soon(run)

        if not self._soon(start):
            future.set_exception(BrokerFailed("the broker has stopped"))
        return future

    def in_loop(self, function: Callable[[], object], timeout_s: float) -> None:
        done = threading.Event()

        def run() -> None:
            function()
            done.set()

        if self._soon(run):
            done.wait(timeout_s)

    def hold(self, until: threading.Event, timeout_s: float) -> None:
        """Stop the loop until the event."""
        holding = threading.Event()

        def stand_still() -> None:
            holding.set()
            until.wait()

        if self._soon(stand_still):
            holding.wait(timeout_s)

    def end(self, resumed: threading.Event, *, hand_over: bool, kill: bool) -> None:
        if kill:
            self._disk.take_away(KILLED)
        elif hand_over and resumed.is_set() and self._broker is not None:
            with contextlib.suppress(BrokerFailed):
                self.call(self._broker.hand_over).result(STOP_TIMEOUT_S)
        self._soon(self._cancel)  # first in line when a loop that stands still goes on
        resumed.set()
        self.thread.join(STOP_TIMEOUT_S)
        if self.thread.is_alive():
            raise BrokerFailed(f"a broker did not stop within {STOP_TIMEOUT_S:g} s")
        if self.failure is not None:
            raise BrokerFailed(f"a broker failed: {self.failure!r}") from self.failure

    def _cancel(self) -> None:
        if self._nursery is not None:
            self._nursery.cancel_scope.cancel()

    def _soon(self, function: Callable[[], None]) -> bool:
        """Have the loop call it; False when the loop has ended."""
        self._looping.wait(START_TIMEOUT_S)
        if self._token is None:
            return False
        try:
            self._token.run_sync_soon(function)
        except trio.RunFinishedError:
            return False
        return True


def _is_the_kill(error: BaseException) -> bool:
    """Whether it is only what a kill does to the disk."""
    if isinstance(error, BaseExceptionGroup):
        return all(map(_is_the_kill, error.exceptions))
    return isinstance(error, StorageError) and KILLED in str(error)


def _reserve() -> socket.socket:
    """A bound socket that never listens: the port is ours, and connecting to it is refused."""
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.bind((HOST, 0))
    return sock
