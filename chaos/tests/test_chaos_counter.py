"""The short form of `python -m chaos run --scenario counter --time 1800`."""

from __future__ import annotations

import secrets
from pathlib import Path

import pytest

from chaos.checkers import Judgement
from chaos.report.text import as_text
from chaos.runner import Options, run
from chaos.scenarios import SCENARIOS
from chaos.values import UNKNOWN, key_of

SECONDS = 3.0
RATE = 100.0
OWN = ("counted", "clients", "effect", "lost", "duplicated", "reordered")


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.xdist_group("chaos")
@pytest.mark.filterwarnings("default")  # the clients' own
def test_each_record_is_counted_once_though_workers_and_brokers_are_killed(tmp_path: Path) -> None:
    assert_counted("counter", tmp_path)


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.xdist_group("chaos")
@pytest.mark.filterwarnings("default")
def test_each_record_is_counted_once_though_workers_sleep_beyond_their_sessions(tmp_path: Path) -> None:
    assert_counted("pause-worker", tmp_path)


def assert_counted(scenario: str, tmp_path: Path) -> None:
    """What holds of the brokers themselves is left to the scenarios that are drawn."""
    seed = secrets.randbelow(1_000_000)
    options = Options(scenario=SCENARIOS[scenario], seed=seed, seconds=SECONDS, rate=RATE)
    result = run(options, tmp_path / "data")
    findings = {one.name: one for one in result.verdict.findings}
    not_good = {name for name in OWN if findings[name].judgement is not Judgement.GOOD}
    assert not not_good and result.history.head.is_whole, as_text(result.history, result.verdict)
    assert findings["counted"].checked > 100


def test_a_value_has_a_key() -> None:
    assert key_of("confluent:21") == "confluent-1"
    assert key_of("?00ff") == UNKNOWN
