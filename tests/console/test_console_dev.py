"""`raftlog dev` in a browser: links are cut with a click, and the page says what follows (25 and 26)."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, expect

from raftlog.dev.walk import PRODUCE
from tests.console.pages import opened
from tests.http.raw import ask
from tests.testing.test_testing_dev import dev, line_of
from tests.waiting import until

pytestmark = [pytest.mark.slow, pytest.mark.long]


IS_ONE_TRUTH = """() => {
  const number = (one) => Number(one.textContent.replaceAll(",", ""));
  const find = (those, test) => [...document.querySelectorAll(those)].find(test);
  const row = find("table.replicas tbody tr", (one) => one.textContent.includes("silent"));
  const last = find(".figure", (one) => one.textContent.startsWith("last index"));
  const [onDisk, behind] = [...row.querySelectorAll("td.num")].map(number);
  return onDisk > 0 && onDisk + behind === number(last.querySelector("b"));
}"""
"""In the row of the silent replica, "on disk" and "behind" add up to the leader's last index."""


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with dev() as process:
        assert process.stdout is not None
        ready = line_of("stdout", process.stdout.fileno())
        found = re.search(r"console=(http://\S+)/ ", ready)
        assert found is not None, ready
        yield found[1]


def test_25_and_26_a_leader_is_cut_off_healed_and_led_home(browser: Browser, address: str) -> None:
    with opened(browser, address) as console:
        page = console.page
        for screen in ("Overview", "Topics", "Groups"):
            console.go(screen)
            expect(page.get_by_role("main").get_by_role("link", name="Lessons")).to_be_visible()
        page.get_by_role("main").get_by_role("link", name="Lessons").click()
        page.get_by_role("heading", level=1, name="Lessons").wait_for()
        assert console.serious() == []
        page.get_by_role("button", name="Start 50 records/s").click()
        expect(page.locator(".figure", has_text="acknowledged").locator("b")).not_to_have_text("0")
        console.show("raft/orders/0")
        page.get_by_role("img", name=re.compile(r"broker 1, leader, term \d+")).wait_for()
        term = int(console.figure("term"))
        page.get_by_role("button", name="cut the link between brokers 1 and 2").click()
        page.get_by_role("button", name="cut the link between brokers 1 and 3").click()
        leads = page.get_by_role("img", name=re.compile(rf"broker [23], leader, term (?!{term}\b)\d+"))
        expect(leads).to_be_visible()
        expect(page.get_by_role("status").filter(has_text=re.compile("link 1.2 is cut"))).to_be_visible()
        happened = page.get_by_role("list", name="what happened")
        expect(happened).to_contain_text("link 1-3 is cut by the console")
        expect(happened).to_contain_text(re.compile(r"broker [23] leads orders-0 in term \d+: "))
        expect(happened).to_contain_text("broker 1 steps down in orders-0: no majority was heard")
        replicas = page.get_by_role("region", name="replicas")
        expect(replicas.get_by_role("row").filter(has_text="silent")).to_be_visible()
        page.wait_for_function(IS_ONE_TRUTH)
        assert replicas.evaluate("(one) => one.scrollWidth <= one.clientWidth"), "nothing is cut off"
        page.get_by_role("button", name="Heal all").click()
        expect(happened).to_contain_text("broker 1 is its preferred leader")
        page.get_by_role("img", name=re.compile(r"broker 1, leader, term \d+")).wait_for()
        assert int(console.figure("term")) > term
        console.go("Lessons")
        page.get_by_role("button", name="Stop the load").click()
        expect(page.locator(".figure", has_text="missing").locator("b")).to_have_text("0")


def test_a_broker_is_killed_and_started(browser: Browser, address: str) -> None:
    with opened(browser, address) as console:
        page = console.page
        console.show("raft/__cluster_metadata/0")
        page.get_by_role("button", name="kill broker 3").click()
        page.get_by_role("img", name="broker 3, down").wait_for()
        page.get_by_role("button", name="start 3").click()
        page.get_by_role("img", name=re.compile("broker 3, (leader|follower), term")).wait_for()


def test_a_record_is_followed_through_every_step_also_by_a_broker_that_was_started_again(
    address: str,
) -> None:
    server = address.removeprefix("http://")

    def leaders(which: str = "leader") -> list[int | None]:
        topic = ask(server, "/api/v1/topics/followed").json()
        return [row[which] for row in topic["partitions"]]

    wanted = {"name": "followed", "partitions": 3}
    assert ask(server, "/api/v1/topics", method="POST", body=wanted).status == 201
    home = leaders("preferred")
    until("all are led from home", lambda: leaders() == home)
    ask(server, "/api/v1/dev/brokers/3/kill", method="POST", body={})
    until("another leads", lambda: not {3, None} & set(leaders()))
    ask(server, "/api/v1/dev/brokers/3/start", method="POST", body={})
    until("all are led from home again", lambda: leaders() == home)
    for partition in (0, 1, 2) * 3:
        body = {"topic": "followed", "partition": partition, "value": {"as": "utf8", "text": "x"}}
        answer = ask(server, "/api/v1/dev/trace", method="POST", body=body)
        while answer.status == 503 and "led by another broker" in str(answer.json()):
            # It is told so while the leaderships come home, or move since the machine is busy.
            answer = ask(server, "/api/v1/dev/trace", method="POST", body=body)
        assert answer.status == 200, answer
        trace = answer.json()["trace"]
        assert {step["step"] for step in trace} == {step for _, _, step in PRODUCE}, (partition, leaders())
        assert [step["us"] for step in trace] == sorted(step["us"] for step in trace)
