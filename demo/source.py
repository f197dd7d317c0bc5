"""The demo's input: a real log that lies on this machine, or the text file that DEMO_INPUT names."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

LOGS = (
    "/var/log/dpkg.log",
    "/var/log/dnf.rpm.log",
    "/var/log/dnf.log",
    "/var/log/pacman.log",
    "/var/log/zypp/history",
    "/var/log/syslog",
    "/var/log/messages",
    "/var/log/apt/history.log",
    "/var/log/apt/term.log",
    "/var/log/alternatives.log",
    "/var/log/bootstrap.log",
)
"""Where package managers and systems keep their logs, the ones with a date on every line first."""

LINES_MAX = 200_000
"""What is taken of a longer file: the demo should take seconds."""
BYTES_MAX = 100_000_000
LINE_BYTES_MAX = 1_000_000
"""A broker's own limit for a record, max.message.bytes, is a little more."""

_DATE = re.compile(
    rb"\[?(\d{4}-\d\d-\d\d|[A-Z][a-z]{2} [ \d]\d\b)|(?:Start-Date|Log started): +(\d{4}-\d\d-\d\d)"
)


class NoInput(Exception):
    """There is no log to be had; the message says what to do."""


@dataclass(frozen=True, slots=True)
class Line:
    """A line without its end, and the date that it is keyed by."""

    key: bytes
    text: bytes


def find_input() -> Path:
    """The file that DEMO_INPUT names, or the first log of the machine. Raises NoInput."""
    named = os.environ.get("DEMO_INPUT")
    candidates = [Path(name).expanduser() for name in ([named] if named else LOGS)]
    for path in candidates:
        try:
            if path.is_file() and path.stat().st_size > 0 and os.access(path, os.R_OK):
                return path
        except PermissionError:
            continue
    if named:
        raise NoInput(f"DEMO_INPUT={named}: {_what_is_wrong(candidates[0])}")
    raise NoInput(f"none of {', '.join(LOGS)} is here and can be read: name a text file with DEMO_INPUT=FILE")


def _what_is_wrong(path: Path) -> str:
    if not path.exists():
        return "there is no such file"
    if not path.is_file():
        return "that is no file"
    return "the file is empty" if os.access(path, os.R_OK) else "the file cannot be read by this user"


def read_lines(path: Path) -> tuple[list[Line], bool]:
    """The lines of a file, and whether these are all of them. Raises NoInput for one that is too long."""
    lines: list[Line] = []
    size = 0
    with path.open("rb") as file:
        for line in keyed(text.rstrip(b"\n") for text in islice(file, LINES_MAX)):
            size += len(line.text)
            if size > BYTES_MAX:
                return lines, False
            if len(line.text) > LINE_BYTES_MAX:
                raise NoInput(f"{path}: line {len(lines) + 1} has {len(line.text):,} bytes: is it text?")
            lines.append(line)
        return lines, not file.read(1)


def keyed(texts: Iterable[bytes]) -> Iterator[Line]:
    """Each line keyed by the date that it begins with; one without a date belongs to the line before."""
    date = b"undated"
    for text in texts:
        found = _DATE.match(text)
        if found:
            date = found[1] or found[2]
        yield Line(date, text)
