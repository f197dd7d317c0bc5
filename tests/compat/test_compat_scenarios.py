"""Every scenario with every client that can play it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.compat import administration, consuming, grouping, producing
from tests.compat.clients.base import CAN
from tests.compat.stage import Scenario, Stage

TABLES = [producing, consuming, grouping, administration]


def _cases() -> Iterator[object]:
    for table in TABLES:
        for scenario in table.SCENARIOS:
            for client in CAN:
                if scenario.needs in CAN[client]:
                    yield pytest.param(client, scenario, id=f"{client}-{scenario.name}")


@pytest.mark.parametrize(("client_name", "scenario"), list(_cases()))
def test_scenario(client_name: str, scenario: Scenario, stage: Stage) -> None:
    scenario.run(stage)
