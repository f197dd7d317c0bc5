"""Looking through records: others have their turn between two of them, and so has the clock."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from itertools import pairwise
from types import SimpleNamespace
from typing import Any, cast

import pytest
import trio
import trio.testing

from raftlog.client.metadata import TopicPartition
from raftlog.client.record import Record
from raftlog.http.api.record_text import Filter
from raftlog.http.api.records import READ_S, Records, _rows

KEY = TopicPartition("t", 0)
COUNT = 500
VALUE = json.dumps({"items": [{"sku": f"a{n}", "price": 1.5, "n": 2} for n in range(400)]}).encode()
HEADERS = tuple((f"name-{n}", b"value") for n in range(100))
LOADED: list[Record] = [Record("t", 0, n, 1, None, VALUE, HEADERS) for n in range(COUNT)]
LIGHT: list[Record] = [Record("t", 0, n, 1, None, b"{}", ()) for n in range(COUNT)]


class Reader:
    """All of a topic in one poll."""

    def __init__(self, records: list[Record]) -> None:
        self._records = records

    async def __aenter__(self) -> Reader:
        return self

    async def __aexit__(self, *raised: object) -> None:
        return None

    async def poll(self, count: int) -> list[Record]:
        await trio.lowlevel.checkpoint()
        found, self._records = self._records, []
        return found

    def positions(self) -> Mapping[TopicPartition, int]:
        return {KEY: COUNT}


def reading(monkeypatch: pytest.MonkeyPatch, records: list[Record]) -> Records:
    async def get() -> None:
        return None

    monkeypatch.setattr(Records, "_consumer", lambda *_: Reader(records))
    return Records(cast(Any, SimpleNamespace(client=SimpleNamespace(get=get))))


async def test_a_search_by_a_field_lets_others_have_their_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    api, beats = reading(monkeypatch, LOADED), list[float]()

    async def beat() -> None:
        while True:
            beats.append(time.process_time())
            await trio.lowlevel.checkpoint()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(beat)
        await api._read({KEY: 0}, {KEY: COUNT}, Filter("", "value", "a>1"), COUNT, is_newest=False)
        await _rows(LOADED, Filter("", "value", "a>1"))
        await _rows(LOADED)
        await trio.lowlevel.checkpoint()
        nursery.cancel_scope.cancel()
    # One record's value takes a third of a millisecond; all of one poll took 300 ms.
    assert max(after - before for before, after in pairwise(beats)) < 0.05


async def test_a_search_ends_when_its_time_is_over_though_records_are_there(
    monkeypatch: pytest.MonkeyPatch, autojump_clock: trio.testing.MockClock
) -> None:
    class Slow(Filter):
        def takes(self, record: Record) -> bool:
            autojump_clock.jump(READ_S / 4)
            return True

    api = reading(monkeypatch, LIGHT)
    found, behind, _, stopped = await api._read(
        {KEY: 0}, {KEY: COUNT}, Slow("", "value"), COUNT, is_newest=False
    )
    assert ([record.offset for record in found], behind, stopped) == ([0, 1, 2, 3], {KEY: 4}, "time")
