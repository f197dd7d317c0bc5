"""The `raftlog` command. Each subcommand is imported when it is called, so that `serve` starts fast."""

from __future__ import annotations

import importlib

import click

COMMANDS = {
    "serve": "Start a broker.",
    "topic": "Create, list, describe, alter and delete topics.",
    "produce": "Publish lines from standard input.",
    "consume": "Print the records of a topic.",
    "group": "List and describe consumer groups.",
    "bench": "Measure a Kafka-protocol broker.",
    "log": "Look into the files of a broker.",
}
"""Every subcommand with its short help; `NAME` is the attribute `command` of module `raftlog.cli.NAME`."""


class LazyGroup(click.Group):
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


@click.group(
    cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100}
)
@click.version_option(package_name="raftlog", message="raftlog %(version)s")
def main() -> None:
    """A Kafka-compatible event log: every acknowledged record is on a majority of disks.

    \b
    raftlog serve                                  a broker on 127.0.0.1:9092, data in ./raftlog-data
    raftlog topic create orders -p 3
    echo 'hello' | raftlog produce orders
    raftlog consume orders --from-beginning -n 1
    """
