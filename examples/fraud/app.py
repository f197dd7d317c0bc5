"""The app: too many payments of a customer in a minute, or too much money, is an alert.

raftlog streams run examples/fraud/app.py:app
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from raftlog import streams as rs

WINDOW_MS = 60_000
PAYMENTS_MAX = 5
"""More in a minute are an alert."""

app = rs.App("fraud", guarantee="exactly_once", dlq="fraud-dlq", wait_ms=500)

customers = app.table("customers", name="customers", value=rs.JSON)
payments = app.stream("payments", value=rs.JSON, timestamp=lambda payment: int(payment["at_ms"]))
recent = app.store("recent")

scored = payments.key_by(lambda payment: payment["customer"]).join(
    customers,
    lambda payment, customer: {**payment, "home": customer["country"], "limit": customer["limit"]},
    missing="dlq",
)


@scored.process(recent)
def alerts(record: rs.Record, recent: rs.State) -> Iterator[dict[str, Any]]:
    """One payment, with those of the minute before it."""
    payment = record.value
    last = [each for each in recent.get(record.key, []) if each["at_ms"] > payment["at_ms"] - WINDOW_MS]
    last = [*last, {"at_ms": payment["at_ms"], "amount": payment["amount"]}][-50:]
    recent.set(record.key, last)
    spent = sum(each["amount"] for each in last)
    reasons = ["velocity"] * (len(last) > PAYMENTS_MAX) + ["amount"] * (spent > payment["limit"])
    if reasons:
        yield {
            "payment": payment["id"],
            "customer": record.key,
            "reason": "+".join(reasons),
            "payments": len(last),
            "spent": spent,
        }


alerts.to("alerts", value=rs.JSON)
scored.to("payments-scored", value=rs.JSON)
