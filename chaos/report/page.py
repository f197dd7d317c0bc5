"""A run as one HTML page without a network: what was found first, then what happened, on one axis of time."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Final

from chaos.checkers import Finding, Judgement, Verdict
from chaos.gaps import stood_still
from chaos.history import (
    NEVER,
    Commit,
    Fault,
    FinalRead,
    Goal,
    Head,
    History,
    Note,
    Operation,
    Outcome,
    Read,
    Send,
)
from chaos.report.figures import FaultRow, fault_rows, latencies, length_of, rates, reigns, totals
from chaos.report.svg import COLOURS, LEFT, Band, Plot, escape
from chaos.report.text import again

BLUE, PINK, ORANGE = "#0072b2", "#cc5599", "#c97a00"
OUTCOME_COLOURS: Final = {Outcome.OK: "#4b8a3a", Outcome.FAILED: "#cc3344", Outcome.UNKNOWN: "#c97a00"}
MET: Final = {Outcome.OK: "yes", Outcome.FAILED: "NO", Outcome.UNKNOWN: "unknown"}
LANE: Final = 26
MARGIN_S: Final = 5.0
"""Of the timeline of operations, before and after a fault or what is wrong."""
SHOWN_MAX: Final = 400
"""Operations of a timeline; Jepsen draws ten thousand, which nobody reads."""
SPANS_MAX: Final = 6
EXAMPLES_MAX: Final = 2

POLICY: Final = "default-src 'none'; style-src 'unsafe-inline'"
STYLE: Final = Path(__file__).with_name("style.css")


def as_page(history: History, verdict: Verdict, logs: Mapping[int, str]) -> str:
    length = length_of(history)
    rows = fault_rows(history, length)
    bands = [Band(row.fault.began, row.ended, row.fault.kind, row.fault.what) for row in rows]
    parts = [
        _header(history.head, verdict, stood_still(history, 0.0, length)),
        _evidence(verdict),
        _properties(verdict),
        _leaders(history, rows, bands, length),
        _rates(history, bands, length),
        _latencies(history, bands, length),
        _faults(history, rows),
        _timeline(history, verdict, rows),
        _consumers(history, bands, length),
        _logs(history, logs),
    ]
    title = f"{history.head.scenario}, seed {history.head.seed}: {verdict.judgement.value}"
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">'
        f"<title>{escape(title)}</title><style>{STYLE.read_text()}</style></head>"
        f"<body>{''.join(parts)}</body></html>\n"
    )


def _section(title: str, *content: str, kind: str = "") -> str:
    return f'<section class="{kind}"><h2>{escape(title)}</h2>{"".join(content)}</section>'


def _table(heads: Sequence[str], rows: Iterable[Sequence[object]], numbers: Sequence[int] = ()) -> str:
    """Cells are escaped; columns of numbers are aligned at their ends."""

    def row(tag: str, cells: Sequence[object]) -> str:
        return "".join(
            f"<{tag}{' class=n' if at in numbers else ''}>{escape(cell)}</{tag}>"
            for at, cell in enumerate(cells)
        )

    body = "".join(f"<tr>{row('td', cells)}</tr>" for cells in rows)
    return f"<table><thead><tr>{row('th', heads)}</tr></thead><tbody>{body}</tbody></table>"


def _header(head: Head, verdict: Verdict, still_s: float) -> str:
    kind = verdict.judgement.value
    secured = " · secured" if head.secured else ""
    planted = f" · planted: {head.plant}" if head.plant else ""
    about = f"seed {head.seed} · workload {head.workload} · commit {head.commit} · {head.at} · {head.machine}"
    about += f" · it stood still for {still_s:.1f} s"
    return (
        f'<header><span class="badge {kind}">{kind.upper()}</span><div>'
        f"<h1>{escape(head.scenario)}, {head.brokers} brokers, {head.seconds:g} s</h1>"
        f"<small>{escape(about + secured + planted)}<br>again: <code>{escape(again(head))}</code></small>"
        "</div></header>"
    )


def _evidence(verdict: Verdict) -> str:
    """What is wrong, with the smallest part of the history that shows it."""
    parts = []
    for finding in verdict.findings:
        if finding.judgement is not Judgement.WRONG:
            continue
        parts.append(f"<p><b>Not so: {escape(finding.holds)}.</b> {finding.count} times.</p>")
        for violation in finding.violations[:EXAMPLES_MAX]:
            parts.append(f"<pre>{escape(violation.text)}</pre>")
            told = [one for one in violation.operations if not isinstance(one, Fault | Goal | Note)]
            if told:  # the others say no more than the text
                parts.append(_operations(told))
    return _section("What is wrong", *parts, kind="evidence") if parts else ""


def _properties(verdict: Verdict) -> str:
    rows = "".join(_property(finding) for finding in verdict.findings)
    heads = "<th>property</th><th>holds</th><th class=n>checked</th><th>what it would look like</th>"
    return _section("Verdict", f"<table><thead><tr>{heads}</tr></thead><tbody>{rows}</tbody></table>")


def _property(finding: Finding) -> str:
    mark = {
        Judgement.GOOD: "✓" if finding.checked else "-",
        Judgement.WRONG: f'<span class="no">✗ {finding.count}</span>',
        Judgement.UNKNOWN: f'<span class="no">? {escape(finding.unfinished)}</span>',
    }[finding.judgement]
    return (
        f"<tr><td>{escape(finding.holds)}</td><td>{mark}</td><td class=n>{finding.checked:,}</td>"
        f'<td class="dim">{escape(finding.wrong)}</td></tr>'
    )


def _leaders(history: History, rows: Sequence[FaultRow], bands: Sequence[Band], length: float) -> str:
    """Lanes of brokers: who led the first partition, in which term, and who suffered what."""
    log = next((send.log for send in history.of(Send)), "")
    led = reigns(history, log, 0, length)
    seen = {reign.broker for reign in led} | {one for row in rows for one in row.fault.brokers}
    brokers = sorted(seen | set(range(1, history.head.brokers + 1)))
    plot = Plot(length, 38 + LANE * len(brokers))
    plot.bands(bands)
    lanes = {broker: 12 + LANE * at for at, broker in enumerate(brokers)}
    for broker, y in lanes.items():
        plot.text(LEFT - 8, y + 13, f"broker {broker}", anchor="end")
        plot.add(
            f'<rect x="{LEFT}" y="{y + 8}" width="{plot.x(length) - LEFT:.1f}" height="3" fill="#e2e2ea"/>'
        )
    for reign in led:
        x, end, y = plot.x(reign.began), plot.x(reign.ended), lanes[reign.broker]
        colour = COLOURS[reign.epoch % len(COLOURS)]
        title = (
            f"broker {reign.broker} led in term {reign.epoch} from {reign.began:.1f} to {reign.ended:.1f} s"
        )
        plot.add(
            f'<rect x="{x:.1f}" y="{y}" width="{max(1.5, end - x):.1f}" height="18" rx="2" fill="{colour}">'
            f"<title>{escape(title)}</title></rect>"
        )
        if end - x > 48:
            plot.text(x + 5, y + 13, f"term {reign.epoch}", kind="inlane")
    for row in rows:
        x, width = plot.x(row.fault.began), max(3.0, plot.x(row.ended) - plot.x(row.fault.began))
        for broker in row.fault.brokers:
            plot.add(
                f'<rect x="{x:.1f}" y="{lanes[broker] + 6}" width="{width:.1f}" height="7" fill="#5b3fa0"'
                f' fill-opacity=".55" stroke="#3d2a6d" stroke-width=".5">'
                f"<title>{escape(row.fault.what)}</title></rect>"
            )
    plot.time_axis()
    kinds = ", ".join(dict.fromkeys(band.kind for band in bands)) or "none"
    text = f"bars: terms; thin violet bars: brokers that a fault was done to; shaded: faults ({kinds})"
    said = f'<small class="dim">{escape(text)}</small>'
    return _section(f"Who led {log}-0, and what was done to the brokers", str(plot), said)


def _rates(history: History, bands: Sequence[Band], length: float) -> str:
    found, plot = rates(history, length), Plot(length)
    top = max([*found.acknowledged, *found.refused, *found.unknown, 1.0]) * 1.1
    plot.bands(bands)
    plot.grid((plot.y(share * top, top), f"{share * top:,.0f}") for share in (0, 0.5, 1))
    plot.line(found.acknowledged, found.bucket_s, top, BLUE)
    plot.line(found.refused, found.bucket_s, top, PINK)
    plot.line(found.unknown, found.bucket_s, top, ORANGE)
    plot.time_axis()
    said = '<small class="dim">blue: acknowledged, pink: refused, orange: unknown</small>'
    return _section("Records a second: acknowledged, refused, unknown", str(plot), said)


def _latencies(history: History, bands: Sequence[Band], length: float) -> str:
    found, plot = latencies(history, length), Plot(length)
    values = [value for value in found.most if value is not None]
    top = max([10.0, *values]) * 1.1
    bottom = max(0.1, min([one for one in found.p50 if one], default=1.0) / 2)
    plot.bands(bands)
    marks = [mark for mark in (0.1, 1, 10, 100, 1_000, 10_000, 100_000) if bottom <= mark <= top]
    plot.grid((plot.y(mark, top, bottom), f"{mark:g}") for mark in marks)
    plot.line(found.most, found.bucket_s, top, "#c9c9d4", bottom=bottom)
    plot.line(found.p99, found.bucket_s, top, ORANGE, bottom=bottom)
    plot.line(found.p50, found.bucket_s, top, BLUE, bottom=bottom)
    plot.time_axis()
    said = '<small class="dim">blue: p50, orange: p99, grey: longest</small>'
    return _section("Latency of acknowledged sends, ms (log scale)", str(plot), said)


def _faults(history: History, rows: Sequence[FaultRow]) -> str:
    heads = (
        "fault",
        "from",
        "to",
        "no acknowledgement for",
        "new leader after",
        "refused",
        "unknown",
        "what was seen",
    )
    table = _table(
        heads,
        (
            (
                row.fault.what,
                f"{row.fault.began:.1f} s",
                f"{row.ended:.1f} s",
                f"{row.gap.length:.2f} s",
                "-" if row.new_leader_s is None else f"{row.new_leader_s:.2f} s",
                row.refused,
                row.unknown,
                row.fault.seen if row.fault.outcome is Outcome.OK else f"WITHOUT EFFECT: {row.fault.why}",
            )
            for row in rows
        ),
        range(1, 7),
    )
    goals = _table(
        ("goal", "met", "seen"),
        ((goal.what, MET[goal.outcome], goal.seen) for goal in history.of(Goal)),
    )
    return _section("Faults", table, "<br>", goals)


def _timeline(history: History, verdict: Verdict, rows: Sequence[FaultRow]) -> str:
    """A lane a client, around what is wrong, else around the first faults."""
    wrong = [
        operation.began
        for finding in verdict.findings
        for violation in finding.violations[:EXAMPLES_MAX]
        for operation in violation.operations
        if operation.client not in ("look", "chaos", "runner")
    ]
    moments = (wrong or [row.fault.began for row in rows])[:SPANS_MAX]
    operations = [
        one
        for one in history.operations
        if isinstance(one, Send | Read | Commit) and any(abs(one.began - at) < MARGIN_S for at in moments)
    ]
    if not operations:
        return ""
    nearest: Callable[[Operation], float] = lambda one: min(abs(one.began - at) for at in moments)  # noqa: E731
    operations = sorted(sorted(operations, key=nearest)[:SHOWN_MAX], key=lambda one: one.began)
    begin = operations[0].began
    end = max(min(one.ended, one.began + MARGIN_S) for one in operations)
    clients = sorted({one.client for one in operations})
    plot = Plot(end - begin, 34 + 16 * len(clients))
    for at, client in enumerate(clients):
        plot.text(LEFT - 8, 20 + 16 * at, client[:14], anchor="end")
    for one in operations:
        x = plot.x(one.began - begin)
        width = max(1.5, plot.x(min(one.ended, end) - begin) - x)
        y = 11 + 16 * clients.index(one.client)
        plot.add(
            f'<rect x="{x:.1f}" y="{y}" width="{width:.1f}" height="11" fill="{OUTCOME_COLOURS[one.outcome]}"'
            f' fill-opacity=".65"><title>{escape(_said(one))}</title></rect>'
        )
    plot.time_axis()
    text = (
        f"{len(operations)} operations nearest to {'what is wrong' if wrong else 'the faults'}, from"
        f" {begin:.2f} s on. green: ok, red: failed, orange: unknown; point at one to read it"
    )
    table = f"<details><summary>the same as a table</summary>{_operations(operations)}</details>"
    said = f'<small class="dim">{text}</small>{table}'
    return _section("Operations of each client", str(plot), said)


def _operations(operations: Iterable[Operation]) -> str:
    return _table(
        ("client", "from", "to", "ended", "what"),
        (
            (
                one.client,
                f"{one.began:.3f} s",
                "never" if one.ended == NEVER else f"{one.ended:.3f} s",
                one.outcome.value,
                _said(one),
            )
            for one in operations
        ),
        (1, 2),
    )


def _said(one: Operation) -> str:
    """One operation in words."""
    match one:
        case Send():
            what = f"send {one.value} to {one.log}-{one.partition}" + (
                f" → {one.offset}" if one.offset >= 0 else ""
            )
        case Read() | FinalRead():
            some = ", ".join(f"{offset}: {value}" for offset, value in one.records[:3])
            more = f" … {len(one.records)} in all" if len(one.records) > 3 else ""
            what = f"read {one.log}-{one.partition} [{some}{more}]"
        case Commit():
            what = f"commit {one.offset} of {one.log}-{one.partition} for {one.group}"
        case _:
            fields = {name: getattr(one, name) for name in type(one).__slots__}
            what = f"{type(one).__name__} {fields}"
    return f"{what} ({one.why})" if one.why else what


def _consumers(history: History, bands: Sequence[Band], length: float) -> str:
    """How far members of groups had read and committed, all partitions together."""
    commits = [one for one in history.of(Commit) if one.outcome is Outcome.OK]
    if not commits:
        return ""
    steps = 300
    step_s = length / steps
    acknowledged: dict[int, int] = {}
    for send in history.of(Send):
        if send.outcome is Outcome.OK and send.ended < length and send.log == commits[0].log:
            at = int(send.ended / step_s)
            acknowledged[at] = acknowledged.get(at, 0) + 1
    written: list[float | None] = []
    total = 0
    for at in range(steps):
        total += acknowledged.get(at, 0)
        written.append(float(total))
    committed: list[float | None] = []
    places: dict[tuple[str, int], int] = {}
    queue = sorted((one for one in commits if one.group == commits[0].group), key=lambda one: one.ended)
    position = 0
    for at in range(steps):
        while position < len(queue) and queue[position].ended < (at + 1) * step_s:
            one = queue[position]
            places[one.log, one.partition] = one.offset
            position += 1
        committed.append(float(sum(places.values())))
    plot = Plot(length)
    top = max([1.0, *(value for value in (*written, *committed) if value)]) * 1.05
    plot.bands(bands)
    plot.grid((plot.y(share * top, top), f"{share * top:,.0f}") for share in (0, 0.5, 1))
    plot.line(written, step_s, top, BLUE)
    plot.line(committed, step_s, top, ORANGE)
    plot.time_axis()
    said = (
        '<small class="dim">blue: records acknowledged, orange: offsets that the group has committed</small>'
    )
    return _section(f"How far group {commits[0].group} was", str(plot), said)


def _logs(history: History, logs: Mapping[int, str]) -> str:
    causes = totals(history).causes
    parts = [
        _table(("times", "why a send was not acknowledged"), ((n, why) for why, n in causes.items()), (0,))
    ]
    for broker, text in logs.items():
        parts.append(
            f"<details><summary>the end of broker {broker}'s log</summary><pre>{escape(text)}</pre></details>"
        )
    return _section("Reasons and logs", *parts)
