"""What is done to the proxies is done to the brokers: no way leads round Toxiproxy."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Final

import pytest
import trio

from chaos.faults.fault import CannotRun
from chaos.faults.toxiproxy import Refused
from chaos.stage import Links, Stage, Wants
from raftlog.client.client import Client

PATIENCE_S: Final = 60.0

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("secured", [False, True], ids=["plain", "secured"])
def test_a_leader_whose_links_are_refused_leads_no_more(secured: bool, tmp_path: Path) -> None:
    wants = Wants(links=Links.PROXIES)
    try:
        wants.check()
    except CannotRun as error:
        pytest.skip(str(error))
    with Stage(tmp_path / "stage", wants, secured=secured, rng=random.Random(1)) as stage:
        trio.run(see_a_leader_replaced, stage)


async def see_a_leader_replaced(stage: Stage) -> None:
    """Whatever the brokers know of each other's addresses, and however often they dial."""
    proxies = stage.proxies
    assert proxies is not None
    async with stage.access.open_client() as client:
        await client.admin.create_topic("linked", partitions=1, replication_factor=3)
        leader = await _leader_when(client, lambda one: one is not None)
        assert leader is not None
        links = [f"{a}-{b}" for a in stage.brokers for b in stage.brokers if leader in (a, b) and a != b]
        refused = Refused(proxies, f"links of {leader}", [leader], links)
        refused.begin()
        await _leader_when(client, lambda one: one not in (None, leader))
        async with client.producer(acks="all") as producer:
            await producer.send("linked", b"by the others")
        refused.end()
        await _leader_when(client, lambda one: one == leader)  # home, once all is well


async def _leader_when(client: Client, is_it: Callable[[int | None], bool]) -> int | None:
    with trio.fail_after(PATIENCE_S):
        while True:
            view = await client.admin.describe_topic("linked")
            if is_it(view.partitions[0].leader):
                return view.partitions[0].leader
            await trio.sleep(0.1)
