"""`python -m examples.fraud`: a broker, the app and its connectors in one process, and payments for them."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

import trio

from examples.fraud import payments, running, warehouse
from examples.tables import rows
from raftlog.testing import embedded_broker

PATIENCE_S = 120


async def main(folder: Path, count: int = 1000) -> warehouse.Verdict:
    """Run it to the end of so many payments. Raises TooSlowError."""
    given = payments.payments(count)
    async with embedded_broker() as broker, broker.client() as client, trio.open_nursery() as nursery:
        await running.prepare(client, folder)
        with trio.fail_after(PATIENCE_S):
            await nursery.start(running.run, client, broker.bootstrap, folder)
            started = time.monotonic()
            payments.write(folder / "payments.jsonl", given)
            print(f"{count} payments written to {folder}/payments.jsonl", flush=True)
            while (found := warehouse.judge(folder / "warehouse.db", given)).missing:  # noqa: ASYNC110
                await trio.sleep(0.2)
        columns = "customer, payment, reason, spent"
        for customer, payment, reason, spent in rows(folder / "warehouse.db", columns, "alerts")[:5]:
            print(f"alert: customer {customer}, payment {payment}: {reason}, {spent} spent in a minute")
        print(f"{found} after {time.monotonic() - started:.1f} s")
        nursery.cancel_scope.cancel()
    return found


if __name__ == "__main__":
    with tempfile.TemporaryDirectory(prefix="fraud-") as name:
        verdict = trio.run(main, Path(name))
    raise SystemExit(0 if verdict.is_right else 1)
