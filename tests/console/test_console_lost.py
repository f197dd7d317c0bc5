"""A page whose broker ends, one whose session does, and one that misses a file (scenarios 21, 22 and 24)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio
from playwright.sync_api import Browser, Request, Route, expect

from raftlog.client.client import open_client
from raftlog.client.health import NO_LEADER
from raftlog.client.metadata import TopicPartition
from raftlog.testing.processes import BrokerProcess, ClusterProcesses, http_address
from tests.console.pages import opened
from tests.http.raw import listen

pytestmark = pytest.mark.slow

ADMIN, VIEWER = "a-token-of-an-admin", "a-token-of-a-viewer"
IMPATIENT = "const real = AbortSignal.timeout.bind(AbortSignal); AbortSignal.timeout = (ms) => real(ms / 10);"
"""A page that waits a tenth of the time."""
BEHIND = """(isHidden) => {
  Object.defineProperty(document, "hidden", { value: isHidden, configurable: true });
  document.dispatchEvent(new Event("visibilitychange"));
}"""
"""As a page whose tab is behind another one, which a browser without windows does not say."""


async def fill(bootstrap: str, group: str) -> None:
    async with open_client(bootstrap) as client:
        await client.admin.create_topic("orders")
        async with client.producer() as producer:
            await producer.send("orders", b"secret")
        await client.admin.alter_group_offsets(group, {TopicPartition("orders", 0): 1})


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BrokerProcess]:
    folder: Path = tmp_path_factory.mktemp("guarded")
    arguments = listen()
    for setting, token in (("token", ADMIN), ("viewer.token", VIEWER)):
        (folder / setting).write_text(token)
        (folder / setting).chmod(0o600)
        arguments += ("-o", f"raftlog.http.{setting}.file={folder / setting}")
    process = BrokerProcess(folder / "data", arguments=arguments)
    process.start()
    trio.run(fill, process.bootstrap, "readers")
    yield process
    process.kill()


def test_21_a_session_that_ends_asks_for_the_token_keeps_the_form_and_sends_it(
    browser: Browser, guarded: BrokerProcess
) -> None:
    with opened(browser, guarded, is_closed=True) as console:
        page = console.page
        login = page.get_by_role("dialog", name="This broker asks for a token")
        login.get_by_label("token").fill(ADMIN)
        login.get_by_role("button", name="Go on").click()
        page.get_by_role("heading", level=1).wait_for()
        console.show("groups?id=readers", until="orders")
        page.get_by_role("button", name="Reset offsets").click()
        form = page.get_by_role("dialog", name="Reset offsets")
        form.get_by_role("combobox").select_option("offset")
        form.get_by_role("spinbutton", name="where").fill("0")
        page.context.clear_cookies()
        # Not by the pointer: the page may have found out already, and asks for the token above the form.
        form.get_by_role("button", name="Show what would move").dispatch_event("click")
        login.get_by_label("token").fill(ADMIN)
        login.get_by_role("button", name="Go on").click()
        expect(form.get_by_role("table")).to_contain_text("orders")
        expect(page.get_by_role("status").filter(has_text="live")).to_be_visible()


def test_22_a_viewer_has_no_buttons_that_change_something_and_sees_no_records(
    browser: Browser, guarded: BrokerProcess
) -> None:
    with opened(browser, guarded, is_closed=True) as console:
        page = console.page
        login = page.get_by_role("dialog", name="This broker asks for a token")
        login.get_by_label("token").fill(VIEWER)
        login.get_by_role("button", name="Go on").click()
        page.get_by_role("heading", level=1).wait_for()
        console.go("Topics")
        expect(page.get_by_role("button", name="Create a topic")).to_have_count(0)
        console.show("topics/orders")
        expect(page.get_by_role("alert")).to_contain_text("a viewer sees no records")
        expect(page.get_by_role("button", name="Delete")).to_have_count(0)
        expect(page.get_by_role("link", name="Produce")).to_have_count(0)
        console.show("groups?id=readers", until="orders")
        expect(page.get_by_role("button", name="Reset offsets")).to_have_count(0)


@pytest.mark.parametrize(
    "file", ["app.js", "ring.js", "vendor/preact.mjs", "vendor/uPlot.iife.min.js", "style.css"]
)
def test_a_page_that_misses_a_file_is_loaded_again(
    browser: Browser, cluster: ClusterProcesses, file: str
) -> None:
    """As when a browser's machine changes networks while it loads the page."""
    broker = cluster.brokers[1]
    context = browser.new_context()
    try:
        page = context.new_page()
        page.route(f"**/console/{file}", lambda route: route.abort("internetdisconnected"), times=1)
        page.goto(f"http://{http_address(broker)}/#/topics")
        expect(page.get_by_role("heading", level=1, name="Topics")).to_be_visible()
        page.wait_for_function(
            "() => getComputedStyle(document.body).margin === '0px' && 'uPlot' in globalThis"
        )
    finally:
        context.close()


