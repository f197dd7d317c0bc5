"""What looking costs: `python -m tests.console.cost`.

One broker with 10,000 partitions and 200 records a second. Produce's latencies alone, beside a scrape of
/metrics a second, and beside 20 browsers, in turn: what else the machine does befalls all three. A browser is
a stream of events, and a connection on which it asks what the overview does every two seconds. Then, in
Chromium, what the page weighs on its way, and how long until the first row of 1,000 topics.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import trio

from raftlog.client.admin_values import NewTopic
from raftlog.client.client import open_client
from raftlog.testing.processes import BrokerProcess, http_address
from tests.http.raw import listen

TOPICS: Final = 1000
PARTITIONS: Final = 10
RECORDS_S: Final = 200
RECORD: Final = bytes(100)
BROWSERS: Final = 20
EVERY_S: Final = 2.0
SETTLE_S: Final = 3.0
"""Of a window, before its latencies count: all browsers are there by then."""
BESIDE: Final = ("alone", "scrape", "browsers")


# Those who look: processes of their own


def scrape(address: str) -> None:
    while True:
        began = time.monotonic()
        _get(address, "/metrics")
        time.sleep(max(0.0, 1.0 - (time.monotonic() - began)))


def _get(address: str, path: str) -> int:
    """Bytes of the answer."""
    host, _, port = address.rpartition(":")
    with socket.create_connection((host, int(port)), 30.0) as sock:
        sock.sendall(f"GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n".encode())
        size = 0
        while chunk := sock.recv(1 << 18):
            size += len(chunk)
        return size


async def browse(address: str) -> None:
    """Pages that were opened at different moments: a page asks every two seconds."""
    async with trio.open_nursery() as nursery:
        for number in range(BROWSERS):
            nursery.start_soon(_browser, address, f"127.0.1.{1 + number}")
            await trio.sleep(EVERY_S / BROWSERS)


async def _browser(address: str, source: str) -> None:
    """Each has its own address: a broker serves eight connections of one."""

    async def read(stream: trio.SocketStream) -> None:
        async for _ in stream:
            pass
        raise AssertionError("the stream ended")

    async with trio.open_nursery() as nursery:
        events = await _connect(address, source)
        await events.send_all(f"GET /api/v1/events HTTP/1.1\r\nHost: {address}\r\n\r\n".encode())
        head = bytes(await events.receive_some(65536))
        assert head.startswith(b"HTTP/1.1 200"), head
        nursery.start_soon(read, events)
        asking, since = await _connect(address, source), 0
        while True:
            await _ask(asking, address, "cluster")
            history = await _ask(asking, address, f"metrics/history?since={since}")
            since = int(history["at"][-1]) - 2000
            await _ask(asking, address, "brokers")
            await trio.sleep(EVERY_S)


async def _connect(address: str, source: str) -> trio.SocketStream:
    host, _, port = address.rpartition(":")
    return await trio.open_tcp_stream(host, int(port), local_address=source)


async def _ask(stream: trio.SocketStream, address: str, path: str) -> Any:
    """On a connection that is kept, as browsers do."""
    await stream.send_all(f"GET /api/v1/{path} HTTP/1.1\r\nHost: {address}\r\n\r\n".encode())
    data = b""
    while b"\r\n\r\n" not in data:
        data += await stream.receive_some(65536)
    head, _, body = data.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200"), head
    found = re.search(rb"(?i)content-length: (\d+)", head)
    assert found is not None, head
    while len(body) < int(found[1]):
        body += await stream.receive_some(65536)
    return json.loads(body)


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
    parser.add_argument("--beside", nargs="*", choices=BESIDE, default=BESIDE, help="windows of a round")
    given = parser.parse_args()
    if given.look == "scrape":
        return scrape(given.at)
    if given.look == "browsers":
        return trio.run(browse, given.at)
    with tempfile.TemporaryDirectory() as folder:
        broker = BrokerProcess(Path(folder) / "data", arguments=listen()).start()
        try:
            measure(broker, given.rounds, given.seconds, given.beside)
        finally:
            broker.kill()


def measure(broker: BrokerProcess, rounds: int, seconds: float, windows: Sequence[str]) -> None:
    began = time.monotonic()
    trio.run(create, broker.bootstrap)
    print(f"{TOPICS * PARTITIONS:,} partitions created in {time.monotonic() - began:.0f} s")
    print(f"a scrape is {_get(http_address(broker), '/metrics') / 1e6:.1f} MB", flush=True)
    p99: dict[str, list[float]] = {}
    print(f"produce, {RECORDS_S}/s, ms    p50    p99    max   the broker's CPU, ms/s")
    for _ in range(rounds):
        for beside in windows:
            spent, at = broker.cpu_seconds(), time.monotonic()
            found = sorted(window(broker, beside, seconds))
            spent = 1000 * (broker.cpu_seconds() - spent) / (time.monotonic() - at)
            cut = [found[int(share * len(found))] for share in (0.5, 0.99)]
            p99.setdefault(beside, []).append(cut[1])
            print(f"{beside:20} {cut[0]:8.2f} {cut[1]:6.1f} {found[-1]:6.1f} {spent:8.0f}", flush=True)
    for beside in sorted(p99.keys() - {"alone"}):
        ratios = sorted(one / other for one, other in zip(p99[beside], p99["alone"], strict=True))
        print(
            f"p99 beside {beside}: {statistics.median(ratios):.2f} times that alone"
            f" (median of the rounds, {ratios[0]:.2f} to {ratios[-1]:.2f})"
        )
    size, row = page(http_address(broker))
    print(f"the page: {size / 1000:.1f} kB on its way; first of {TOPICS:,} topics after {row:.3f} s")


if __name__ == "__main__":
    main()
