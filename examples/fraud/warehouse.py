"""What the warehouse has, and whether it is right."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from examples.fraud.payments import Row, expected_alerts
from examples.tables import rows

TABLES = ("payments-scored", "alerts")


@dataclass(frozen=True, slots=True)
class Verdict:
    """What was found, beside what must be there."""

    payments: int
    alerts: int
    missing: int
    doubled: int
    wrong: int
    """Alerts that should not be, or have another reason."""

    @property
    def is_right(self) -> bool:
        """Every payment and every alert once, and nothing else."""
        return not (self.missing or self.doubled or self.wrong)

    def __str__(self) -> str:
        return (
            f"{self.payments} payments and {self.alerts} alerts in the warehouse, "
            f"{self.missing} missing, {self.doubled} doubled, {self.wrong} wrong"
        )


def count(path: Path) -> int:
    """How many rows there are, those that are there twice included."""
    return sum(len(rows(path, "1", table)) for table in TABLES)


def judge(path: Path, given: Sequence[Row]) -> Verdict:
    """Hold the warehouse against the payments that were given."""
    wanted = expected_alerts(given)
    payments = Counter(row[0] for row in rows(path, "id", "payments-scored"))
    alerts = rows(path, "payment, reason", "alerts")
    told = Counter(payment for payment, _ in alerts)
    return Verdict(
        payments=len(payments),
        alerts=len(told),
        missing=len({row["id"] for row in given} - payments.keys()) + len(wanted.keys() - told.keys()),
        doubled=sum(count - 1 for counts in (payments, told) for count in counts.values()),
        wrong=sum(wanted.get(payment) != reason for payment, reason in alerts),
    )
