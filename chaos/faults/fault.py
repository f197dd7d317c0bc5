"""A fault: something that is done to brokers and taken back, and what was seen of its effect."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar


class NoEffect(Exception):
    """A fault that was none: the process still ran, the packets still passed. A run with one shows less than
    it claims."""


class CannotRun(Exception):
    """What a fault needs is not on this machine; the message says what, and how to get it."""


class Fault(ABC):
    """`begin` does it and `end` takes it back; each returns when that is so, and raises NoEffect when it is
    not. `end` returns what was seen."""

    kind: ClassVar[str]

    def __init__(self, what: str, brokers: Sequence[int]) -> None:
        self.what = what
        self.brokers = sorted(brokers)

    @abstractmethod
    def begin(self) -> None: ...

    @abstractmethod
    def end(self) -> str: ...


def ids(brokers: Sequence[int]) -> str:
    return ",".join(map(str, sorted(brokers)))
