"""The workload of docs/guides/chaos.md runs, and its checker finds what it is there for."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from chaos.checkers import Judgement, judge
from chaos.report.text import as_text
from chaos.runner import Options, run
from chaos.scenarios import SCENARIOS
from chaos.workloads import find_workload

GUIDE = Path(__file__).parents[2] / "docs" / "guides" / "chaos.md"


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    (code,) = re.findall(r"<!-- file: shop.py -->\n```python\n(.*?)^```$", GUIDE.read_text(), re.M | re.S)
    (tmp_path / "shop.py").write_text(code)
    monkeypatch.syspath_prepend(str(tmp_path))
    return "shop:ShopWorkload"


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.xdist_group("chaos")
@pytest.mark.filterwarnings("default")
def test_the_workload_of_the_guide_runs(shop: str, tmp_path: Path) -> None:
    options = Options(scenario=SCENARIOS["kill-leader"], seed=1, seconds=5, workload=shop, rate=50)
    result = run(options, tmp_path / "data")
    assert result.verdict.judgement is Judgement.GOOD, as_text(result.history, result.verdict)
    (own,) = (finding for finding in result.verdict.findings if finding.name == "orders")
    assert own.checked > 50


def test_its_checker_finds_an_order_that_is_missing(shop: str) -> None:
    from chaos.tests.test_chaos_checkers import final, history, send

    made = history([send("shop:0", 0), send("shop:1", 1), final("shop:0")])
    verdict = judge(made, find_workload(shop).checkers)
    (own,) = (finding for finding in verdict.findings if finding.name == "orders")
    assert own.count == 1 and "shop:1" in own.violations[0].text


@pytest.mark.parametrize("name", ["nothing", "no.module:Class", "chaos.history:History", ":", "a b:c"])
def test_what_is_no_workload_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="is no workload"):
        find_workload(name)