def test_a_page_of_files_of_two_versions_is_loaded_again(browser: Browser, cluster: ClusterProcesses) -> None:
    """As when its broker was upgraded while it loaded. What goes wrong later does not load it again."""
    context = browser.new_context()
    try:
        page = context.new_page()
        older = "export const older = 1;"
        page.route(
            "**/console/ring.js",
            lambda route: route.fulfill(body=older, content_type="text/javascript"),
            times=1,
        )
        page.goto(f"http://{http_address(cluster.brokers[1])}/#/topics")
        expect(page.get_by_role("heading", level=1, name="Topics")).to_be_visible()
        page.evaluate("globalThis.isSame = true; setTimeout(() => { throw new Error('later') })")
        page.wait_for_timeout(1500)
        assert page.evaluate("globalThis.isSame")
    finally:
        context.close()


def test_a_page_that_misses_a_file_waits_for_its_broker(browser: Browser, cluster: ClusterProcesses) -> None:
    broker = cluster.brokers[1]
    context = browser.new_context()
    try:
        page = context.new_page()

        def cut_off(route: Route) -> None:
            broker.kill()
            route.abort("connectionreset")

        page.route("**/console/topics.js", cut_off, times=1)
        page.goto(f"http://{http_address(broker)}/#/topics")
        expect(page.get_by_text("It is loaded again")).to_be_visible()
        broker.start()
        expect(page.get_by_role("heading", level=1, name="Topics")).to_be_visible()
    finally:
        context.close()


def test_a_request_that_is_never_answered_holds_up_neither_a_page_nor_its_loading(
    browser: Browser, cluster: ClusterProcesses
) -> None:
    address = f"http://{http_address(cluster.brokers[1])}/"
    context = browser.new_context()
    try:
        context.add_init_script(IMPATIENT)
        page = context.new_page()
        page.route("**/console/ring.js", lambda route: route.abort("internetdisconnected"), times=1)
        page.route("**/api/v1/topics?*", lambda route: None, times=1)
        held = list[Route]()

        def hold_first(route: Route) -> None:
            if route.request.resource_type == "fetch" and not held:
                held.append(route)
            else:
                route.continue_()

        page.route(address, hold_first)
        page.goto(f"{address}#/topics")
        expect(page.get_by_role("alert")).to_have_text("no answer within 30 s")
        expect(page.get_by_text("in all")).to_be_visible()
        expect(page.get_by_role("alert")).to_have_count(0)
        assert held
    finally:
        context.close()


def test_24_a_page_whose_broker_is_killed_says_so_and_catches_up_when_it_is_back(
    browser: Browser, cluster: ClusterProcesses
) -> None:
    broker = cluster.brokers[1]
    with opened(browser, broker) as console:
        page = console.page
        expect(page.get_by_role("status").filter(has_text="live")).to_be_visible()
        broker.kill()
        lost = page.get_by_role("status").filter(has_text=re.compile(r"reconnecting · figures of \d+.* ago"))
        expect(lost).to_be_visible()
        expect(page.get_by_role("main")).to_have_class("stale")
        expect(page.get_by_text("3 of 3 brokers are alive")).to_be_visible()  # the last figures
        trio.run(fill, cluster.brokers[2].bootstrap, "meanwhile")
        broker.start()
        expect(page.get_by_role("status").filter(has_text="live")).to_be_visible()
        expect(page.get_by_role("main")).not_to_have_class("stale")
        console.go("Elections")
        expect(page.get_by_text(re.compile("leads orders-0"))).not_to_have_count(0)


def test_a_page_whose_stream_is_silent_says_so_and_follows_anew(
    browser: Browser, cluster: ClusterProcesses
) -> None:
    """As when a broker's machine is cut off: the connection stands, and nobody says that it does not."""
    broker = cluster.brokers[1]
    with opened(browser, broker) as console:
        page = console.page
        streams = list[Request]()
        page.on("request", lambda one: streams.append(one) if one.url.endswith("/events") else None)
        page.clock.install()
        console.show("brokers", until="All brokers")
        page.reload()
        expect(page.get_by_role("status").filter(has_text="live")).to_be_visible()
        before = len(streams)
        broker.pause()
        try:
            expect(page.get_by_role("status").filter(has_text="reconnecting")).to_be_visible()
            with page.expect_request("**/api/v1/events"):
                page.clock.fast_forward(10_000)
            assert len(streams) == before + 1
        finally:
            broker.resume()
        expect(page.get_by_role("status").filter(has_text="live")).to_be_visible()


def test_a_browser_may_have_the_page_in_many_tabs(browser: Browser, cluster: ClusterProcesses) -> None:
    """It has six connections to one host for all of them."""
    context = browser.new_context()
    try:
        pages = []
        for _ in range(7):
            pages.append(page := context.new_page())
            page.goto(f"http://{http_address(cluster.brokers[1])}/")
            expect(page.get_by_role("status").filter(has_text="live")).to_be_visible()
            expect(page.get_by_text("3 of 3 brokers are alive")).to_be_visible()
            page.evaluate(BEHIND, True)
        pages[0].evaluate(BEHIND, False)
        expect(pages[0].get_by_role("status").filter(has_text="live")).to_be_visible()
    finally:
        context.close()


def test_2_the_console_of_a_broker_without_a_majority_loads_and_says_so(
    browser: Browser, cluster: ClusterProcesses
) -> None:
    """Last, since it kills two of three."""
    for number in (2, 3):
        cluster.brokers[number].kill()
    with opened(browser, cluster.brokers[1]) as console:
        wrong = console.page.get_by_role("alert")
        expect(wrong).to_contain_text(NO_LEADER)
        expect(wrong).to_contain_text("look at which brokers are down or cut off")
