"""A short campaign; `python -m tests.crash --rounds 50` is the long one."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from tests.crash.campaign import Campaign, plans

ROUNDS = 5


@pytest.mark.slow
@pytest.mark.filterwarnings("default")
def test_nothing_acknowledged_is_lost_when_the_broker_is_killed(tmp_path: Path) -> None:
    campaign = Campaign(tmp_path / "data", seed=random.randrange(1_000_000), rounds=ROUNDS)
    print(f"seed {campaign.seed}")  # pytest shows it when this fails
    last = None
    for last in campaign.run():
        assert last.verdict.is_good, f"seed {campaign.seed}, round {last.number}: {last.verdict}"
    assert last is not None and last.number == ROUNDS + 1
    assert last.verdict.acknowledged > 0


def test_a_seed_gives_the_same_kills() -> None:
    assert plans(7, 20) == plans(7, 20)
    assert plans(7, 20) != plans(8, 20)
    assert plans(7, 20)[:10] == plans(7, 10)
