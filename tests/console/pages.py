"""A page of the console in a browser, and what must hold on every one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal

from playwright.sync_api import Browser, ConsoleMessage, Dialog, Page, Request, expect

from raftlog.testing.processes import BrokerProcess, http_address

PATIENCE_MS = 60_000
SCREENS = ("Overview", "Topics", "Groups", "Brokers", "Raft", "Elections", "Clients", "APIs")
WIDE, PHONE = (1440, 1000), (420, 900)


class Watched:
    """A page, and what it did that no page may: errors, requests elsewhere, dialogs."""

    def __init__(self, page: Page, origin: str) -> None:
        self.page = page
        self.origin = origin
        self.wrong: list[str] = []
        page.set_default_timeout(PATIENCE_MS)
        page.on("console", self._on_console)
        page.on("pageerror", lambda error: self.wrong.append(f"error: {error}"))
        page.on("dialog", self._on_dialog)
        page.on("request", self._on_request)

    def _on_console(self, message: ConsoleMessage) -> None:
        # A violation of the content security policy is one, too. That nobody answers is no fault of a page.
        if message.type == "error" and "net::ERR_" not in message.text and "status of" not in message.text:
            self.wrong.append(message.text)

    def _on_dialog(self, dialog: Dialog) -> None:
        self.wrong.append(f"dialog: {dialog.message}")
        dialog.dismiss()

    def _on_request(self, request: Request) -> None:
        if not request.url.startswith((self.origin, "data:", "blob:")):
            self.wrong.append(f"request: {request.url}")

    def show(self, path: str, *, until: str | None = None) -> None:
        """A screen by the part of its address behind the `#`; `until` is a text that is waited for."""
        self.page.goto(f"{self.origin}/#/{path}")
        if until is not None:
            self.page.get_by_text(until).first.wait_for()

    def go(self, screen: str) -> None:
        """A screen by the menu."""
        menu = self.page.get_by_role("navigation", name="screens")
        menu.get_by_role("link", name=screen).click()
        self.page.get_by_role("heading", level=1, name=screen).wait_for()
        self.settle()

    def settle(self) -> None:
        """Wait until all that the screen asked for is there."""
        expect(self.page.locator("[aria-busy=true]")).to_have_count(0)

    def figure(self, name: str) -> str:
        """What is said under a name, such as `leader`."""
        return self.page.locator(".figure", has_text=name).first.locator("b").inner_text()

    def serious(self) -> list[Any]:
        """What axe-core finds serious, or worse."""
        from axe_playwright_python.sync_playwright import Axe

        found = Axe().run(self.page).response["violations"]
        return [
            (one["id"], one["help"], [node["html"][:200] for node in one["nodes"][:3]])
            for one in found
            if one["impact"] in ("serious", "critical")
        ]


@contextmanager
def opened(
    browser: Browser,
    broker: BrokerProcess | str,
    *,
    theme: Literal["light", "dark"] = "light",
    size: tuple[int, int] = WIDE,
    is_closed: bool = False,
) -> Iterator[Watched]:
    """The console of a broker, or at an address; `is_closed` when it asks for a token first. In the end
    nothing may have gone wrong."""
    origin = broker if isinstance(broker, str) else f"http://{http_address(broker)}"
    width, height = size
    context = browser.new_context(color_scheme=theme, viewport={"width": width, "height": height})
    try:
        watched = Watched(context.new_page(), origin)
        watched.page.goto(f"{origin}/")
        if not is_closed:
            watched.page.get_by_role("heading", level=1).wait_for()
        yield watched
        assert watched.wrong == []
    finally:
        context.close()
