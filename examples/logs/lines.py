"""An hour of logs of four services, with troubles in it; and what the app must tell of it, worked out in
another way than the app does it: from all lines at once."""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from examples.logs.app import ERRORS_MIN, RATE_MIN
from examples.tables import rows

SERVICES = ("billing", "gateway", "login", "search")
MINUTES = 60
STACK_TRACE = "    raise ValueError(amount)"
"""Of two lines of billing's."""

Minute = tuple[str, str]
"""A service and a minute, as the app's rows have them."""


@dataclass(frozen=True, slots=True)
class Line:
    """A line of a service's log."""

    at_ms: int
    service: str
    level: str
    text: str

    @property
    def minute(self) -> Minute:
        return self.service, datetime.fromtimestamp(self.at_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M")

    def __str__(self) -> str:
        at = datetime.fromtimestamp(self.at_ms / 1000, UTC).strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3]
        return f"{at}Z {self.service} {self.level} {self.text}"


def hour(seed: int = 7) -> list[Line]:
    """The lines of an hour of yesterday, of each service in the order of their times. Here and there a
    service has a bad minute. Two minutes later each says that it rests: a window closes when its service is
    beyond it."""
    rng = random.Random(seed)
    begin = (int(time.time()) // 3600 - 24) * 3_600_000
    made = []
    for service in SERVICES:
        for minute in range(MINUTES):
            share = rng.uniform(0.2, 0.6) if rng.random() < 0.05 else 0.01
            for at in sorted(rng.sample(range(60_000), rng.randint(15, 40))):
                is_bad = rng.random() < share
                level, text = ("ERROR", "timed out") if is_bad else ("INFO", f"served in {at % 90} ms")
                made.append(Line(begin + minute * 60_000 + at, service, level, text))
        made.append(Line(begin + (MINUTES + 2) * 60_000, service, "INFO", "resting"))
    return made


def write(folder: Path, lines: Sequence[Line]) -> None:
    """Append lines to a file a service; billing's has a stack trace, too."""
    for service in SERVICES:
        with (folder / f"{service}.log").open("a") as file:
            if service == "billing":
                file.writelines([f"{STACK_TRACE}\n", f"ValueError: {len(lines)}\n"])
            file.writelines(f"{line}\n" for line in lines if line.service == service)


def expected(lines: Sequence[Line]) -> dict[Minute, tuple[int, int]]:
    """By service and minute, its lines and its errors; without those in which services rest."""
    counted = Counter(line.minute for line in lines if line.text != "resting")
    errors = Counter(line.minute for line in lines if line.level == "ERROR")
    return {minute: (count, errors[minute]) for minute, count in counted.items()}


def alarming(wanted: Mapping[Minute, tuple[int, int]]) -> set[Minute]:
    """Those of which there must be an alert."""
    return {
        minute
        for minute, (count, errors) in wanted.items()
        if errors >= ERRORS_MIN and errors / count >= RATE_MIN
    }


@dataclass(frozen=True, slots=True)
class Verdict:
    """What was found in the tables, beside what must be there."""

    lines: int
    minutes: int
    alerts: int
    missing: int
    doubled: int
    wrong: int

    @property
    def is_right(self) -> bool:
        """Every line, every minute and every alert once, and nothing else."""
        return not (self.missing or self.doubled or self.wrong)

    def __str__(self) -> str:
        return (
            f"{self.lines} lines, {self.minutes} minutes and {self.alerts} alerts in the tables, "
            f"{self.missing} missing, {self.doubled} doubled, {self.wrong} wrong"
        )


def judge(database: Path, given: Sequence[Line]) -> Verdict:
    """Hold the tables against the lines that were given."""
    wanted = expected(given)
    resting = {line.minute for line in given} - wanted.keys()  # closed by the clock, half a minute later
    lines = len(rows(database, "1", "logs"))
    told = [
        ((service, minute), (count, errors))
        for service, minute, count, errors in rows(database, "service, minute, lines, errors", "error-rates")
        if (service, minute) not in resting
    ]
    alerts = rows(database, "service, minute", "log-alerts")
    minutes, alarms = Counter(minute for minute, _ in told), Counter(alerts)
    return Verdict(
        lines=lines,
        minutes=len(minutes),
        alerts=len(alarms),
        missing=max(0, len(given) - lines)
        + len(wanted.keys() - minutes.keys())
        + len(alarming(wanted) - alarms.keys()),
        doubled=max(0, lines - len(given))
        + sum(count - 1 for counts in (minutes, alarms) for count in counts.values()),
        wrong=sum(wanted.get(minute) != counts for minute, counts in told)
        + len(alarms.keys() - alarming(wanted)),
    )
