"""examples/accounts: by the driver; the page in docs/examples runs it on a broker."""

from __future__ import annotations

import json
from typing import Any

from examples.accounts.app import app
from examples.accounts.tellers import judge
from raftlog import Record
from raftlog import streams as rs


def wish(kind: str, amount: int, expect: int) -> dict[str, Any]:
    return {"type": kind, "amount": amount, "expect": expect, "teller": "t"}


def test_of_two_who_have_seen_the_same_one_is_refused() -> None:
    with rs.driver(app) as d:
        d.feed("account-commands", wish("deposit", 50, 0), key="ann")
        d.feed("account-commands", wish("withdraw", 40, 1), key="ann")
        d.feed("account-commands", wish("withdraw", 40, 1), key="ann")
        d.feed("account-commands", wish("withdraw", 40, 2), key="ann")
        assert [got.value["type"] for got in d.read("account-events")] == ["deposited", "withdrawn"]
        told = [(got.value.get("refused"), got.value["version"]) for got in d.read("account-replies")]
        assert told == [(None, 1), (None, 2), ("conflict", 2), ("balance", 2)]
        d.crash()
        d.restart(lose_state=True)
        assert d.store("accounts")["ann"].state.balance == 10


def record(value: Any, key: str = "ann") -> Record:
    data = json.dumps(value).encode()
    return Record("t", 0, 0, 0, key.encode(), data, ())


def test_the_verdict_finds_what_is_wrong() -> None:
    deposit, withdrawal = {"type": "deposited", "amount": 5}, {"type": "withdrawn", "amount": 5}
    first = {"version": 1, "events": 1, "command": [0, 0]}
    second = {"version": 2, "events": 1, "command": [0, 1]}
    right = judge(2, map(record, [deposit, withdrawal]), map(record, [first, second]))
    assert right.is_right and right.events == 2
    assert judge(2, map(record, [withdrawal, deposit]), map(record, [first, second])).wrong == 1
    assert judge(2, map(record, [deposit, deposit]), map(record, [first])).unanswered == 1
    assert judge(2, map(record, [deposit, deposit]), map(record, [first, first])).wrong == 2
    assert judge(2, map(record, [deposit]), map(record, [first, second])).wrong == 1
    assert judge(1, map(record, [deposit]), []).wrong == 1, "an event that nobody asked for"
