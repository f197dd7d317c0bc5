"""A scenario: what it wants of the stage, what runs on it, and a schedule of faults."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from chaos.play import Play
from chaos.stage import Wants


@dataclass(frozen=True, slots=True)
class Scenario:
    """`number` is that of the list of twenty scenarios that docs/chaos.md has."""

    name: str
    number: int
    what: str
    play: Callable[[Play], None]
    wants: Wants = field(default_factory=Wants)
    workload: str = "log"
    seconds: float = 20.0
    """At least so long, to come to what it is about."""


SCENARIOS: Final[dict[str, Scenario]] = {}


def scenario(
    name: str,
    number: int,
    *,
    wants: Wants | None = None,
    workload: str = "log",
    seconds: float = 20.0,
) -> Callable[[Callable[[Play], None]], Callable[[Play], None]]:
    """Enter the function into SCENARIOS; its docstring says what it does."""

    def enter(play: Callable[[Play], None]) -> Callable[[Play], None]:
        what = " ".join((play.__doc__ or "").split())
        SCENARIOS[name] = Scenario(name, number, what, play, wants or Wants(), workload, seconds)
        return play

    return enter
