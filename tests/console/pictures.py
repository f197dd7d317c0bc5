"""The pictures of docs/console.md: `python -m tests.console.pictures`.

`raftlog dev` with topics, a load and a group, then each screen in both themes, and some on a phone; the Raft
group's leader has just been cut off. What is shown is a real cluster's, so that every run differs in its
figures.
"""

from __future__ import annotations

import contextlib
import re
import shutil
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final, Literal

from playwright.sync_api import Browser, sync_playwright

from tests.console.conftest import CHROMIUM
from tests.console.pages import Watched, opened
from tests.http.raw import ask
from tests.testing.test_testing_dev import dev, line_of

FOLDER: Final = Path(__file__).parents[2] / "docs" / "pictures"
WIDE: Final = (1440, 1000)
PHONE: Final = (420, 800)
COLOURS: Final = 96
SETTLE_S: Final = 40
"""Until there is something in the plots."""
SEEN_MS: Final = 6_000
"""How long a Raft group is watched, for its lanes and plots."""
SHOWN: Final = {
    "overview": "",
    "topics": "topics",
    "messages": "topics/orders",
    "record": "topics/orders/0/3",
    "groups": "groups",
    "group": "groups?id=shoppers",
    "brokers": "brokers",
    "raft": "raft",
    "raft-group": "raft/orders/0",
    "elections": "elections",
    "clients": "clients",
    "apis": "apis",
    "lessons": "lessons",
}
RATED: Final = ("topics", "group", "clients")
"""Of these a page knows rates, or has a plot, once it was open for a while."""
ON_A_PHONE: Final = ("overview", "messages", "raft-group")


def main() -> None:
    path = next(filter(None, map(shutil.which, CHROMIUM)), None)
    if path is None:
        sys.exit("chromium is not installed: apt-get install chromium")
    with dev() as process, sync_playwright() as playwright:
        assert process.stdout is not None
        found = re.search(r"console=(http://(\S+)/) ", line_of("stdout", process.stdout.fileno()))
        assert found is not None
        prepare(found[2])
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        themes: tuple[Literal["light"], Literal["dark"]] = ("light", "dark")
        for theme in themes:
            take(browser, found[1].rstrip("/"), theme, SHOWN, WIDE, "")
            ask(found[2], "/api/v1/dev/heal", method="POST", body={})
        take(browser, found[1].rstrip("/"), "light", ON_A_PHONE, PHONE, "-phone")
        browser.close()
    total = sum(file.stat().st_size for file in FOLDER.glob("console-*.png"))
    print(f"{len(list(FOLDER.glob('console-*.png')))} pictures, {total / 1000:.0f} kB")


def prepare(server: str) -> None:
    def post(path: str, body: dict[str, Any]) -> None:
        answer = ask(server, f"/api/v1/{path}", method="POST", body=body)
        assert answer.status < 300, (path, answer)

    post("topics", {"name": "orders", "partitions": 3})
    post("topics", {"name": "payments", "partitions": 6})
    post("topics", {"name": "customers", "partitions": 1, "configs": {"cleanup.policy": "compact"}})
    for number in range(12):
        text = (
            f'{{"order": {4711 + number}, "customer": "c-{number % 5}", "total": {19.9 * (number + 1):.2f}}}'
        )
        record = {
            "key": {"as": "utf8", "text": f"c-{number % 5}"},
            "value": {"as": "utf8", "text": text},
            "headers": [["trace", {"as": "utf8", "text": f"{number:032x}"}]],
        }
        post("topics/orders/records", {**record, "partition": 0})
        post("topics/payments/records", record)
    post("dev/load", {"records_s": 50, "consumers": 2})
    time.sleep(SETTLE_S)


def take(
    browser: Browser,
    address: str,
    theme: Literal["light", "dark"],
    names: Iterable[str],
    size: tuple[int, int],
    suffix: str,
) -> None:
    with opened(browser, address, theme=theme, size=size) as console:
        for name in names:
            console.show(SHOWN[name])
            console.page.get_by_role("heading", level=1).wait_for()
            console.settle()
            if name in RATED:
                console.page.wait_for_timeout(SEEN_MS)
            if name == "raft-group" and not suffix:
                cut_off_its_leader(console)
            shoot(console, FOLDER / f"console-{name}-{theme}{suffix}.png")


def cut_off_its_leader(console: Watched) -> None:
    console.page.wait_for_timeout(SEEN_MS)
    leader = console.figure("leader")
    for other in {"1", "2", "3"} - {leader}:
        low, high = sorted((leader, other))
        name = f"cut the link between brokers {low} and {high}"
        console.page.get_by_role("button", name=name).click()
    console.page.wait_for_timeout(SEEN_MS)


def shoot(console: Watched, file: Path) -> None:
    console.page.wait_for_timeout(600)
    console.page.screenshot(path=file)
    with contextlib.suppress(ImportError):  # Pillow makes them a third as large; it is asked for nowhere else
        from PIL import Image

        Image.open(file).convert("RGB").quantize(COLOURS, dither=Image.Dither.NONE).save(file, optimize=True)


if __name__ == "__main__":
    main()
