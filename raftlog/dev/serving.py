"""The parent's event loop: the console, and a watch over the brokers."""

from __future__ import annotations

import logging
import signal
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import trio

from raftlog.broker.binding import listen
from raftlog.dev.app import DevApp
from raftlog.dev.fleet import Fleet
from raftlog.dev.load import Load
from raftlog.dev.news import News
from raftlog.http.server import Server
from raftlog.testing.processes import BrokerProcess

HOST = "127.0.0.1"
log = logging.getLogger("raftlog.dev")


@dataclass(frozen=True, slots=True)
class Told:
    """Called for what the terminal should say."""

    ready: Callable[[str], None]
    """With the console's address, empty when its port is taken."""
    died: Callable[[BrokerProcess], None]
    back: Callable[[BrokerProcess, Exception | None], None]
    """A broker that was started again serves, or why it does not."""
    all_run: Callable[[], None]
    """There is nobody to bring back."""
    settled: Callable[[bool], None]
    """Each broker that was started again serves, or does not start; whether it was `revive` that asked."""


async def serve(
    processes: Sequence[BrokerProcess], bootstrap: str, port: int, revive: signal.Signals, told: Told
) -> bool:
    """Until a signal comes: True. Until every broker has ended: False. `revive` has those that ended
    started."""
    news = News()
    fleet, load = Fleet(processes, news.say), Load(bootstrap)
    is_left = True
    is_asked = False

    def died(process: BrokerProcess) -> None:
        nonlocal is_left
        told.died(process)
        if fleet.is_over:
            is_left = False
            nursery.cancel_scope.cancel()

    def settle() -> None:
        nonlocal is_asked
        if not fleet.is_starting:
            told.settled(is_asked)
            is_asked = False

    def back(process: BrokerProcess, why_not: Exception | None) -> None:
        told.back(process, why_not)
        settle()

    with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM, signal.SIGHUP, revive) as signals:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(fleet.watch, died, back)
            try:
                sockets = listen(HOST, port)
            except OSError as error:
                log.warning("the console is not served: port %d: %s", port, error.strerror)
                told.ready("")
            else:
                nursery.start_soon(Server(sockets, DevApp(fleet, news, load)).run)
                nursery.start_soon(news.listen, fleet)
                nursery.start_soon(load.run)
                told.ready(f"http://{HOST}:{port}/")
            async for number in signals:
                if number != revive:
                    nursery.cancel_scope.cancel()
                    break
                is_asked = True
                if not await fleet.revive() and not fleet.is_starting:
                    told.all_run()
                settle()
    return is_left
