"""Frames that nobody would send: some new ones each time. `python -m chaos.fuzz --frames 1000000` is the long
form."""

from __future__ import annotations

import logging
import random
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from chaos.frames import frame
from chaos.fuzz import Fuzzed, Wrong, fuzzed_broker

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("chaos")]

FRAMES = 20_000


@pytest.fixture(scope="module")
def fuzzed() -> Iterator[Fuzzed]:
    with fuzzed_broker() as fuzzed:
        yield fuzzed


def test_random_frames_are_survived(fuzzed: Fuzzed) -> None:
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")  # pytest shows it when this fails
    rng = random.Random(seed)
    for _ in range(FRAMES):
        fuzzed.send(frame(rng, fuzzed.served))
    fuzzed.look()
    assert fuzzed.connections > 100


@settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
@given(rng=st.randoms(use_true_random=False))
def test_drawn_frames_are_survived(fuzzed: Fuzzed, rng: random.Random) -> None:
    """Hypothesis draws what the generator draws, and makes it smaller when it finds something."""
    for _ in range(5):
        fuzzed.send(frame(rng, fuzzed.served))
    fuzzed.look()


def test_what_the_broker_calls_its_own_fault_is_found(fuzzed: Fuzzed) -> None:
    logging.getLogger("raftlog.broker").error("a handler failed")
    with pytest.raises(Wrong, match="a handler failed"):
        fuzzed.look()
