"""Every example in README and docs runs, and prints what the page says."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.docs.story import ROOT, Story, StoryFailed, check_mentioned, commands, matches, steps

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")), ROOT / "CONTRIBUTING.md"]
ELSEWHERE = {"docs/testing.md", "docs/guides/chaos.md"}
"""Their examples are run by tests/testing/test_testing_docs.py and chaos/tests/test_chaos_guide.py."""


def _name(page: Path) -> str:
    return str(page.relative_to(ROOT))


STORIES = [
    page
    for page in PAGES
    if _name(page) not in ELSEWHERE
    and any(step.kind in ("console", "python") for step in steps(page.read_text()))
]


@pytest.mark.parametrize("page", STORIES, ids=_name)
def test_the_examples_of_a_page_do_what_it_says(page: Path, tmp_path: Path) -> None:
    with Story(page, tmp_path) as story:
        assert story.run() > 0
        story.stop()


def test_the_pages_that_must_have_examples_have_some() -> None:
    guides = {f"docs/guides/{name}.md" for name in ("produce", "consume", "groups", "operations")}
    assert guides | {"README.md", "docs/quickstart.md"} <= {_name(page) for page in STORIES}


def _anchors(page: Path) -> set[str]:
    """What a link may name in a page: its headings, as sites write them."""
    text = re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[\s-]+", "-", re.sub(r"[^\w\s-]", "", heading).strip().lower()) for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=_name)
def test_links_lead_somewhere(page: Path) -> None:
    for target, anchor in re.findall(r"\]\(([^)#\s]*)(?:#([^)\s]+))?[^)]*\)", page.read_text()):
        if target.startswith(("http://", "https://")):
            continue
        found = page.parent / target if target else page
        assert found.exists(), target
        if anchor:
            assert anchor in _anchors(found), f"{target}#{anchor}"


def _write(folder: Path, text: str) -> Path:
    page = folder / "page.md"
    page.write_text(text)
    return page


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("```console\n$ echo one\ntwo\n```\n", "it printed:\none"),
        ("```console\n$ true\nsomething\n```\n", "something"),
        ("```console\n$ raftlog topik\n```\n", "there is no command 'topik'"),
        ("```python\nassert 1 == 2\n```\n", "AssertionError"),
        ("```console\n$ make everything\n```\n", "no target 'everything'"),
        ("```console\n$ pip install 'raftlog[everything]'\n```\n", "no extra 'everything'"),
        ("```shell\nls\n```\n", "'shell' is not tested"),
        ("<!-- from: Makefile -->\n```text\nclean: nothing\n```\n", "Makefile does not have"),
    ],
)
def test_a_page_that_says_something_else_fails(text: str, said: str, tmp_path: Path) -> None:
    with Story(_write(tmp_path, text), tmp_path) as story, pytest.raises(StoryFailed, match=re.escape(said)):
        story.run()


def test_steps_are_found_with_their_files_and_lines() -> None:
    page = "# A\n\n```console\n$ a\n```\n\n<!-- file: x.py -->\n```python\npass\n```\n<!-- stop -->\n"
    page += "<!-- from: y.py -->\n```python\npass\n```\n"
    assert [(s.line, s.kind, s.text, s.name) for s in steps(page)] == [
        (3, "console", "$ a\n", None),
        (8, "python", "pass\n", "x.py"),
        (11, "stop", "", None),
        (13, "excerpt", "pass\n", "y.py"),
    ]


def test_commands_and_what_they_print() -> None:
    assert list(commands("$ a\n$ b\nx\n\ny\n")) == [("a", ""), ("b", "x\n\ny")]
    assert matches("a … c", "a bb c\n")
    assert matches("", "")
    assert not matches("a …", "a b\nc")
    assert not matches("", "x")


def test_what_a_page_mentions_exists() -> None:
    check_mentioned("make demo DEMO_INPUT=/var/log/syslog")
    check_mentioned("pip install 'raftlog[bench]'")
