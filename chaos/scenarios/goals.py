"""The criteria that scenarios have in common, each held against a figure of the history."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from chaos.gaps import terms_since, worst_commit_gap, worst_gap
from chaos.play import Play
from chaos.workloads.consumers import SESSION_MS

GAP_MAX_S: Final = 5.0
"""What a partition may take nothing for, where a majority is connected all along, and once one is connected
again: elections, and clients that look for the new leader."""
KILLED_MAX_S: Final = 2.0
"""The same, where processes end: their peers need not wait for a time-out to know."""
CONNECTED_MAX_S: Final = 10.0
"""The same, where some links are gone and others carry: until there is a leader who reaches a majority both
ways."""
TERMS_MAX: Final = 5
"""Elections of a partition for one fault of the network, at most: a broker that hears a majority soon leads,
and who hears none disturbs nobody."""
WHOLE_MAX_S: Final = 15.0
"""Until all replicas have caught up, once everything carries again."""
MEMORY_MAX: Final = 64
"""MiB that a broker grows by at most, whatever is done to it."""


def served_since(play: Play, began: float, limit_s: float = GAP_MAX_S) -> None:
    """A goal: since a moment of the history no partition has waited for long."""
    gap = worst_gap(play.history, began, play.history.now())
    what = f"no partition waits longer than {limit_s:g} s"
    play.goals.within(what, limit_s, gap.length, began + gap.after)


def served_again(play: Play, healed: float, limit_s: float = GAP_MAX_S) -> None:
    """The same of a fault that took the majority away: from the moment at which it was given back."""
    gap = worst_gap(play.history, healed, play.history.now())
    what = f"every partition takes records within {limit_s:g} s of healing"
    play.goals.within(what, limit_s, gap.length, healed + gap.after)


def committed_since(play: Play, began: float) -> None:
    """A goal: a group is stable again within two session time-outs, and every partition committed."""
    limit_s = 2 * SESSION_MS / 1000
    gap = worst_commit_gap(play.history, began, play.history.now())
    what = f"no partition of a group goes without a commit for longer than {limit_s:g} s"
    play.goals.within(what, limit_s, gap.length, began + gap.after)


def few_terms_since(play: Play, began: float) -> None:
    """A goal: since a moment of the history no partition has had many leaders, or tries for one."""
    terms = terms_since(play.history, began)
    play.goals.at_most(f"no partition gets more than {TERMS_MAX} terms on", TERMS_MAX, terms, began)


def elections_since(play: Play, began: float, limit: int) -> None:
    """A goal: since a moment of the history no partition has had more elections. That leadership goes back to
    the preferred leader is none."""
    homes = {place: hosts[0] for place, hosts in play.replicas().items()}
    elections = terms_since(play.history, began, homes)
    play.goals.at_most(f"no partition has more than {limit} elections", limit, elections, began)


def whole_soon(play: Play) -> None:
    """A goal: all replicas catch up, now that everything carries."""
    took = play.await_whole()
    what = f"all replicas have caught up within {WHOLE_MAX_S:g} s"
    play.goals.within(what, WHOLE_MAX_S, took, play.history.now() - took)


def memory_bounded(play: Play, before: Mapping[int, int]) -> None:
    """A goal: no broker has grown by much since `before` (`Stage.memory`)."""
    grown = [now - before[broker] for broker, now in play.stage.memory().items() if broker in before]
    worst = max(grown, default=0) / (1 << 20)
    what = f"no broker grows by more than {MEMORY_MAX} MiB"
    play.goals.met(what, worst <= MEMORY_MAX, f"{worst:+.1f} MiB", worst, MEMORY_MAX)
