"""A scenario: what it wants of the stage, what runs on it, and a schedule of faults."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from chaos.play import Play
from chaos.stage import Wants

GAP_MAX_S: Final = 10.0
"""What a partition may take nothing for, where a majority is connected all along: the guide asks for a leader
within 5 s after healing; twice that, since machines that run tests are busy."""


@dataclass(frozen=True, slots=True)
class Scenario:
    """`number` is that of the list of twenty scenarios that docs/chaos.md has; `needs` says what
    is not written yet, without which it cannot be played."""

    name: str
    number: int
    what: str
    play: Callable[[Play], None]
    wants: Wants = field(default_factory=Wants)
    workload: str = "log"
    seconds: float = 20.0
    """At least so long, to come to what it is about."""
    needs: str = ""


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


def missing(name: str, number: int, needs: str, what: str) -> None:
    """Enter a scenario that cannot be played yet, so that nobody takes it for played."""

    def refuse(play: Play) -> None:
        raise NotImplementedError(f"{name} needs {needs}")

    SCENARIOS[name] = Scenario(name, number, what, refuse, needs=needs)
