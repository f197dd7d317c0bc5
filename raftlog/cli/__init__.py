"""The `raftlog` command. Each subcommand is imported when it is called, so that `serve` starts fast.

Decides how a command ends: a failure is one line on stderr that says what to do, exit code 1, or 2 when the
command line or the settings are wrong; Ctrl-C exits with 130; a reader that closes the pipe is no failure.
"""

from __future__ import annotations

import difflib
import gc
import importlib
import os
import sys
from collections.abc import Callable, Sequence
from typing import Any, Final, NoReturn, TypeVar

import click

Parsed = TypeVar("Parsed")

COMMANDS: Final = {
    "serve": "Start a broker.",
    "dev": "Run a local cluster, a process a broker.",
    "console": "Show any cluster, Apache Kafka too, in a browser.",
    "topic": "Create, list, describe, alter and delete topics.",
    "produce": "Publish lines from standard input.",
    "consume": "Print the records of a topic.",
    "group": "List, describe, move and delete consumer groups.",
    "txn": "List, describe and abort transactions.",
    "acl": "Allow and deny; list, remove and check what is allowed.",
    "user": "Add, list and remove users, change their passwords.",
    "security": "Make a cluster secure, check what is.",
    "cluster": "Look at a cluster, add and drain brokers, spread replicas.",
    "streams": "Run and describe stream processing apps.",
    "registry": "Run a schema registry.",
    "connect": "Bring files and tables into topics, and topics elsewhere.",
    "sql": "Ask in SQL about topics, and about an app's stores.",
    "bench": "Measure a Kafka-protocol broker.",
    "log": "Look into the files of a broker.",
}
"""Every subcommand with its short help; `NAME` is the attribute `command` of module `raftlog.cli.NAME`."""

YOUNG_OBJECTS_MAX: Final = 100_000
"""Objects that are made before the collector looks at the young ones. A broker's start imports 90 000, which
all stay: at Python's own 700, looks at them take a twelfth of it."""

INTERRUPTED: Final = 130
"""The exit code after Ctrl-C: what a shell makes of SIGINT."""


class CommandGroup(click.Group):
    """A group that names the nearest command when it is given an unknown one."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if self.get_command(ctx, args[0]) is None and not args[0].startswith("-"):
            near = difflib.get_close_matches(args[0], self.list_commands(ctx), n=1)
            hint = f"; did you mean {near[0]!r}?" if near else f": {', '.join(self.list_commands(ctx))}"
            raise click.UsageError(f"there is no command {args[0]!r}{hint}", ctx)
        return super().resolve_command(ctx, args)


class LazyGroup(CommandGroup):
    """Imports a subcommand's module on first use; listing them imports none."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name not in COMMANDS:
            return None
        command = importlib.import_module(f"raftlog.cli.{name}").command
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))

    def main(self, args: Sequence[str] | None = None, **extra: Any) -> Any:  # type: ignore[override]
        """Run the command and exit as the module says."""
        extra.setdefault("prog_name", "raftlog")
        if not extra.pop("standalone_mode", True):
            return super().main(args, standalone_mode=False, **extra)
        if args is None:  # the process is this command's
            gc.set_threshold(YOUNG_OBJECTS_MAX)
        try:
            code = super().main(args, standalone_mode=False, **extra)
        except (click.Abort, KeyboardInterrupt):
            sys.exit(INTERRUPTED)
        except click.exceptions.NoArgsIsHelpError as error:
            error.show()
            sys.exit(error.exit_code)
        except click.UsageError as error:
            path = error.ctx.command_path if error.ctx else "raftlog"
            fail(f"{path}: {_sentence(error.format_message())} (see {path} --help)", error.exit_code)
        except click.ClickException as error:
            fail(f"raftlog: {error.format_message()}", error.exit_code)
        sys.exit(code if isinstance(code, int) else 0)

    def invoke(self, ctx: click.Context) -> Any:
        """A reader that has seen enough, such as `head`, ends the command quietly."""
        try:
            result = super().invoke(ctx)
            sys.stdout.flush()
            return result
        except BrokenPipeError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return None


def parsed(parse: Callable[[str], Parsed]) -> Callable[..., Parsed | None]:
    """A callback that makes an option's text what `parse` says; its ValueError says what is wrong with it."""

    def callback(ctx: click.Context, parameter: click.Parameter, value: str | None) -> Parsed | None:
        try:
            return None if value is None else parse(value)
        except ValueError as error:
            raise click.BadParameter(str(error)) from None

    return callback


def fail(message: str, code: int = 1) -> NoReturn:
    """End the command with one line on stderr."""
    click.echo(" ".join(message.split()), err=True)
    sys.exit(code)


def _sentence(message: str) -> str:
    """Click's message as a part of ours: no capital, no full stop."""
    message = message.rstrip(".")
    return message[:1].lower() + message[1:] if message[1:2].islower() else message


def _version(ctx: click.Context, parameter: click.Parameter, wanted: bool) -> None:
    """Print the version and the commit, and end."""
    if wanted and not ctx.resilient_parsing:
        from raftlog.version import build

        click.echo(f"raftlog {build()}")
        ctx.exit()


@click.group(
    "raftlog",
    cls=LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_version,
    help="Show the version and the commit, and exit.",
)
def main() -> None:
    """A Kafka-compatible event log: every acknowledged record is on a majority of disks.

    \b
    raftlog serve                                  a broker on 127.0.0.1:9092, data in ./raftlog-data
    raftlog topic create orders -p 3
    echo 'hello' | raftlog produce orders
    raftlog consume orders --from-beginning -n 1

    \b
    Tab completion, for bash (zsh and fish likewise): eval "$(_RAFTLOG_COMPLETE=bash_source raftlog)"
    """
