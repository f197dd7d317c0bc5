"""What many ask for at once is made once."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import trio
import trio.testing

from raftlog.http.api.context import Api
from raftlog.http.shared import GOOD_S_MAX, Shared


async def test_many_who_ask_at_once_and_soon_after_get_what_was_made_once(
    autojump_clock: trio.testing.MockClock,
) -> None:
    shared, made, got = Shared(), list[float](), list[float]()

    async def make() -> float:
        await trio.sleep(0.01)
        made.append(trio.current_time())
        return made[-1]

    async def ask(name: str = "overview") -> None:
        got.append(await shared.get(name, make))

    async with trio.open_nursery() as nursery:
        for _ in range(20):
            nursery.start_soon(ask)
    await trio.sleep(0.9)  # it took 0.01 s: good for 1 s
    await ask()
    assert (len(made), set(got)) == (1, {made[0]})
    await trio.sleep(0.2)
    await ask()
    await ask("something else")
    assert len(made) == 3


async def test_what_takes_long_is_good_for_two_seconds_and_no_longer(
    autojump_clock: trio.testing.MockClock,
) -> None:
    shared, made = Shared(), list[int]()

    async def make() -> None:
        await trio.sleep(1.0)
        made.append(1)

    await shared.get("slow", make)
    await trio.sleep(GOOD_S_MAX - 0.01)
    await shared.get("slow", make)
    assert len(made) == 1
    await trio.sleep(0.02)
    await shared.get("slow", make)
    assert len(made) == 2


async def test_who_fails_or_leaves_has_the_next_make_it(autojump_clock: trio.testing.MockClock) -> None:
    shared, tries = Shared(), list[str]()

    async def fail() -> str:
        tries.append("failed")
        raise OSError

    async def slow() -> str:
        tries.append("left")
        await trio.sleep_forever()
        raise AssertionError

    async def make() -> str:
        tries.append("made")
        return "it"

    with pytest.raises(OSError):
        await shared.get("it", fail)
    with trio.move_on_after(1):
        await shared.get("it", slow)
    assert await shared.get("it", make) == "it"
    assert tries == ["failed", "left", "made"]


async def test_twenty_pages_have_each_broker_say_once_how_it_is(
    autojump_clock: trio.testing.MockClock,
) -> None:
    asked = list[int]()

    async def of(broker: int) -> dict[str, Any]:
        asked.append(broker)
        await trio.sleep(0.1)
        return {"of": broker}

    inside = SimpleNamespace(
        reports=SimpleNamespace(of=of), metadata=SimpleNamespace(catalog=SimpleNamespace(brokers=[1, 2, 3]))
    )
    view: Any = SimpleNamespace(inside=inside)
    unused: Any = None
    api = Api(view=view, access=unused, client=unused, history=unused)

    async def show() -> None:
        assert await api.reports() == {broker: {"of": broker} for broker in (1, 2, 3)}

    async with trio.open_nursery() as nursery:
        for _ in range(20):
            nursery.start_soon(show)
    assert sorted(asked) == [1, 2, 3]
