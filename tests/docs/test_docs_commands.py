"""Every `raftlog …` that README or a page shows is a command that there is, with options that it has."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from raftlog.cli import main
from tests.docs.story import ROOT
from tests.docs.test_docs_examples import PAGES

SHOWN = re.compile(r"(?:^|[|`;&(]\s*|bin/|\) )raftlog (?!fault \()([a-z-][^`|;&)#\n]*)", re.MULTILINE)
"""Not the line that says which fault a test has made."""


def shown(text: str) -> Iterator[list[str]]:
    """The words behind `raftlog` of each command in code: a block of any kind, or between backticks."""
    for code in _code(text):
        for match in SHOWN.finditer(re.sub(r"\\\n\s*", " ", code)):
            try:
                yield shlex.split(match[1])
            except ValueError:  # a quote around what ends a command elsewhere
                yield match[1].split()


def _code(text: str) -> Iterator[str]:
    fenced = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
    for match in fenced.finditer(text):
        if match[1] == "console":
            yield "\n".join(line[2:] for line in match[2].splitlines() if line.startswith("$ "))
    text = fenced.sub("", text)
    yield "\n".join(line[4:] for line in text.splitlines() if line.startswith("    "))
    yield from re.findall(r"`(raftlog [^`]+)`", text)


def problem(words: list[str]) -> str | None:
    """Why these are no command of raftlog's; None when they are."""
    command: click.Command = main
    context = click.Context(command, info_name="raftlog", **main.context_settings)
    while isinstance(command, click.Group) and words and not words[0].startswith("-"):
        found = command.get_command(context, words[0])
        if found is None:
            return None if words[0].isupper() else f"there is no {' '.join(words)!r}"
        name, command, words = words[0], found, words[1:]
        context = click.Context(command, info_name=name, parent=context)
    known = {name for one in command.get_params(context) for name in (*one.opts, *one.secondary_opts)} | {
        "-h",
        "--help",
    }
    for word in words:
        option = re.match(r"--?[a-z][\w-]*", word)
        if option and option[0] not in known and not (len(word) > 2 and word[:2] in known):
            return f"{context.info_name} has no option {option[0]!r}"
    return None


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_commands_exist_with_their_options(page: Path) -> None:
    problems = [
        f"raftlog {' '.join(words)}: {why}"
        for words in shown(page.read_text())
        if (why := problem(list(words)))
    ]
    assert problems == []


def test_what_is_no_command_is_found() -> None:
    console = "```console\n$ raftlog topik list\n$ raftlog topic list -b a:1\n```\n"
    page = f"{console}\n    x | raftlog produce t \\\n      --kee\n\n`raftlog dev`"
    assert [problem(words) for words in shown(page)] == [
        "there is no 'topik list'",
        None,
        "produce has no option '--kee'",
        None,
    ]
