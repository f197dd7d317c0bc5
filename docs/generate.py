"""`make docs`: writes docs/reference from the code, so that it says what the code does.

Settings come from `raftlog.config` and `raftlog.client.settings`, the API table from the broker's registry,
the metrics from their table, the commands from their help, the Python API from its docstrings (`api.py`). The
first walk of docs/architecture.md comes from `raftlog.dev.walk`, of which the console has it, too.
"""

from __future__ import annotations

import dataclasses
import importlib.util
import inspect
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any, Literal, get_args, get_origin, get_type_hints

import click

FOLDER = Path(__file__).parent / "reference"
ARCHITECTURE = FOLDER.parent / "architecture.md"
NOTE = "<!-- Written by `make docs`. Do not edit. -->\n\n"
WIDTH = 100


def configuration() -> str:
    """docs/reference/configuration.md"""
    from raftlog.config import BROKER_CONFIGS, TOPIC_CONFIGS, markdown

    return f"""# Settings

A broker reads its settings from a file (`raftlog serve --config FILE`, TOML or .properties), from the
environment and from `-o key=value`; what comes later in this list wins. In the environment the name is
`RAFTLOG_` and the key in capitals: a dot is written as `_`, an underscore as `__`, a dash as `___`.

The names are Kafka's; settings of raftlog's own begin with `raftlog.`. An unknown key or a bad value stops
the start with the key, the value and the reason. A broker's
settings are given at its start, a topic's can be changed at any time.

## Brokers

{markdown(BROKER_CONFIGS)}
## Topics

Given with `raftlog topic create -c key=value`, changed with `raftlog topic alter`. What a topic does not set
itself comes from the broker.

{markdown(TOPIC_CONFIGS)}"""


def client() -> str:
    """docs/reference/client.md"""
    from raftlog.client.settings import ClientSettings, ConsumerSettings, ProducerSettings

    return f"""# Settings of the client

The keywords of `raftlog.open_client`, `client.producer` and `client.consumer`. Each is the snake_case twin of
Kafka's key: `linger_ms` is `linger.ms`, and so it is written in a client.properties file, which
`raftlog.from_properties` reads. Defaults are those of Kafka's Java client unless the text says otherwise. An
unknown keyword or key is refused, with the nearest one named, and so is a bad value. Times are milliseconds.

## Clients

{_settings(ClientSettings)}
## Producers

{_settings(ProducerSettings)}
## Consumers

`client.consumer(…, group=…)` is `group_id`.

{_settings(ConsumerSettings)}"""


def _settings(cls: type[Any]) -> str:
    meanings = dict(re.findall(r"^(\w+):\n((?:    .*(?:\n|$))+)", inspect.getdoc(cls) or "", re.MULTILINE))
    kinds = get_type_hints(cls)

    def row(name: str, default: object) -> str:
        choices = get_args(kinds[name]) if get_origin(kinds[name]) is Literal else ()
        spoken = f" One of {', '.join(f'`{one!r}`' for one in choices)}." if len(choices) > 1 else ""
        return f"| `{name}` | `{default!r}` | {' '.join(meanings[name].split())}{spoken} |"

    rows = [row(field.name, field.default) for field in dataclasses.fields(cls)]
    return "\n".join(["| Keyword | Default | Meaning |", "|---|---|---|", *rows]) + "\n"


def protocol() -> str:
    """docs/reference/protocol.md"""
    from raftlog.broker.registry import served

    rows = []
    for api in served():
        rule = api.rule
        takes = of_each = ""
        note = "before it is known who asks"
        if rule is not None:
            takes = ", ".join(str(whole.right) for whole in rule.whole)
            of_each = ", ".join(map(str, rule.each))
            note = rule.note
        versions = f"{api.first} to {api.last}"
        rows.append(
            f"| {api.key.value} | {_title(api.key.name)} | {versions} | {takes} | {of_each} | {note} |"
        )
    heads = ["| Key | API | Versions | Takes | Takes of each | |", "|---|---|---|---|---|---|"]
    table = "\n".join([*heads, *rows])
    return f"""# What a broker speaks

The requests of Kafka's protocol that are served, with the first and the last version of each. It is the same
list that a broker sends to clients in ApiVersions. A request that is not here closes the connection.

With an [authorizer](../guides/security.md) a request takes rights, in Kafka's words: of the one resource that
it is about, and of each that it names. Without the first nothing of it is done; what lacks the second is
refused alone. With two rights of one kind, each is asked for what it fits.

{table}
"""


def cli() -> str:
    """docs/reference/cli.md"""
    from raftlog.cli import main

    parts = ["# Commands\n", "What `raftlog COMMAND --help` prints.\n"]
    for path, command in _commands(main, ("raftlog",)):
        context = _context(command, path)
        parts.append(f"{'#' * (len(path) + 1)} {' '.join(path)}\n")
        parts.append(f"```text\n{command.get_help(context).rstrip()}\n```\n")
    return "\n".join(parts)


def _title(name: str) -> str:
    return "".join(part.capitalize() for part in name.split("_"))


def _commands(
    command: click.Command, path: tuple[str, ...]
) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    yield path, command
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            inner = command.get_command(context, name)
            assert inner is not None
            yield from _commands(inner, (*path, name))


