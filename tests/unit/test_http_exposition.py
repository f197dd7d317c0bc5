"""Metrics' text: what Prometheus' own reader makes of it, and that it is made a bit at a time."""

from __future__ import annotations

import time
from collections.abc import Iterator

import trio
from prometheus_client.parser import text_string_to_metric_families

from raftlog.http.exposition import Exposition, Family, Histogram, Pieces, Sample, lines_of

HOSTILE = 'a"b\\c\nd</script>\u202e\ud800'


def test_a_label_that_holds_anything_is_read_as_it_was() -> None:
    family = Family("f", "gauge", ("label",), "Doc.", lambda: ())
    text = "# TYPE f gauge\n" + "".join(lines_of(family, ((HOSTILE,), 2.5)))
    (read,) = text_string_to_metric_families(text)
    assert [(one.labels, one.value) for one in read.samples] == [
        ({"label": HOSTILE.replace("\ud800", "?")}, 2.5)
    ]


def test_a_histogram_has_its_bounds_the_sum_and_the_count() -> None:
    family = Family("h_seconds", "histogram", ("api",), "Doc.", lambda: ())
    histogram = Histogram([(0.0001, 1), (0.0002, 3)], 4, 1.5)
    assert list(lines_of(family, (("P",), histogram))) == [
        'h_seconds_bucket{api="P",le="0.0001"} 1\n',
        'h_seconds_bucket{api="P",le="0.0002"} 3\n',
        'h_seconds_bucket{api="P",le="+Inf"} 4\n',
        'h_seconds_sum{api="P"} 1.5\nh_seconds_count{api="P"} 4\n',
    ]


def _begin() -> Pieces:
    yield None
    yield (80_000,)


def _many(count: int) -> Iterator[Sample]:
    for number in range(count):
        yield ("topic", number), number


async def test_4_others_have_their_turn_while_80000_samples_are_written() -> None:
    """A test of how often they do, not of how fast the machine is: a slice is a millisecond of work."""
    family = Family("m", "gauge", ("topic", "partition"), "Doc.", _many)
    exposition = Exposition([family], _begin)
    turns = 0

    async def others() -> None:
        nonlocal turns
        while True:
            await trio.lowlevel.checkpoint()
            turns += 1

    began = time.thread_time()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(others)
        text = await exposition.text()
        nursery.cancel_scope.cancel()
    spent_ms = 1000 * (time.thread_time() - began)
    assert text.count(b"\n") == 80_002
    assert exposition.samples == 80_000
    assert turns > spent_ms / 4, (turns, spent_ms)


async def test_who_asks_meanwhile_and_soon_after_gets_the_same_text() -> None:
    made = 0

    def begin() -> Pieces:
        nonlocal made
        made += 1
        yield (20_000,)

    exposition = Exposition([Family("m", "gauge", ("topic", "partition"), "Doc.", _many)], begin)
    texts: list[bytes] = []

    async def ask() -> None:
        texts.append(await exposition.text())

    async with trio.open_nursery() as nursery:
        for _ in range(5):
            nursery.start_soon(ask)
    assert len({id(text) for text in texts}) == 1
    assert made == 1


async def test_a_scrape_that_is_given_up_leaves_the_next_one_to_be_made() -> None:
    exposition = Exposition([Family("m", "gauge", ("topic", "partition"), "Doc.", _many)], _begin)
    with trio.move_on_after(0.005) as scope:
        await exposition.text()
    assert scope.cancelled_caught
    assert (await exposition.text()).count(b"\n") == 80_002
