"""The simulation's Trio does what Trio does: the same programs on both, told by what they say and when."""

from __future__ import annotations

import gc
import warnings
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import trio
import trio.testing

from tests.sim.virtual_trio import Process, VirtualTrio
from tests.sim.world import World

Say = Callable[[str], None]
Program = Callable[[Any, Say], Awaitable[None]]


async def sleeps(trio: Any, say: Say) -> None:
    await trio.sleep(1.0)
    say("woke")
    await trio.lowlevel.checkpoint()
    say("went on")


async def events(trio: Any, say: Say) -> None:
    event = trio.Event()

    async def wait(name: str) -> None:
        await event.wait()
        say(name)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait, "one")
        await trio.sleep(1.0)
        event.set()
        say("set")
        assert event.is_set()
    await event.wait()
    say("waited for what had come")


async def time_outs(trio: Any, say: Say) -> None:
    with trio.move_on_after(1.0) as scope:
        await trio.sleep(3.0)
        say("never")
    say(f"caught {scope.cancelled_caught}")
    with trio.move_on_after(1.0) as scope:
        await trio.sleep(0.5)
        say("in time")
    say(f"caught {scope.cancelled_caught}")
    await trio.sleep(2.0)
    say("a time-out that is over does nothing")


async def nested_time_outs(trio: Any, say: Say) -> None:
    with trio.move_on_at(trio.current_time() + 1.0) as outer:
        with trio.move_on_after(2.0) as inner:
            await trio.sleep(3.0)
        say("never")
    say(f"outer {outer.cancelled_caught}, inner {inner.cancelled_caught}")


async def nurseries(trio: Any, say: Say) -> None:
    async def work(seconds: float) -> None:
        await trio.sleep(seconds)
        say(f"worked {seconds:g}")

    async with trio.open_nursery() as nursery:
        nursery.start_soon(work, 2.0)
        nursery.start_soon(work, 1.0)
        say("started")
    say("all done")


async def a_nursery_is_cancelled(trio: Any, say: Say) -> None:
    async def work() -> None:
        try:
            await trio.sleep(5.0)
            say("never")
        finally:
            say("cleaned up")

    async with trio.open_nursery() as nursery:
        nursery.start_soon(work)
        await trio.sleep(1.0)
        nursery.cancel_scope.cancel()
        say("cancelled")
    say("out")


async def a_time_out_around_a_nursery(trio: Any, say: Say) -> None:
    async def work() -> None:
        try:
            await trio.sleep(5.0)
        finally:
            say("cleaned up")

    with trio.move_on_after(1.0) as scope:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(work)
        say("never")
    say(f"caught {scope.cancelled_caught}")
    await trio.sleep(1.0)
    say("goes on")


PROGRAMS = (
    sleeps,
    events,
    time_outs,
    nested_time_outs,
    nurseries,
    a_nursery_is_cancelled,
    a_time_out_around_a_nursery,
)


def on_trio(program: Program) -> list[tuple[float, str]]:
    said: list[tuple[float, str]] = []

    async def main() -> None:
        began = trio.current_time()
        await program(trio, lambda text: said.append((round(trio.current_time() - began, 3), text)))

    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))
    return said


def on_virtual_trio(program: Program) -> list[tuple[float, str]]:
    world, said = World(1), []
    virtual = VirtualTrio(world, lambda host: False)

    def after(delay: float, what: Callable[[], None]) -> None:
        def due() -> None:
            what()
            process.run()

        world.after(delay, due)

    async def main() -> None:
        await program(virtual, lambda text: said.append((round(world.now, 3), text)))

    process = Process(after)
    process.start(virtual, main)
    process.run()
    world.run_until(100.0)
    return said


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda program: program.__name__)
def test_the_same_happens_on_both(program: Program) -> None:
    said = on_virtual_trio(program)
    assert said and "never" not in [text for _, text in said]
    assert said == on_trio(program)


def test_a_process_that_ends_takes_its_tasks_along() -> None:
    """They are where they are, and nobody complains."""
    world = World(1)
    virtual = VirtualTrio(world, lambda host: False)
    said: list[str] = []

    async def main() -> None:
        async with virtual.open_nursery() as nursery:
            nursery.start_soon(main)
            with virtual.move_on_after(1.0):
                await virtual.sleep(5.0)
            said.append("never")

    process = Process(lambda delay, what: None)
    process.start(virtual, main)
    for _ in range(3):
        process.ready[0][0].step(process.ready.popleft()[1])
    del process
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        gc.collect()
    assert not said
