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


@pytest.mark.slow
@pytest.mark.xdist_group("chaos")
@pytest.mark.filterwarnings("default")  # the clients' own
def test_each_record_is_counted_once_though_workers_and_brokers_are_killed(tmp_path: Path) -> None:
    """How soon brokers serve again is left to longer runs, which have the machine for themselves."""
    seed = secrets.randbelow(1_000_000)
    options = Options(scenario=SCENARIOS["counter"], seed=seed, seconds=SECONDS, rate=RATE)
    result = run(options, tmp_path / "data")
    findings = {one.name: one for one in result.verdict.findings}
    not_good = {name for name, one in findings.items() if one.judgement is not Judgement.GOOD}
    assert not_good <= {"goals"}, as_text(result.history, result.verdict)
    assert findings["counted"].checked > 100


def test_a_value_has_a_key() -> None:
    assert key_of("confluent:21") == "confluent-1"
    assert key_of("?00ff") == UNKNOWN