def _context(command: click.Command, path: tuple[str, ...]) -> click.Context:
    return click.Context(
        command,
        info_name=" ".join(path),
        help_option_names=["-h", "--help"],
        terminal_width=WIDTH,
        max_content_width=WIDTH,
    )


def connectors() -> str:
    """docs/reference/connectors.md"""
    from raftlog.connect.contract import Source
    from raftlog.connect.pipeline import Errors, SinkSettings, SourceSettings
    from raftlog.connect.plugins import BUILT_IN, find

    def one(name: str) -> str:
        connector = find(name)
        kind = "source" if issubclass(connector, Source) else "sink"
        about = inspect.getdoc(sys.modules[connector.__module__]) or ""
        return f"### {name}\n\n{about}\n\nA {kind}.\n\n{_options(connector.Config)}"

    kinds = "\n".join(map(one, sorted(BUILT_IN)))
    return f"""# Connectors

The options of a [pipeline file](../guides/connect.md), by connector. `raftlog connect plugins NAME` prints
those of one, of another package's as well. Over HTTP they are texts, and their names flat: `errors.dlq`.

## What every source takes

{_options(SourceSettings)}
## What every sink takes

{_options(SinkSettings)}
## What becomes of what goes wrong

In the table `errors`.

{_options(Errors)}
## The connectors

{kinds}"""


def _options(cls: type[Any]) -> str:
    from raftlog.connect.options import describe

    def row(one: Any) -> str:
        default = "" if one.required else f"`{_toml(one.default)}`" if one.default is not None else "none"
        choices = f" One of {', '.join(f'`{_toml(each)}`' for each in one.choices)}." if one.choices else ""
        doc = one.doc.replace("|", "\\|")
        return f"| `{one.name}` | {default} | {doc}{choices}{' Secret.' if one.secret else ''} |"

    rows = [row(one) for one in describe(cls)]
    return "\n".join(["| Option | Default | Meaning |", "|---|---|---|", *rows]) + "\n"


def _toml(value: Any) -> str:
    match value:
        case bool():
            return "true" if value else "false"
        case str():
            return f'"{value}"'
        case tuple():
            return f"[{', '.join(map(_toml, value))}]"
    return f"{value:g}" if isinstance(value, float) else str(value)


def metrics() -> str:
    """docs/reference/metrics.md"""
    from raftlog.http.metrics import reference

    return f"""# Metrics

What `GET /metrics` on the HTTP port (9644) says, in Prometheus' text format. Figures are of the broker that
is asked; those that begin with `raftlog_cluster_` are given by the metadata leader alone, so that a sum over
brokers is right. Figures of each partition are given while a broker leads no more than
`raftlog.metrics.partitions.max`. [Monitoring](../guides/monitoring.md) says what to alert on.

{reference()}"""


def http() -> str:
    """docs/reference/http.md"""
    from raftlog.http.app import reference

    return f"""# HTTP

What is served on the HTTP port (9644). Answers are JSON; an error is
`{{"error": {{"code": …, "message": …, "retriable": …}}}}`, its code Kafka's name of it where it has one.
Numbers that may be beyond 2^53 (offsets, timestamps, indexes) are strings, since a browser would round them.

A change has `Content-Type: application/json` and `X-Raftlog-CSRF: 1`, which a page of another site cannot
send.
[Monitoring](../guides/monitoring.md) says who may ask; the rights are *probe* and *metrics*, which need
nothing, *read*, *records* and *change*. A parameter that is not named here is refused.

{reference()}"""


def architecture() -> str:
    """docs/architecture.md, with its first walk as the code has it; the rest is as it was."""
    from raftlog.dev.walk import PRODUCE

    steps = [f"{n}. `{file}: {name}` {does}." for n, (file, name, does) in enumerate(PRODUCE, 1)]
    page = ARCHITECTURE.read_text(encoding="utf-8")
    before, heading, rest = page.partition("### A Produce batch, on the leader\n\n")
    _, end, after = rest.partition("\n\n")
    return before + heading + "\n".join(steps) + end + after


PAGES: dict[str, Callable[[], str]] = {
    "configuration.md": configuration,
    "client.md": client,
    "protocol.md": protocol,
    "cli.md": cli,
    "connectors.md": connectors,
    "metrics.md": metrics,
    "http.md": http,
}


def pages() -> dict[Path, str]:
    """Every page and what it must say."""
    written = {FOLDER / name: NOTE + write() for name, write in PAGES.items()}
    written |= {FOLDER / name: NOTE + text for name, text in _api().pages().items()}
    return written | {ARCHITECTURE: architecture()}


def _api() -> ModuleType:
    """The module beside this one, also where this one was loaded by its path."""
    spec = importlib.util.spec_from_file_location("raftlog_api_pages", Path(__file__).with_name("api.py"))
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def main() -> None:
    FOLDER.mkdir(exist_ok=True)
    for path, text in pages().items():
        path.write_text(text, encoding="utf-8")
        print(f"{path.relative_to(FOLDER.parent.parent)}: {len(text.splitlines())} lines")


if __name__ == "__main__":
    sys.exit(main())
