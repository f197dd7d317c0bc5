"""Aggregates: commands become events, or are refused. The number is that of the scenario."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import pytest

from raftlog import streams as rs


@dataclass(frozen=True)
class Account:
    """What its events have made of it."""

    balance: int = 0

    def apply(self, event: dict[str, Any]) -> Account:
        amount = event["amount"] if event["type"] == "deposit" else -event["amount"]
        return replace(self, balance=self.balance + amount)


def ledger(**options: Any) -> rs.App:
    app = rs.App("ledger", guarantee="exactly_once", **options)
    accounts = app.aggregate("events", name="accounts", initial=Account, apply=Account.apply)

    @app.commands("commands", accounts, replies="replies")
    def handle(command: dict[str, Any], account: Account, version: int) -> Any:
        if command.get("expect") not in (None, version):
            return rs.Refused("conflict", expected=command["expect"])
        if command["type"] == "move":
            return [{"type": "withdraw", "amount": 1}, {"type": "deposit", "amount": command["amount"]}]
        if command["type"] == "withdraw" and account.balance < command["amount"]:
            return rs.Refused("balance", balance=account.balance)
        return [{"type": command["type"], "amount": command["amount"]}] if command["amount"] else []

    return app


def deposit(amount: int, **more: Any) -> dict[str, Any]:
    return {"type": "deposit", "amount": amount, **more}


def withdraw(amount: int, **more: Any) -> dict[str, Any]:
    return {"type": "withdraw", "amount": amount, **more}


def values(d: rs.Driver, topic: str) -> list[Any]:
    return [got.value for got in d.read(topic)]


def test_a_command_becomes_events_and_its_reply_has_the_version() -> None:
    with rs.driver(ledger()) as d:
        d.feed("commands", deposit(10), key="ann")
        d.feed("commands", {"type": "move", "amount": 4}, key="ann")
        d.feed("commands", deposit(0), key="ann")
        assert values(d, "events") == [deposit(10), withdraw(1), deposit(4)]
        assert values(d, "replies") == [
            {"version": 1, "events": 1, "command": [0, 0]},
            {"version": 3, "events": 2, "command": [0, 1]},
            {"version": 3, "events": 0, "command": [0, 2]},
        ]
        assert d.store("accounts")["ann"] == (3, Account(13))


def test_a_refusal_appends_nothing_and_says_why() -> None:
    with rs.driver(ledger()) as d:
        d.feed("commands", withdraw(5), key="ann")
        assert values(d, "events") == []
        assert values(d, "replies") == [
            {"balance": 0, "refused": "balance", "version": 0, "command": [0, 0]},
        ]
        assert d.store("accounts").items() == {}


def test_50_a_command_with_an_old_version_is_refused_and_a_restart_knows_the_version() -> None:
    with rs.driver(ledger()) as d:
        d.feed("commands", deposit(10, expect=0), key="ann")
        d.feed("commands", deposit(20, expect=0), key="ann")
        for lose_state in (False, True):
            d.crash()
            d.restart(lose_state=lose_state)
            d.feed("commands", deposit(30, expect=0), key="ann")
            reply = values(d, "replies")[-1]
            assert (reply["refused"], reply["version"]) == ("conflict", 1)
        d.feed("commands", deposit(30, expect=1), key="ann")
        assert values(d, "replies")[-1]["version"] == 2
        assert values(d, "events") == [deposit(10), deposit(30)]


def test_versions_are_those_of_each_key() -> None:
    with rs.driver(ledger(), partitions=3) as d:
        for round_ in range(3):
            for key in ("ann", "bob", "cid"):
                d.feed("commands", deposit(1, expect=round_), key=key)
        assert all("refused" not in reply for reply in values(d, "replies"))
        assert d.store("accounts").items() == {key: (3, Account(3)) for key in ("ann", "bob", "cid")}


def test_a_command_that_fails_in_the_middle_leaves_nothing() -> None:
    app = rs.App("ledger", guarantee="exactly_once", on_error="skip")
    numbers = app.aggregate("events", name="numbers", initial=int, apply=lambda state, event: state + event)

    @app.commands("commands", numbers, replies="replies")
    def handle(command: list[Any], state: int, version: int) -> list[Any]:
        return command

    with rs.driver(app) as d:
        d.feed("commands", [1, "x"], key="k")
        d.feed("commands", [1, 2], key="k")
        d.feed("commands", {"no": "list"}, key="k")
        d.feed("commands", [3], key=None)
        assert values(d, "events") == [1, 2]
        assert [reply["version"] for reply in values(d, "replies")] == [2]
        assert d.store("numbers")["k"] == (2, 3)
        assert d.dropped["failed"] == 2 and d.dropped["a command has no key"] == 1


def test_a_state_that_apply_forgets_to_give_is_said() -> None:
    app = rs.App("ledger", guarantee="exactly_once")
    bags = app.aggregate("events", name="bags", initial=list, apply=list.append)
    app.commands("commands", bags)(lambda command, state, version: [command])
    with rs.driver(app) as d, pytest.raises(rs.RecordFailed, match="gave None"):
        d.feed("commands", 1, key="k")


def test_a_state_that_cannot_be_written_is_said_with_its_store_and_key() -> None:
    app = rs.App("ledger", guarantee="exactly_once")
    sets = app.aggregate("events", name="sets", initial=set, apply=lambda state, event: state | {event})
    app.commands("commands", sets)(lambda command, state, version: [command])
    said = r"commands-0 at offset 0: store 'sets': versioned .* does not take the value of key 'k'"
    with rs.driver(app) as d, pytest.raises(rs.RecordFailed, match=said):
        d.feed("commands", 1, key="k")


def test_a_command_whose_state_cannot_be_written_is_set_aside() -> None:
    app = rs.App("ledger", guarantee="exactly_once", dlq="dead")
    bags = app.aggregate("events", name="bags", initial=list, apply=lambda state, event: [*state, 1 / event])
    app.commands("commands", bags, replies="replies")(lambda command, state, version: [command])
    with rs.driver(app) as d:
        for command in (1, 1e-320, 2):  # of the second one's event infinity is made, which is no JSON
            d.feed("commands", command, key="k")
        assert [got.value for got in d.read("dead")] == [b"1e-320"]
        assert [reply["version"] for reply in values(d, "replies")] == [1, 2]
        assert d.store("bags")["k"] == (2, [1.0, 0.5])


def test_the_changelog_is_json_that_others_can_read() -> None:
    with rs.driver(ledger()) as d:
        d.feed("commands", deposit(10), key="ann")
        (change,) = d.topics["ledger-accounts-changelog"].logs[0]
        assert change.value == b'{"version":1,"state":{"balance":10}}'


def test_replies_are_a_stream_too() -> None:
    app = rs.App("ledger", guarantee="exactly_once")
    numbers = app.aggregate("events", name="numbers", initial=int, apply=lambda state, event: state + event)

    @app.commands("commands", numbers)
    def replies(command: int, state: int, version: int) -> Any:
        return rs.Refused("odd") if command % 2 else [command]

    replies.filter(lambda reply: "refused" in reply).to("refusals")
    with rs.driver(app) as d:
        for command in (1, 2, 3):
            d.feed("commands", command, key="k")
        assert [reply["command"] for reply in values(d, "refusals")] == [[0, 0], [0, 2]]


def test_what_cannot_be_right_is_refused() -> None:
    app = rs.App("plain")
    with pytest.raises(rs.TopologyError, match="exactly_once"):
        app.aggregate("events", name="numbers", initial=int, apply=lambda state, event: state)
    app = rs.App("once", guarantee="exactly_once")
    numbers = app.aggregate("events", name="numbers", initial=int, apply=lambda state, event: state)
    app.commands("commands", numbers)
    with pytest.raises(rs.TopologyError, match="write both into one"):
        app.commands("more", numbers)
    with pytest.raises(rs.TopologyError, match="another app"):
        rs.App("two", guarantee="exactly_once").commands("commands", numbers)


def test_it_is_described() -> None:
    told = rs.plan(ledger()).describe()
    assert "commands of accounts" in told and "text -> versioned Account" in told
