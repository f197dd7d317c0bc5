"""`python -m examples.sensors`: a broker, the app and eight rooms in one process, and a page to look at."""

from __future__ import annotations

import argparse
import json
import random
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import trio

import raftlog
from examples.sensors import rooms
from examples.sensors.app import app
from raftlog import streams as rs
from raftlog.testing import embedded_broker

PAGE = Path(__file__).with_name("dashboard.html")
PARTITIONS = 2
PERIOD_S = 0.25


async def main(folder: Path, http: rs.Http, note: Callable[[rooms.Reading], None]) -> None:
    """Run it until it is cancelled; `note` gets each reading."""
    async with embedded_broker() as broker, broker.client() as client, trio.open_nursery() as nursery:
        for topic in ("readings", "averages", "alarms"):
            await client.admin.create_topic(topic, partitions=PARTITIONS)
        nursery.start_soon(lambda: rs.run(app, broker.bootstrap, state=str(folder), http=http))
        await measure(client, note)


async def measure(client: raftlog.Client, note: Callable[[rooms.Reading], None]) -> None:
    """Send what the rooms read, until this is cancelled. Now and then a thermometer's clock is wrong."""
    rng = random.Random()
    async with client.producer() as producer:
        while True:
            at_ms = int(time.time() * 1000)
            for room in rooms.ROOMS:
                reading = rooms.read(room, at_ms, rng)
                note(reading)
                sent = [reading]
                if room == "attic" and rng.random() < 0.1:
                    sent.append({**reading, "celsius": 99, "at_ms": at_ms + rooms.AHEAD_MS})
                for each in sent:
                    await producer.send_soon("readings", json.dumps(each).encode(), key=room.encode())
            await trio.sleep(PERIOD_S)


def run() -> None:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m examples.sensors", description="Sensors, live.")
    parser.add_argument("--port", type=int, default=8088, help="where the page is")
    given = parser.parse_args()
    http = rs.Http(listen=f"127.0.0.1:{given.port}", page=PAGE.read_text(encoding="utf-8"))
    print(f"the rooms are at http://127.0.0.1:{given.port}/ until Ctrl-C", flush=True)
    with tempfile.TemporaryDirectory(prefix="sensors-") as name:
        trio.run(main, Path(name), http, lambda reading: None)


if __name__ == "__main__":
    try:
        run()
    except KeyboardInterrupt:
        raise SystemExit(130) from None
