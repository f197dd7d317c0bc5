"""`python -m examples.clicks`: a broker and the app in one process, and a day of clicks for them."""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path

import trio

import raftlog
from examples.clicks.app import app
from examples.clicks.day import Click, Day, Results, Verdict, day, judge
from raftlog import streams as rs
from raftlog.testing import embedded_broker

PARTITIONS = 4
PATIENCE_S = 120


async def main(folder: Path) -> tuple[Verdict, Results]:
    """Run it to the end of a day of clicks. Raises TooSlowError."""
    given, found = day(), Results()
    async with embedded_broker() as broker, broker.client() as client, trio.open_nursery() as nursery:
        for topic in ("clicks", "visits", "page-counts", "clicks-late"):
            await client.admin.create_topic(topic, partitions=PARTITIONS)
        started = time.monotonic()
        await send(client, given.prompt)
        await send(client, given.goodbyes)
        print(f"{len(given.prompt)} clicks of yesterday are in the log", flush=True)
        nursery.start_soon(lambda: rs.run(app, broker.bootstrap, state=str(folder)))
        async with client.consumer(
            "visits",
            "page-counts",
            "clicks-late",
            auto_offset_reset="earliest",
            isolation_level="read_committed",
        ) as consumer:
            with trio.fail_after(PATIENCE_S):
                await _read(consumer, given, found, with_late=False)
                await send(client, given.late)
                verdict = await _read(consumer, given, found, with_late=True)
        print(f"{verdict} after {time.monotonic() - started:.1f} s")
        nursery.cancel_scope.cancel()
    return verdict, found


async def send(client: raftlog.Client, clicks: Iterable[Click]) -> None:
    """Clicks into the log, a visitor's in one partition."""
    async with client.producer() as producer:
        for click in clicks:
            await producer.send_soon("clicks", json.dumps(click).encode(), key=click["visitor"].encode())


async def _read(consumer: raftlog.Consumer, given: Day, found: Results, *, with_late: bool) -> Verdict:
    """Read results until none is missing."""
    while (verdict := judge(given, found, with_late=with_late)).missing:
        for record in await consumer.poll(max_wait_ms=200):
            value = json.loads(record.value)
            match record.topic:
                case "visits":
                    found.visits.append(value)
                case "page-counts":
                    found.pages.append({"page": (record.key or b"").decode(), **value})
                case _:
                    found.late.append(value)
    return verdict


def tell(found: Results) -> None:
    """The busiest hours, and visits in short."""
    print("\nthe busiest hours\n  from   page       clicks")
    for each in sorted(found.pages, key=lambda each: -each["count"])[:5]:
        at = time.strftime("%H:%M", time.gmtime(each["start"] / 1000))
        print(f"  {at}  {each['page']:10} {each['count']:6}")
    paid = sum(each["exit"] == "/pay" for each in found.visits)
    clicks = sum(each["clicks"] for each in found.visits) / len(found.visits)
    print(f"\n{clicks:.1f} clicks a visit; {paid} of {len(found.visits)} visits end at /pay")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory(prefix="clicks-") as name:
        verdict, results = trio.run(main, Path(name))
    tell(results)
    raise SystemExit(0 if verdict.is_right else 1)
