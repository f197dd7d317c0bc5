"""Which brokers a command talks to, and how its async part runs.

Decides the options that all such commands share, what Ctrl-C does, and what a failure says. Before anything
else it asks a broker a question by hand (`reach`), so that the mistakes that everybody makes, no broker and
the wrong port, are answered at once and by name instead of after a minute of retries.
"""

from __future__ import annotations

import functools
import os
import signal
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any, Final

import click

if TYPE_CHECKING:
    from raftlog.client.client import Client
    from raftlog.client.metadata import TopicView

BOOTSTRAP_DEFAULT: Final = "localhost:9092"
BOOTSTRAP_VARIABLE: Final = "RAFTLOG_BOOTSTRAP"
API_TIMEOUT_MS: Final = 30_000
"""How long a call is retried: a person waits for it."""
GOODBYE_SECONDS_MAX: Final = 0.9
"""Ctrl-C ends a command within a second, whatever it still has to say to the brokers."""
STOPPED: Final = (128 + signal.SIGINT, 128 + signal.SIGTERM)
"""The exit codes of a signal."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """The brokers that the command line names."""

    bootstrap: str | None
    config: str | None

    def run(
        self,
        main: Callable[[Client], Awaitable[None]],
        *,
        goodbye_seconds_max: float = GOODBYE_SECONDS_MAX,
        **options: Any,
    ) -> None:
        """Run `main` with a client; `options` are those of `raftlog.open_client`.

        Ends in a SystemExit after SIGINT or SIGTERM, a ClickException after a failure. On a signal `main` is
        cancelled while the client still has its connections, so that what `main` has open can say goodbye;
        for that there are `goodbye_seconds_max`. A second signal ends the process at once.
        """
        import trio

        received: list[int] = []
        scopes: list[trio.CancelScope] = []

        async def until_signal() -> None:
            with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
                received.append(await anext(signals))
                give_up = threading.Timer(goodbye_seconds_max, os._exit, [128 + received[0]])
                give_up.daemon = True
                give_up.start()
                for number in (signal.SIGINT, signal.SIGTERM):
                    signal.signal(number, _end_at_once)
                scopes[-1].cancel()
                await trio.sleep_forever()  # the receiver's end would bring back Python's own handlers

        async def everything() -> None:
            async with trio.open_nursery() as nursery:
                scopes.append(nursery.cancel_scope)
                nursery.start_soon(until_signal)
                async with self._client(options) as client:
                    with trio.CancelScope() as scope:
                        scopes.append(scope)
                        await main(client)
                nursery.cancel_scope.cancel()

        try:
            trio.run(everything)
        except Exception as error:
            raise _failure(error) from error
        if received:
            raise SystemExit(128 + received[0])

    def serve(
        self, main: Callable[[Client], Awaitable[None]], *, goodbye_seconds_max: float, **options: Any
    ) -> None:
        """As `run`, of a service: that it was asked to stop, and did, is no failure."""
        try:
            self.run(main, goodbye_seconds_max=goodbye_seconds_max, **options)
        except SystemExit as ended:
            if ended.code not in STOPPED:
                raise

    @asynccontextmanager
    async def _client(self, options: dict[str, Any]) -> AsyncIterator[Client]:
        """A client, once a broker has answered. Raises click.ClickException when none does."""
        from raftlog.cli import reach
        from raftlog.client.client import from_properties
        from raftlog.client.properties import read_properties
        from raftlog.client.settings import ClientSettings

        known = read_properties(self.config).client if self.config else {}
        bootstrap = (
            self.bootstrap
            or known.get("bootstrap_servers")
            or os.environ.get(BOOTSTRAP_VARIABLE)
            or BOOTSTRAP_DEFAULT
        )
        if known.get("security_protocol", "PLAINTEXT") == "PLAINTEXT":  # it asks in plain text
            await reach.check(ClientSettings(bootstrap_servers=bootstrap).servers)
        own = {"client_id": "raftlog-cli", "default_api_timeout_ms": API_TIMEOUT_MS, **options}
        chosen = {name: value for name, value in own.items() if name not in known}
        chosen["bootstrap_servers"] = bootstrap
        async with from_properties(self.config or {}, **chosen) as client:
            yield client


def _end_at_once(number: int, frame: object) -> None:
    """The second signal: whoever sends it does not want to wait for the goodbye."""
    os.write(2, b"ended at once, without a goodbye\n")
    os._exit(128 + number)


def with_brokers(command: Callable[..., None]) -> Callable[..., None]:
    """The options that say which brokers; the command gets a `target`."""

    @click.option(
        "--bootstrap",
        "-b",
        metavar="HOST:PORT,…",
        help=f"Brokers to ask first.  [default: ${BOOTSTRAP_VARIABLE}, or {BOOTSTRAP_DEFAULT}]",
    )
    @click.option(
        "--config",
        "--command-config",
        "config",
        type=click.Path(exists=True, dir_okay=False),
        help="Settings of the client, in a client.properties file.",
    )
    @functools.wraps(command)
    def wrapped(*args: Any, bootstrap: str | None, config: str | None, **options: Any) -> None:
        command(*args, target=Target(bootstrap=bootstrap, config=config), **options)

    return wrapped


async def known_topic(client: Client, name: str) -> TopicView:
    """A topic as the brokers describe it; one that does not exist is answered with the nearest that does."""
    from raftlog.client.errors import UnknownTopic

    try:
        return await client.admin.describe_topic(name)
    except UnknownTopic:
        names = await client.admin.list_topics(internal=True)
    raise click.ClickException(f"there is no topic {name!r}{nearest(name, names, 'raftlog topic list')}")


def nearest(name: str, known: Iterable[str], listing: str) -> str:
    """The second half of "there is no …": the nearest known name, or how to see those that there are."""
    near = get_close_matches(name, list(known), n=1, cutoff=0.6)
    return f"; did you mean {near[0]!r}?" if near else f"; `{listing}` shows those that there are"


def _failure(error: Exception) -> BaseException:
    """What a command raises for what went wrong: a line for people where it is no bug."""
    from raftlog.errors import RaftlogError

    failure: BaseException = error
    while isinstance(failure, BaseExceptionGroup):
        failure = failure.exceptions[0]
    if isinstance(failure, RaftlogError):
        notes = "".join(f" ({note})" for note in getattr(failure, "__notes__", ()))
        return click.ClickException(_said(failure) + notes)
    return failure if isinstance(failure, click.ClickException | BrokenPipeError) else error


def _said(error: BaseException) -> str:
    """A failure of the client's in words."""
    from raftlog.client.errors import DeliveryError, Disconnected, InvalidTopic, RequestTimedOut

    match error:
        case InvalidTopic() if "letters" not in str(error):
            return f"{error}: names are made of up to 249 ASCII letters, digits, '.', '_' and '-'"
        case DeliveryError():
            cause = (
                f": {error.__cause__}" if error.__cause__ and str(error.__cause__) not in str(error) else ""
            )
            return f"{error}{cause}"
        case RequestTimedOut() | Disconnected():
            return (
                f"{error}. A broker answered at first: `raftlog cluster health` says what is missing in"
                " its cluster. Is it still up, and can this machine reach the address that it tells clients"
                " (advertised.listeners)?"
            )
        case _:
            return str(error)
