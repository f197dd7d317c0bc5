"""Whatever is done and wherever it stops: what was synced is there afterwards, whole and in order."""

from __future__ import annotations

import random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.sim.virtual_disk import PowerLost
from tests.storage_world import LIKELY, World, crash, run

STEPS = st.lists(st.tuples(st.sampled_from(LIKELY), st.integers(0, 255)), max_size=60)


@given(seed=st.integers(0, 2**32), steps=STEPS)
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_a_store_is_its_model_through_crashes(seed: int, steps: list[tuple[str, int]]) -> None:
    world = World(seed)
    run(world, [("create", 0), ("create", 1), *steps])


@pytest.mark.parametrize("seed", range(3))
def test_every_operation_is_a_place_to_lose_power(seed: int) -> None:
    """One schedule, stopped at each of its writes, syncs and renames in turn, and once more in recovery."""
    rng = random.Random(seed)
    steps = [("create", 0), ("create", 1)] + [(rng.choice(LIKELY), rng.randrange(256)) for _ in range(60)]
    steps = [step for step in steps if step[0] not in ("kill", "power_loss")]
    whole = World(seed)
    formatted = whole.disk.operations
    run(whole, steps)
    for stop in range(formatted, whole.disk.operations, 3):
        world = World(seed)
        world.disk.crash_after = stop
        run(world, steps)


def test_power_lost_again_and_again_while_recovering() -> None:
    rng = random.Random(5)
    steps = [("create", 0)] + [(rng.choice(LIKELY), rng.randrange(256)) for _ in range(80)]
    world = World(5)
    run(world, steps)
    for name, number in steps:
        if name in ("append", "turn", "commit"):
            getattr(world, f"do_{name}")(number)
    for stop in range(40):
        world.disk.power_loss()
        world.disk.crash_after = world.disk.operations + stop
        try:
            world.open()
        except PowerLost:
            continue
        break
    else:
        pytest.fail("recovery takes more operations than were tried")
    world.disk.crash_after = None
    crash(world, [])
