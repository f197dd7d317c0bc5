"""What a checker says, and what it reads: a history, looked up by log, partition and value."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from enum import Enum
from functools import cached_property
from typing import Final

from chaos.history import FinalRead, History, Operation, Outcome, Read, Send
from chaos.values import UNKNOWN

KEPT_MAX: Final = 20
"""Violations of a kind that are described; the others are counted."""

Log = tuple[str, int]
"""A log's name and a partition."""


class Judgement(Enum):
    GOOD = "good"
    WRONG = "wrong"
    UNKNOWN = "unknown"
    """A checker could not do its work, which is not good."""


@dataclass(slots=True)
class Violation:
    """Something that may not be, and the operations that show it."""

    text: str
    operations: list[Operation] = field(default_factory=list)


@dataclass
class Finding:
    """What became of one property. `holds` says the property, `wrong` what a violation of it looks like."""

    name: str
    holds: str
    wrong: str
    checked: int = 0
    count: int = 0
    violations: list[Violation] = field(default_factory=list)
    unfinished: str = ""
    """Why this cannot be judged."""

    def violated(self, text: str, *operations: Operation) -> None:
        self.count += 1
        if len(self.violations) < KEPT_MAX:
            self.violations.append(Violation(text, list(operations)))

    @property
    def judgement(self) -> Judgement:
        if self.count:
            return Judgement.WRONG
        return Judgement.UNKNOWN if self.unfinished else Judgement.GOOD


class View:
    """A history as checkers look at it. What is asked for is worked out once."""

    def __init__(self, history: History) -> None:
        self.history = history

    @cached_property
    def sends(self) -> list[Send]:
        return list(self.history.of(Send))

    @cached_property
    def sent(self) -> dict[str, Send]:
        """By value: each is sent once."""
        return {send.value: send for send in self.sends}

    @cached_property
    def reads(self) -> list[Read]:
        """What clients were handed while faults went on."""
        return [read for read in self.history.of(Read) if read.outcome is Outcome.OK]

    @cached_property
    def finals(self) -> dict[Log, FinalRead]:
        """The last look at each log. One that was not read to its end is not here."""
        return {
            (read.log, read.partition): read
            for read in self.history.of(FinalRead)
            if read.outcome is Outcome.OK
        }

    @cached_property
    def unread(self) -> str:
        """Which logs should have been read to their end, and were not."""
        missing = {
            f"{read.log}-{read.partition}: {read.why or 'not read to its end'}"
            for read in self.history.of(FinalRead)
            if (read.log, read.partition) not in self.finals
        }
        if not self.finals and not missing and self.sends:
            missing = {"no log was read in the end"}
        return "; ".join(sorted(missing))

    @cached_property
    def places(self) -> dict[str, list[tuple[Log, int]]]:
        """Where each value lies in the end."""
        places: dict[str, list[tuple[Log, int]]] = defaultdict(list)
        for log, final in self.finals.items():
            for offset, value in final.records:
                places[value].append((log, offset))
        return places

    @cached_property
    def end(self) -> float:
        """When the last operation ended."""
        return max((o.ended for o in self.history.operations if o.ended != float("inf")), default=0.0)

    def is_idempotent(self, send: Send) -> bool:
        return self.history.head.producers.get(send.client, True)


def is_ours(value: str) -> bool:
    """Whether a value is whole, and of the kind that workloads send."""
    return not value.startswith(UNKNOWN)


def show(log: Log, offset: int | None = None) -> str:
    return f"{log[0]}-{log[1]}" + ("" if offset is None else f"@{offset}")
