"""What looking costs: `python -m tests.console.cost`.

One broker with 10,000 partitions and 200 records a second. Produce's latencies alone, beside a scrape of
/metrics a second, and beside 20 browsers, in turn: what else the machine does befalls all three. A browser is
a stream of events and what the overview asks every two seconds. Then, in Chromium, what the page weighs on
its way, and how long until the first row of 1,000 topics.
"""

from __future__ import annotations

import argparse
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Final

import trio

from raftlog.client.admin import NewTopic
from raftlog.client.client import open_client
from raftlog.testing.processes import BrokerProcess, http_address
from tests.http.raw import listen

TOPICS: Final = 1000
PARTITIONS: Final = 10
RECORDS_S: Final = 200
RECORD: Final = bytes(100)
BROWSERS: Final = 20
SETTLE_S: Final = 1.0
"""Of a window, before its latencies count."""
ASKED: Final = ("cluster", "metrics/history", "brokers")


# Those who look: processes of their own


def scrape(address: str) -> None:
    while True:
        began = time.monotonic()
        _get(address, "/metrics", "127.0.0.1")
        time.sleep(max(0.0, 1.0 - (time.monotonic() - began)))


def _get(address: str, path: str, source: str) -> int:
    """Bytes of the answer. Each browser has its own address: a broker serves eight connections of one."""
    host, _, port = address.rpartition(":")
    with socket.create_connection((host, int(port)), 30.0, source_address=(source, 0)) as sock:
        sock.sendall(f"GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n".encode())
        size = 0
        while chunk := sock.recv(1 << 18):
            size += len(chunk)
        return size


async def browse(address: str) -> None:
    async with trio.open_nursery() as nursery:
        for number in range(BROWSERS):
            nursery.start_soon(_browser, address, f"127.0.1.{1 + number}")


async def _browser(address: str, source: str) -> None:
    host, _, port = address.rpartition(":")
    stream = await trio.open_tcp_stream(host, int(port), local_address=source)
    await stream.send_all(f"GET /api/v1/events HTTP/1.1\r\nHost: {address}\r\n\r\n".encode())
    head = bytes(await stream.receive_some(65536))
    assert head.startswith(b"HTTP/1.1 200"), head

    async def read() -> None:
        async for _ in stream:
            pass
        raise AssertionError("the stream ended")

    async with trio.open_nursery() as nursery:
        nursery.start_soon(read)
        while True:
            for path in ASKED:
                await trio.to_thread.run_sync(_get, address, f"/api/v1/{path}", source)
            await trio.sleep(2.0)


# Who produces


async def create(bootstrap: str) -> None:
    async with open_client(bootstrap, default_api_timeout_ms=120_000) as client:
        for first in range(0, TOPICS, 50):
            names = [f"topic-{number:04}" for number in range(first, first + 50)]
            await client.admin.create_topics(
                [NewTopic(name=name, partitions=PARTITIONS, replication_factor=1) for name in names]
            )


async def latencies(bootstrap: str, seconds: float) -> list[float]:
    """Milliseconds from when a record was due until it was acknowledged."""
    found: list[float] = []

    async with open_client(bootstrap) as client, client.producer(acks="all", linger_ms=0) as producer:
        began = trio.current_time() + 0.1

        async def one(due: float) -> None:
            await producer.send("topic-0000", RECORD, partition=0)
            if due >= began + SETTLE_S:
                found.append(1000 * (trio.current_time() - due))

        async with trio.open_nursery() as nursery:
            for number in range(int((SETTLE_S + seconds) * RECORDS_S)):
                due = began + number / RECORDS_S
                await trio.sleep_until(due)
                nursery.start_soon(one, due)
    return found


def window(broker: BrokerProcess, beside: str, seconds: float) -> list[float]:
    command = [sys.executable, "-m", "tests.console.cost", "--look", beside, "--at", http_address(broker)]
    looking = subprocess.Popen(command) if beside != "alone" else None
    try:
        return trio.run(latencies, broker.bootstrap, seconds)
    finally:
        if looking is not None:
            assert looking.poll() is None, f"{beside}: ended"
            looking.kill()
            looking.wait()


# The page


def page(address: str) -> tuple[int, float]:
    """Bytes on their way of all files of the page, and seconds from the click to the first row, as the page's
    own clock has it; the best of three."""
    from playwright.sync_api import sync_playwright

    from tests.console.conftest import CHROMIUM

    path = next(filter(None, map(shutil.which, CHROMIUM)))
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        took = []
        for _ in range(3):
            context = browser.new_context()
            shown = context.new_page()
            shown.goto(f"http://{address}/")
            shown.get_by_role("link", name="Topics").wait_for()
            size = shown.evaluate(
                """() => performance.getEntries().filter((one) => !one.name.includes("/api/"))
                    .reduce((sum, one) => sum + (one.transferSize ?? 0), 0)"""
            )
            took.append(shown.evaluate(FIRST_ROW))
            context.close()  # with its connections: an address has only so many
        browser.close()
    return size, min(took) / 1000


FIRST_ROW: Final = """() => new Promise((resolve) => {
  const began = performance.now();
  const cells = () => [...document.querySelectorAll("main td")];
  const isThere = () => cells().some((cell) => cell.textContent === "topic-0000");
  const look = () => (isThere() ? requestAnimationFrame(() => resolve(performance.now() - began))
    : requestAnimationFrame(look));
  document.querySelector('nav a[href="#/topics"]').click();
  look();
})"""


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.console.cost", description=__doc__)
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--seconds", type=float, default=8.0, help="of each window")
    parser.add_argument("--look", choices=("scrape", "browsers"), help=argparse.SUPPRESS)
    parser.add_argument("--at", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.look == "scrape":
        return scrape(given.at)
    if given.look == "browsers":
        return trio.run(browse, given.at)
    with tempfile.TemporaryDirectory() as folder:
        broker = BrokerProcess(Path(folder) / "data", arguments=listen()).start()
        try:
            measure(broker, given.rounds, given.seconds)
        finally:
            broker.kill()


def measure(broker: BrokerProcess, rounds: int, seconds: float) -> None:
    began = time.monotonic()
    trio.run(create, broker.bootstrap)
    print(f"{TOPICS * PARTITIONS:,} partitions created in {time.monotonic() - began:.0f} s")
    print(f"a scrape is {_get(http_address(broker), '/metrics', '127.0.0.1') / 1e6:.1f} MB", flush=True)
    p99: dict[str, list[float]] = {}
    print(f"produce, {RECORDS_S}/s, ms    p50    p99    max")
    for _ in range(rounds):
        for beside in ("alone", "scrape", "browsers"):
            found = sorted(window(broker, beside, seconds))
            cut = [found[int(share * len(found))] for share in (0.5, 0.99)]
            p99.setdefault(beside, []).append(cut[1])
            print(f"{beside:20} {cut[0]:8.2f} {cut[1]:6.1f} {found[-1]:6.1f}", flush=True)
    alone = p99["alone"]
    for beside in ("scrape", "browsers"):
        ratios = [one / other for one, other in zip(p99[beside], alone, strict=True)]
        print(f"p99 beside {beside}: {statistics.median(ratios):.2f} times that alone (median of the rounds)")
    size, row = page(http_address(broker))
    print(f"the page: {size / 1000:.1f} kB on its way; first of {TOPICS:,} topics after {row:.3f} s")


if __name__ == "__main__":
    main()
