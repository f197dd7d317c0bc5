"""The profile chaos of docker-compose.yml: no way leads round Toxiproxy, and the suite plays on it."""

from __future__ import annotations

import random
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest
import trio

from chaos.checkers import Judgement
from chaos.compose import ComposeStage
from chaos.report.text import as_text
from chaos.runner import Options, run
from chaos.scenarios import SCENARIOS
from chaos.stage import Links, Wants
from chaos.tests.test_chaos_links import see_a_leader_replaced
from tests.docker.engine import ROOT, build, compose_file, need_docker, need_image

pytestmark = [
    pytest.mark.slow,
    pytest.mark.long,
    pytest.mark.xdist_group("docker"),
    pytest.mark.filterwarnings("default"),  # the clients' own
]

SECONDS: Final = 20.0


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    need_docker()
    found = re.search(r"image: (\S*toxiproxy\S*)", (ROOT / "docker-compose.yml").read_text())
    assert found is not None
    need_image(found[1])
    build()
    return compose_file(tmp_path_factory.mktemp("chaos"))


@pytest.fixture
def stage(file: Path, tmp_path: Path) -> Iterator[ComposeStage]:
    wants = Wants(links=Links.PROXIES)
    with ComposeStage(file, tmp_path / "stage", wants, rng=random.Random(1)) as found:
        yield found


def test_a_leader_whose_links_are_refused_leads_no_more(stage: ComposeStage) -> None:
    trio.run(see_a_leader_replaced, stage)


@pytest.mark.alone  # a load that is starved of the machine shows nothing
@pytest.mark.parametrize("name", ["lost-links", "lost-replies"])
def test_a_scenario_in_containers_is_good(name: str, file: Path, tmp_path: Path) -> None:
    options = Options(scenario=SCENARIOS[name], seed=7, seconds=SECONDS, compose=file)
    result = run(options, tmp_path / "data")
    report = as_text(result.history, result.verdict)
    print(report, *result.logs.values(), sep="\n\n")
    assert result.verdict.judgement is Judgement.GOOD, report
