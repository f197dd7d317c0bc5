"""The walks of docs/architecture.md: which functions they name, and which functions brokers really call."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Final

import raftlog
from tests.docs.story import ROOT

PAGE: Final = ROOT / "docs" / "architecture.md"
PACKAGE: Final = f"{Path(raftlog.__file__).parent}/"
STEP: Final = re.compile(r"`([\w/]+\.py): ([\w.]+)`")


def walks() -> dict[str, list[str]]:
    """The steps of each walk by its heading, as `file: function`."""
    found: dict[str, list[str]] = {}
    for part in PAGE.read_text(encoding="utf-8").split("\n### ")[1:]:
        heading, _, text = part.partition("\n")
        steps = [f"{file}: {function}" for file, function in STEP.findall(text.partition("\n## ")[0])]
        if steps:
            found[heading] = steps
    return found


class Trace:
    """What threads that are started under `following` call of raftlog, while `is_on`."""

    def __init__(self) -> None:
        self.is_on = False
        self.calls: dict[str, set[str]] = {}
        """By the thread's name: the functions, as `file: function`."""
        self.stacks: dict[str, set[tuple[str, tuple[str, ...]]]] = {}
        """By the function that was called last: the thread, and the way there, from the outermost on."""
        self.stacks_of: frozenset[str] = frozenset()
        """The functions for which stacks are kept."""

    def begin(self, stacks_of: frozenset[str] = frozenset()) -> None:
        self.calls, self.stacks, self.stacks_of = {}, {}, stacks_of
        self.is_on = True

    def end(self) -> None:
        self.is_on = False

    def note(self, frame: FrameType, event: str, argument: object) -> None:
        """As `sys.setprofile` calls it."""
        if not self.is_on or event != "call":
            return
        name = name_of(frame)
        if name is None:
            return
        thread = threading.current_thread().name
        self.calls.setdefault(thread, set()).add(name)
        if name in self.stacks_of:
            self.stacks.setdefault(name, set()).add((thread, tuple(above(frame))[::-1]))

    @contextmanager
    def following(self) -> Iterator[Trace]:
        threading.setprofile(self.note)
        try:
            yield self
        finally:
            threading.setprofile(None)


def name_of(frame: FrameType) -> str | None:
    """`file: function` of a function of raftlog; a function inside another one counts as that."""
    code = frame.f_code
    if not code.co_filename.startswith(PACKAGE):
        return None
    return f"{code.co_filename.removeprefix(PACKAGE)}: {code.co_qualname.partition('.<locals>')[0]}"


def above(frame: FrameType) -> Iterator[str]:
    """The function and those that called it, the innermost first."""
    at: FrameType | None = frame
    while at is not None:
        name = name_of(at)
        if name is not None:
            yield name
        at = at.f_back
