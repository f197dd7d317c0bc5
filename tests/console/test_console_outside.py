"""`raftlog console` in a browser, beside a cluster: raftlog, or what RAFTLOG_TEST_BOOTSTRAP names."""

from __future__ import annotations

import os

import pytest
import trio
from playwright.sync_api import Browser, expect

from raftlog.client.client import open_client
from raftlog.testing.processes import ClusterProcesses
from tests.console.pages import SCREENS, opened
from tests.outside import console

pytestmark = [pytest.mark.slow, pytest.mark.long]

TOPIC = "outside-in"


async def fill(bootstrap: str) -> None:
    async with open_client(bootstrap) as client:
        await client.admin.create_topic(TOPIC, partitions=2, exist_ok=True)
        async with client.producer() as producer:
            await producer.send(TOPIC, b"seen from outside", partition=0)
        async with client.consumer(TOPIC, group="outsiders", auto_offset_reset="earliest") as consumer:
            while not await consumer.poll(100, max_wait_ms=200):
                pass
            await consumer.commit()


def test_every_screen_shows_what_a_client_is_told_or_says_who_knows(
    browser: Browser, request: pytest.FixtureRequest
) -> None:
    bootstrap = os.environ.get("RAFTLOG_TEST_BOOTSTRAP") or request.getfixturevalue("cluster").bootstrap
    trio.run(fill, bootstrap)
    with console(bootstrap) as address, opened(browser, f"http://{address}") as watched:
        page = watched.page
        expect(page.get_by_label("records written a second")).to_be_visible()
        expect(page.get_by_text("Produce latency")).to_have_count(0)
        for screen in SCREENS:
            watched.go(screen)
            assert watched.serious() == [], screen
        watched.go("Raft")
        expect(page.get_by_role("region", name="members of the quorum").get_by_role("row")).not_to_have_count(
            0
        )
        for screen in ("Elections", "Clients", "APIs"):
            watched.go(screen)
            expect(page.get_by_text("This page asks the cluster by Kafka's protocol")).to_be_visible()
        watched.show(f"topics/{TOPIC}", until="seen from outside")
        watched.show(f"topics/{TOPIC}/partitions", until="epoch")
        watched.show("groups?id=outsiders", until=TOPIC)


def test_beside_a_cluster_that_is_silent_the_figures_are_old(
    browser: Browser, request: pytest.FixtureRequest
) -> None:
    """The process that serves the page is well, and its stream stands."""
    if "RAFTLOG_TEST_BOOTSTRAP" in os.environ:
        pytest.skip("brokers of somebody else are not stopped")
    cluster: ClusterProcesses = request.getfixturevalue("cluster")
    with (
        console(cluster.bootstrap, may_warn=True) as address,
        opened(browser, f"http://{address}") as watched,
    ):
        page = watched.page
        page.clock.install()
        page.reload()
        expect(page.get_by_role("status").filter(has_text="live")).to_be_visible()
        for broker in cluster.brokers.values():
            broker.pause()
        try:
            lost = page.get_by_role("status").filter(has_text="reconnecting")
            expect(lost).to_be_visible()
            expect(page.get_by_role("link", name="unknown now")).to_be_visible()
            with page.expect_response("**/api/v1/events"):
                page.clock.fast_forward(10_000)
            page.wait_for_timeout(500)  # it says hello, and nothing of the cluster
            expect(lost).to_be_visible()
        finally:
            for broker in cluster.brokers.values():
                broker.resume()
        expect(page.get_by_role("status").filter(has_text="live")).to_be_visible()
