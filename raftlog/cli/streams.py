"""`raftlog streams`: run and describe stream processing apps.

An app is named as FILE.py:NAME, the file where it is made and its variable there. A worker is one process, so
that `--workers` starts that many of this very command.
"""

from __future__ import annotations

import gc
import importlib.util
import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING, Final

import click

from raftlog.cli import CommandGroup
from raftlog.cli.listening import Listening, serves_http
from raftlog.cli.output import log_to_stderr
from raftlog.cli.target import Target, with_brokers

if TYPE_CHECKING:
    from raftlog.client.client import Client
    from raftlog.streams.serving import Http
    from raftlog.streams.topology import App

GOODBYE_SECONDS_MAX: Final = 15.0
"""A worker that is stopped commits, writes its state and leaves its group."""
WORKERS_MAX: Final = 256
COLLECTOR_THRESHOLDS: Final = (50_000, 20, 100)
"""Objects that are made before the collector looks at the young ones, and how often that is before it looks
at older ones. At Python's own (700, 10, 10) a worker spends a tenth to a fifth of its time on looking: a
record is some tuples, and thousands of them wait at a time."""


def app_named(ctx: click.Context, param: click.Parameter, value: str | None) -> str | None:
    """Refuse what is not FILE.py:NAME, before anything is run."""
    if value is None:
        return None
    file, _, name = value.rpartition(":")
    if not file or not name:
        raise click.BadParameter(f"{value!r} is not FILE.py:NAME, such as wordcount.py:app", ctx, param)
    if not os.path.isfile(file):
        raise click.BadParameter(f"there is no file {file!r}", ctx, param)
    return value


def load(named: str) -> App:
    """The app that a file makes. Raises ClickException when it makes none of that name."""
    from raftlog.streams.topology import App

    file, _, name = named.rpartition(":")
    sys.path.insert(0, os.path.dirname(os.path.abspath(file)))
    spec = importlib.util.spec_from_file_location(os.path.splitext(os.path.basename(file))[0], file)
    assert spec is not None and spec.loader is not None, file
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    found = getattr(module, name, None)
    if not isinstance(found, App):
        apps = [each for each, value in vars(module).items() if isinstance(value, App)]
        there = f"; it has {', '.join(apps)}" if apps else ""
        raise click.ClickException(f"{file} has no app {name!r}{there}")
    return found


@click.group(
    cls=CommandGroup,
    epilog="""\b
Examples:
  raftlog streams run wordcount.py:app
  raftlog streams describe wordcount.py:app
""",
)
def command() -> None:
    """Run and describe stream processing apps."""


@command.command(
    epilog="""\b
Examples:
  raftlog streams run wordcount.py:app --state /var/lib/wordcount
  raftlog streams run wordcount.py:app --workers 4
  raftlog streams run wordcount.py:app --listen 127.0.0.1:8088
""",
)
@click.argument("app", metavar="FILE.py:NAME", callback=app_named)
@click.option(
    "--workers", type=click.IntRange(1, WORKERS_MAX), default=1, show_default=True, help="Processes."
)
@click.option("--state", default="streams-state", show_default=True, help="The folder of the app's stores.")
@click.option(
    "--name", default="worker", show_default=True, help="Tells workers apart; it outlives restarts."
)
@click.option(
    "--instance",
    metavar="NAME",
    help="Its name in the group: a worker that comes back within its session (45 s) keeps its tasks.",
)
@click.option("--skip-lost", is_flag=True, help="Go on where records were gone before they were read.")
@click.option("--rebuild-lost", is_flag=True, help="Begin state anew whose changelog was made anew.")
@serves_http(None, listen="Answer questions about the worker's stores over HTTP.", viewers=False)
@with_brokers
def run(
    target: Target,
    app: str,
    workers: int,
    state: str,
    name: str,
    instance: str | None,
    skip_lost: bool,
    rebuild_lost: bool,
    listening: Listening | None,
) -> None:
    """Run an app until Ctrl-C, which commits and leaves its group."""
    if workers > 1 and listening is not None:
        raise click.UsageError("--listen is one worker's: start each with its own --name and --listen")
    if workers > 1:
        raise SystemExit(_run_processes(workers, name, instance))
    log_to_stderr()
    loaded = load(app)
    http = None if listening is None else _http(listening)

    async def main(client: Client) -> None:
        from raftlog.streams.worker import run as work

        click.echo(f"running app={loaded.name} name={name} guarantee={loaded.guarantee}")
        await work(
            loaded,
            client,
            state=state,
            name=name,
            instance=instance,
            on_source_lost="skip" if skip_lost else "fail",
            on_changelog_lost="rebuild" if rebuild_lost else "fail",
            http=http,
        )

    gc.freeze()
    gc.set_threshold(*COLLECTOR_THRESHOLDS)
    target.serve(main, goodbye_seconds_max=GOODBYE_SECONDS_MAX)


def _http(listening: Listening) -> Http:
    """Where the stores are served."""
    from raftlog.streams.serving import Http

    tokens = listening.tokens()
    return Http(listen=listening.open(), token=tokens.admin, hosts=listening.hosts)


def _run_processes(workers: int, name: str, instance: str | None) -> int:
    """This command once a worker, each with names and a folder of its own. When one fails, all are
    stopped."""
    given = [each for each in sys.argv[1:] if not each.startswith("--workers=")]
    while "--workers" in given:
        at = given.index("--workers")
        del given[at : at + 2]
    started = []
    for number in range(1, workers + 1):
        own = ["--name", f"{name}-{number}"]
        if instance is not None:
            own += ["--instance", f"{instance}-{number}"]
        # In a group of its own, it has each Ctrl-C once, from here: a terminal gives it to all of a group.
        command = [sys.executable, "-m", "raftlog", *given, *own]
        started.append(subprocess.Popen(command, process_group=0))

    def pass_on(number: int, frame: object) -> None:
        for each in started:
            each.send_signal(signal.SIGTERM if number == signal.SIGHUP else number)

    for received in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(received) is not signal.SIG_IGN or received != signal.SIGHUP:  # nohup
            signal.signal(received, pass_on)
    code = 0
    for _ in started:
        pid, status = os.wait()
        code = code or os.waitstatus_to_exitcode(status)
        for each in started:
            if each.pid == pid:
                each.returncode = os.waitstatus_to_exitcode(status)
            elif each.poll() is None and code:
                each.terminate()
    return code


@command.command(
    epilog="""\b
Examples:
  raftlog streams describe wordcount.py:app
  raftlog streams describe wordcount.py:app --format mermaid
""",
)
@click.argument("app", metavar="FILE.py:NAME", callback=app_named)
@click.option("--format", "output", type=click.Choice(["text", "mermaid"]), default="text", show_default=True)
def describe(app: str, output: str) -> None:
    """Print an app's sub-topologies, topics and stores. No broker is asked."""
    from raftlog.streams.plan import plan

    found = plan(load(app))
    click.echo(found.mermaid() if output == "mermaid" else found.describe())
