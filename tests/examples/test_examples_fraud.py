"""examples/fraud: by the driver; the page in docs/examples runs it on a broker."""

from __future__ import annotations

from pathlib import Path

from examples.fraud import payments, warehouse
from examples.fraud.app import app
from raftlog import streams as rs


def test_the_app_raises_the_alerts_that_a_look_at_all_payments_gives() -> None:
    given = payments.payments(1000)
    with rs.driver(app, partitions=4) as d:
        for each in payments.customers():
            d.feed("customers", each, key=each["customer"], at=given[0]["at_ms"])
        for each in given:
            d.feed("payments", each, key=each["customer"], at=each["at_ms"])
        alerts = {got.value["payment"]: got.value["reason"] for got in d.read("alerts")}
        assert alerts == payments.expected_alerts(given)
        assert {"velocity", "amount"} <= set(alerts.values())
        assert len(d.read("payments-scored")) == len(given)


def test_a_payment_of_nobody_goes_to_the_dead_letters() -> None:
    with rs.driver(app) as d:
        d.feed("payments", {"id": "p1", "customer": "nobody", "amount": 1, "at_ms": 1_000})
        d.advance(1)
        assert [got.key for got in d.read("fraud-dlq")] == [b"nobody"]
        assert d.read("alerts") == []


def test_the_verdict_finds_what_is_missing_doubled_and_wrong(tmp_path: Path) -> None:
    import sqlite3

    given = payments.payments(200)
    alerts = payments.expected_alerts(given)
    path = tmp_path / "w.db"
    assert warehouse.judge(path, given).missing == len(given) + len(alerts)
    with sqlite3.connect(path) as sql:
        sql.execute('create table "payments-scored" (id)')
        sql.execute("create table alerts (payment, reason)")
        sql.executemany('insert into "payments-scored" values (?)', [(row["id"],) for row in given])
        sql.executemany("insert into alerts values (?, ?)", alerts.items())
    assert warehouse.judge(path, given).is_right
    with sql:
        sql.execute('insert into "payments-scored" values (?)', (given[0]["id"],))
        sql.execute("update alerts set reason = 'x' where payment = ?", (next(iter(alerts)),))
        sql.execute('delete from "payments-scored" where id = ?', (given[1]["id"],))
    sql.close()
    found = warehouse.judge(path, given)
    assert (found.missing, found.doubled, found.wrong) == (1, 1, 1)
