"""A run for people at a terminal, and for programs."""

from __future__ import annotations

from typing import Any, Final

from chaos.checkers import Verdict
from chaos.history import Goal, Head, History, Outcome
from chaos.report.figures import fault_rows, length_of, totals

SHOWN_MAX: Final = 5
"""Violations of a kind that are described."""


def again(head: Head) -> str:
    """The command that plays it again. The schedule of faults is the same; the load is whatever the machine
    does."""
    command = f"python -m chaos run --scenario {head.scenario} --time {head.seconds:g} --seed {head.seed}"
    if ":" in head.workload:
        command += f" --workload {head.workload}"
    if head.secured:
        command += " --secured"
    return f"{command} --plant '{head.plant}'" if head.plant else command


def as_text(history: History, verdict: Verdict) -> str:
    head, summed = history.head, totals(history)
    lines = [
        f"{verdict.judgement.name}  {head.scenario}, {head.brokers} brokers, {head.seconds:g} s,"
        f" seed {head.seed}{', secured' if head.secured else ''}",
        f"{summed.acknowledged} records acknowledged, {summed.refused} refused, {summed.unknown} unknown",
        f"the machine stood still for {summed.still_s:.1f} s of {length_of(history):.1f} s",
        "",
        f"{'property':<52} {'holds':<8} {'checked':>9}",
    ]
    for finding in verdict.findings:
        holds = {"good": "yes", "wrong": "NO", "unknown": "unknown"}[finding.judgement.value]
        lines.append(f"{finding.holds:<52} {holds:<8} {finding.checked:>9}")
        lines += [f"    {violation.text}" for violation in finding.violations[:SHOWN_MAX]]
        if finding.count > SHOWN_MAX:
            lines.append(f"    and {finding.count - SHOWN_MAX} more")
        if finding.unfinished:
            lines.append(f"    cannot be judged: {finding.unfinished}")
    lines += ["", f"{'from':>7} {'to':>7} {'gap':>6} {'leader':>6}  fault; times in seconds"]
    for row in fault_rows(history, length_of(history)):
        leader = "-" if row.new_leader_s is None else f"{row.new_leader_s:.2f}"
        seen = row.fault.seen if row.fault.outcome is Outcome.OK else f"WITHOUT EFFECT: {row.fault.why}"
        times = f"{row.fault.began:>7.1f} {row.ended:>7.1f} {row.gap.length:>6.2f} {leader:>6}"
        lines.append(f"{times}  {row.fault.what}: {seen}")
    lines += ["", *(f"goal: {goal.what}: {goal.outcome.value}, {goal.seen}" for goal in history.of(Goal))]
    lines += [f"{count} times: {cause}" for cause, count in summed.causes.items()]
    return "\n".join([*lines, "", f"again: {again(head)}"])


def as_data(history: History, verdict: Verdict) -> dict[str, Any]:
    """For CI, and for sums over runs."""
    head, summed = history.head, totals(history)
    return {
        "version": 1,
        "verdict": verdict.judgement.value,
        "scenario": head.scenario,
        "seed": head.seed,
        "seconds": head.seconds,
        "length_s": round(length_of(history), 3),
        "commit": head.commit,
        "at": head.at,
        "plant": head.plant,
        "secured": head.secured,
        "operations": summed.operations,
        "acknowledged": summed.acknowledged,
        "refused": summed.refused,
        "unknown": summed.unknown,
        "read": summed.read,
        "faults": summed.faults,
        "longest_gap_s": round(
            max((r.gap.length for r in fault_rows(history, length_of(history))), default=0.0), 3
        ),
        "rounds": head.rounds,
        "still_s": round(summed.still_s, 3),
        "goals": [
            {"what": goal.what, "outcome": goal.outcome.value, "measured": goal.measured, "limit": goal.limit}
            for goal in history.of(Goal)
        ],
        "properties": [
            {
                "name": finding.name,
                "holds": finding.judgement.value,
                "checked": finding.checked,
                "violations": finding.count,
                "examples": [violation.text for violation in finding.violations[:SHOWN_MAX]],
            }
            for finding in verdict.findings
        ],
    }
