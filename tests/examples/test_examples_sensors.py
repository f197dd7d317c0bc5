"""examples/sensors: by the driver, on a broker, and its page in a browser."""

from __future__ import annotations

import json
import random
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import trio

from examples.sensors import rooms
from examples.sensors.__main__ import main
from examples.sensors.app import GRACE_MS, HOT_CELSIUS, POINTS_MAX, WINDOW_MS, app
from raftlog import streams as rs
from raftlog.testing.processes import free_port
from tests.docs.story import ROOT
from tests.http.raw import ask

if TYPE_CHECKING:
    from playwright.sync_api import Browser

PATIENCE_S = 60


def feed(d: rs.Driver, celsius: float, at_ms: int, room: str = "office") -> None:
    d.feed("readings", {"room": room, "celsius": celsius, "at_ms": at_ms}, key=room)


def test_the_app_finds_the_means_that_a_look_at_all_readings_gives() -> None:
    rng = random.Random(5)
    given = [rooms.read(room, at_ms, rng) for at_ms in range(0, 60_000, 250) for room in rooms.ROOMS]
    with rs.driver(app, partitions=2) as d:
        for each in given:
            d.feed("readings", each, key=each["room"], at=each["at_ms"])
        found = d.read("averages")
    assert {got.key for got in found} == set(rooms.ROOMS)
    assert len(found) == len(rooms.ROOMS) * (60 - 5 - GRACE_MS // 1000)
    for got in found:
        assert got.value["mean"] == pytest.approx(rooms.mean(given, got.key, got.value["end"]))
        assert got.value["n"] == 20


def test_a_warm_room_is_an_alarm() -> None:
    with rs.driver(app) as d:
        d.now_ms = 20_000
        for at_ms, celsius in ((0, HOT_CELSIUS + 1), (10_000, HOT_CELSIUS - 1), (20_000, 0)):
            feed(d, celsius, at_ms)
        assert {got.value["start"] for got in d.read("alarms")} == {0}


def test_a_clock_that_runs_ahead_closes_no_window() -> None:
    with rs.driver(app) as d:
        d.now_ms = 10_000
        feed(d, 20, 0)
        feed(d, 99, rooms.AHEAD_MS)
        assert d.read("averages") == []
        assert d.dropped["ahead of the clock"] == 1


def test_what_is_kept_for_the_page_is_bounded_and_outlives_a_crash() -> None:
    with rs.driver(app) as d:
        d.now_ms = 1_000_000
        for second in range(POINTS_MAX + 20):
            feed(d, 20, 1000 * second)
        kept = d.store("history")["office"]
        assert len(kept) == POINTS_MAX
        assert [point["end"] for point in kept] == [kept[0]["end"] + 1000 * n for n in range(POINTS_MAX)]
        d.crash()
        d.restart(lose_state=True)
        assert d.store("history")["office"] == kept


async def test_the_page_s_numbers_are_the_means_of_what_was_sent(tmp_path: Path) -> None:
    listening = socket.create_server(("127.0.0.1", 0))
    listening.setblocking(False)
    address = "{}:{}".format(*listening.getsockname())
    given: list[rooms.Reading] = []
    http = rs.Http(listen=[listening], page="<title>rooms</title>")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(main, tmp_path, http, given.append)
        with trio.fail_after(PATIENCE_S):
            while len(rows := await _rows(address)) < len(rooms.ROOMS):  # noqa: ASYNC110 - it is the worker's
                await trio.sleep(0.2)
        nursery.cancel_scope.cancel()
    first = given[0]["at_ms"]
    checked = 0
    for row in rows:
        for point in row["value"]:
            if point["end"] - WINDOW_MS >= first:
                assert point["mean"] == pytest.approx(rooms.mean(given, row["key"], point["end"])), row["key"]
            checked += 1
    assert checked >= len(rooms.ROOMS)


async def _rows(address: str) -> list[Any]:
    try:
        answer = await trio.to_thread.run_sync(ask, address, "/stores/history")
    except OSError:
        return []
    return list(json.loads(answer.body)["rows"]) if answer.status == 200 else []


@pytest.fixture(scope="module")
def page() -> Iterator[str]:
    """The command, and where its page is."""
    port = free_port()
    process = subprocess.Popen(
        [sys.executable, "-m", "examples.sensors", "--port", str(port)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    with process.stdout:
        yield re.findall(r"http://\S+", process.stdout.readline())[0]
        process.send_signal(signal.SIGINT)
        assert process.wait(PATIENCE_S) == 130


def test_the_page_shows_each_room_and_goes_on(page: str, browser: Browser) -> None:
    from playwright.sync_api import expect

    with browser.new_context() as context:
        tab = context.new_page()
        wrong: list[str] = []
        tab.on("pageerror", lambda error: wrong.append(str(error)))
        _open(tab, page)
        expect(tab.locator("article h2")).to_have_text(list(rooms.ROOMS))
        expect(tab.locator("article").first.locator(".now span")).to_have_text(re.compile(r"^\d+\.\d$"))
        before = tab.get_by_role("status").text_content()
        expect(tab.get_by_role("status")).not_to_have_text(before or "")
        assert wrong == []


def _open(tab: Any, page: str) -> None:
    """The worker listens soon."""
    import time

    from playwright.sync_api import Error

    deadline = time.monotonic() + PATIENCE_S
    while True:
        try:
            tab.goto(page)
            return
        except Error:
            assert time.monotonic() < deadline
            time.sleep(0.2)
