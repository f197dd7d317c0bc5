"""Payments of an afternoon, with frauds among them; and which alerts they must raise, worked out in another
way than the app does it: all payments at once, sorted."""

from __future__ import annotations

import json
import random
import time
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from examples.fraud.app import PAYMENTS_MAX, WINDOW_MS

Row = dict[str, Any]

DAY_MS = 24 * 60 * 60 * 1000


def customers(count: int = 20) -> list[Row]:
    """Who pays, and how much they may in a minute."""
    return [
        {"customer": f"c{n:03}", "country": ("FR", "DE", "PL")[n % 3], "limit": 500 + 50 * (n % 5)}
        for n in range(count)
    ]


def payments(count: int = 1000, seed: int = 7) -> list[Row]:
    """So many of yesterday, in the order of their times. Now and then a customer pays many times in a row, or
    far too much."""
    rng = random.Random(seed)
    names = [each["customer"] for each in customers()]
    made: list[Row] = []
    at_ms = int(time.time() * 1000) - DAY_MS
    while len(made) < count:
        name = rng.choice(names)
        burst = rng.randint(6, 9) if rng.random() < 0.01 else 1
        for _ in range(min(burst, count - len(made))):
            at_ms += rng.randint(200, 1_500) if burst > 1 else rng.randint(500, 20_000)
            amount = rng.randint(700, 2_000) if rng.random() < 0.01 else rng.randint(1, 60)
            made.append({"id": f"p{len(made):06}", "customer": name, "amount": amount, "at_ms": at_ms})
    return made


def expected_alerts(rows: Sequence[Row]) -> dict[str, str]:
    """By payment, the reason of its alert."""
    limits = {each["customer"]: each["limit"] for each in customers()}
    by_customer = defaultdict(list)
    for row in rows:
        by_customer[row["customer"]].append(row)
    found = {}
    for name, own in by_customer.items():
        for row in own:
            minute = [each for each in own if row["at_ms"] - WINDOW_MS < each["at_ms"] <= row["at_ms"]]
            is_fast = len(minute) > PAYMENTS_MAX
            is_much = sum(each["amount"] for each in minute) > limits[name]
            if is_fast or is_much:
                found[row["id"]] = "+".join(["velocity"] * is_fast + ["amount"] * is_much)
    return found


def write(path: Path, rows: Sequence[Row]) -> None:
    """Append rows to a file, as lines of JSON."""
    with path.open("a") as file:
        file.writelines(json.dumps(row) + "\n" for row in rows)
