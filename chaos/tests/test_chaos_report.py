"""The page and the text say what a checker found, and nothing in a record is markup on a page."""

from __future__ import annotations

import json
import re

import pytest

from chaos.checkers import judge
from chaos.history import History, Outcome, Read
from chaos.report.page import as_page
from chaos.report.svg import escape
from chaos.report.text import as_data, as_text
from chaos.tests.test_chaos_checkers import RIGHT, WRONG, history

EVIL = "</script><img src=x onerror=alert(1)>\"'&\u202e\u200b\x00\ud800\x1b[31m"


def test_nothing_gets_through() -> None:
    said = escape(EVIL)
    assert not set(said) & set("<>\"'\x00\u202e\u200b\ud800\x1b")
    assert "\\u202e" in said and "\\u0000" in said and "&lt;img" in said
    said.encode()


@pytest.mark.parametrize("where", ["client", "log", "why", "value", "logs", "scenario"])
def test_a_page_shows_markup_as_text(where: str) -> None:
    made = history([*RIGHT])
    read = Read(client="r", log="log", partition=0, records=[(0, EVIL)], outcome=Outcome.OK, began=2, ended=3)
    made.operations.append(read)
    if where in ("client", "log", "why"):
        setattr(read, where, EVIL)
    made.head.scenario = EVIL if where == "scenario" else "kill-leader"
    page = as_page(made, judge(made), {1: EVIL if where == "logs" else ""})
    assert "<img" not in page and "<script" not in page and "\u202e" not in page
    assert "&lt;img" in page
    page.encode()


def test_a_good_run_says_so() -> None:
    made = history(RIGHT)
    page, text = as_page(made, judge(made), {}), as_text(made, judge(made))
    assert ">GOOD<" in page and "What is wrong" not in page
    assert text.startswith("GOOD")
    assert re.search(r"nothing acknowledged is lost +yes +\d", text)


@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_is_shown_with_its_operations(name: str) -> None:
    made = history(WRONG[name][0][1])
    verdict = judge(made)
    (finding,) = (one for one in verdict.findings if one.name == name)
    page, text, data = as_page(made, verdict, {}), as_text(made, verdict), as_data(made, verdict)
    assert ">WRONG<" in page and escape(finding.violations[0].text) in page
    assert text.startswith("WRONG") and finding.violations[0].text in text
    assert json.loads(json.dumps(data))["verdict"] == "wrong"


def test_an_empty_history_is_a_page() -> None:
    empty = History()
    assert ">UNKNOWN<" in as_page(empty, judge(empty), {})


@pytest.mark.parametrize("secured", [True, False])
def test_it_is_told_whether_a_run_was_secured(secured: bool) -> None:
    made = history(RIGHT)
    made.head.secured = secured
    verdict = judge(made)
    page, text, data = as_page(made, verdict, {}), as_text(made, verdict), as_data(made, verdict)
    assert ("secured" in text.splitlines()[0]) == (" · secured" in page) == data["secured"] == secured
    assert ("--secured" in text.splitlines()[-1]) == ("--secured" in page) == secured
