"""What commands that serve HTTP beside brokers share: where, for whom, and what a mistake in either says.

A command has its sockets before it looks for brokers, so that a port that is taken is told at once.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

from raftlog.cli import parsed

if TYPE_CHECKING:
    import socket

    from raftlog.http.guard import Tokens

Command = Callable[..., None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Listening:
    """Where the command line wants HTTP, and for whom."""

    listen: tuple[str, int]
    token_file: str | None
    viewer_token_file: str | None
    hosts: tuple[str, ...]
    """Names by which clients reach it."""

    def tokens(self) -> Tokens:
        """What is in the files. Raises click.UsageError when that is no token."""
        from raftlog.errors import ConfigError
        from raftlog.http.guard import Tokens, read_token

        try:
            return Tokens(
                read_token(self.token_file, "--token-file") if self.token_file else None,
                read_token(self.viewer_token_file, "--viewer-token-file") if self.viewer_token_file else None,
            )
        except ConfigError as error:
            raise click.UsageError(str(error)) from error

    def open(self) -> list[socket.socket]:
        """Sockets that listen. Raises click.ClickException when there can be none."""
        from raftlog.broker.binding import listen
        from raftlog.config.addresses import join_host_port

        try:
            return listen(*self.listen)
        except OSError as error:
            raise click.ClickException(
                f"cannot listen on {join_host_port(*self.listen)}: {error.strerror}; choose another with"
                " --listen HOST:PORT"
            ) from error


def serves_http(
    default: str | None,
    *,
    listen: str = "Where HTTP is served; port 0 takes a free one.",
    viewers: bool = True,
) -> Callable[[Command], Command]:
    """The options of a command that serves HTTP: at `default`, or only when told where if that is None.

    The command gets a `listening`, None when it is to serve none. `listen` is the help of that option. With
    `viewers` there may be clients that look and change nothing.
    """
    options = [
        click.option(
            "--listen",
            default=default,
            show_default=default is not None,
            metavar="HOST:PORT",
            callback=parsed(_address),
            help=listen,
        ),
        click.option(
            "--token-file",
            type=click.Path(exists=True, dir_okay=False),
            help="Ask clients for the token in this file. Without it only this machine is served.",
        ),
        click.option(
            "--host", "hosts", multiple=True, metavar="NAME", help="A name by which clients reach this one."
        ),
    ]
    if viewers:
        options.insert(
            2,
            click.option(
                "--viewer-token-file",
                type=click.Path(exists=True, dir_okay=False),
                help="A token with which nothing can be changed.",
            ),
        )

    def decorate(command: Command) -> Command:
        @functools.wraps(command)
        def wrapped(
            *args: Any,
            listen: tuple[str, int] | None,
            token_file: str | None,
            hosts: tuple[str, ...],
            viewer_token_file: str | None = None,
            **others: Any,
        ) -> None:
            listening = None
            if listen is not None:
                listening = Listening(
                    listen=listen, token_file=token_file, viewer_token_file=viewer_token_file, hosts=hosts
                )
            command(*args, listening=listening, **others)

        for option in reversed(options):
            option(wrapped)
        return wrapped

    return decorate


def _address(text: str) -> tuple[str, int]:
    from raftlog.config.addresses import parse_host_port

    return parse_host_port(text)
