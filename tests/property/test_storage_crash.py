"""Whatever is done and wherever it stops: what was synced is there afterwards, whole and in order."""

from __future__ import annotations

import random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.storage_world import LIKELY, World, random_steps, run, soak

STEPS = st.lists(st.tuples(st.sampled_from(LIKELY), st.integers(0, 255)), max_size=60)


@given(seed=st.integers(0, 2**32), steps=STEPS)
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_a_store_is_its_model_through_crashes(seed: int, steps: list[tuple[str, int]]) -> None:
    world = World(seed)
    run(world, [("create", 0), ("create", 1), *steps])


@pytest.mark.parametrize("seed", range(60))
def test_power_goes_off_anywhere(seed: int) -> None:
    soak(seed, 120)


@pytest.mark.parametrize("seed", range(3))
def test_every_operation_is_a_place_to_lose_power(seed: int) -> None:
    """One schedule, stopped at each of its writes, syncs and renames in turn."""
    steps = [step for step in random_steps(random.Random(seed), 60) if step[0] not in ("kill", "power_loss")]
    whole = World(seed)
    formatted = whole.disk.operations
    run(whole, steps)
    for stop in range(formatted, whole.disk.operations, 2):
        world = World(seed)
        world.disk.crash_after = stop
        run(world, steps)
