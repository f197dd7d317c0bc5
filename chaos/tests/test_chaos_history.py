"""Histories are written and read back, and a value tells who wrote it."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from chaos.history import Head, History, NotAHistory, Outcome, Read, Send
from chaos.tests.test_chaos_checkers import RIGHT
from chaos.values import name_of, value_of


@pytest.mark.parametrize("name", ["history.jsonl", "history.jsonl.gz"])
def test_what_is_written_is_read(tmp_path: Path, name: str) -> None:
    history = History(Head(scenario="kill", seed=7, producers={"a": True}, is_whole=True, secured=True))
    history.operations = list(RIGHT)
    history.save(tmp_path / name)
    again = History.load(tmp_path / name)
    assert again.head == history.head
    assert again.operations == history.operations


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{}\n",
        '{"history": 2}\n',
        '{"history": 1, "what": 3}\n',
        '{"history": 1}\n{"is": "Nothing"}\n',
        "no\n",
    ],
)
def test_what_is_no_history_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "history.jsonl"
    path.write_text(text)
    with pytest.raises(NotAHistory):
        History.load(path)


def test_an_operation_that_nobody_ended_is_unknown(tmp_path: Path) -> None:
    history = History()
    history.begin(Send(client="a", log="log", partition=0, value="a:0"))
    history.save(tmp_path / "h")
    (again,) = History.load(tmp_path / "h").operations
    assert again.outcome is Outcome.UNKNOWN and again.ended == float("inf")


def test_threads_enter_side_by_side() -> None:
    history = History()

    def work(client: str) -> None:
        for number in range(500):
            sent = history.begin(Send(client=client, log="log", partition=0, value=f"{client}:{number}"))
            history.end(sent, Outcome.OK)

    threads = [threading.Thread(target=work, args=(name,)) for name in "abcd"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert history.acknowledged == dict.fromkeys("abcd", 500)
    began = [send.began for send in history.of(Send)]
    assert len(began) == 2000 and began == sorted(began)
    assert not list(history.of(Read))


@pytest.mark.parametrize(
    "value", [None, b"", b"a:0", value_of("a:0") + b"x", value_of("a:0").replace(b"0", b"1", 1), b"\xff:0:"]
)
def test_a_damaged_value_is_nobodys(value: bytes | None) -> None:
    assert name_of(value).startswith("?")


def test_values_name_their_writer() -> None:
    names = [f"{writer}:{number}" for writer in ("a", "churn/churn@1") for number in range(500)]
    assert [name_of(value_of(name)) for name in names] == names
    assert len({value_of(name) for name in names}) == 1000
