"""`raftlog console`: a cluster seen from outside, raftlog or what RAFTLOG_TEST_BOOTSTRAP names: Apache Kafka,
by `make test-kafka`."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import pytest

import raftlog
from tests.http.raw import ask, connect
from tests.outside import console
from tests.waiting import until

KAFKA = os.environ.get("RAFTLOG_TEST_BOOTSTRAP")
BASE = "/api/v1"
TOPIC, GROUP = "seen-from-outside", "reader/of?it#"
QUOTED_GROUP = "reader%2Fof%3Fit%23"


@pytest.fixture(scope="module")
def bootstrap(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    if KAFKA:
        yield KAFKA
        return
    with raftlog.testing.running_cluster(1, data_dir=tmp_path_factory.mktemp("outside")) as cluster:
        yield cluster.bootstrap


@pytest.fixture(scope="module")
def address(bootstrap: str) -> Iterator[str]:
    with console(bootstrap) as found:
        yield found


def get(address: str, path: str) -> Any:
    answer = ask(address, f"{BASE}{path}")
    assert answer.status == 200, (path, answer)
    return answer.json()


def change(address: str, method: str, path: str, body: object) -> Any:
    answer = ask(address, f"{BASE}{path}", method=method, body=body)
    assert answer.status < 300, (path, answer)
    return answer.json() if answer.body else None


def test_topics_records_and_groups_of_a_cluster_somewhere_else(address: str, bootstrap: str) -> None:
    change(address, "POST", "/topics", {"name": TOPIC, "partitions": 2, "replication": 1})
    until("the topic is seen", lambda: ask(address, f"{BASE}/topics/{TOPIC}").status == 200)
    for text in ("one", "two", "three"):
        record = {"partition": 1, "key": None, "value": {"as": "utf8", "text": text}}
        change(address, "POST", f"/topics/{TOPIC}/records", record)
    found = get(address, f"/topics/{TOPIC}/records?contains=w&from=oldest")
    assert [(row["partition"], row["offset"], row["value"]["text"]) for row in found["records"]] == [
        (1, "1", "two")
    ]

    def listed() -> Any:
        return get(address, f"/topics?search={TOPIC}")["items"][0]

    until("the records are counted", lambda: listed()["records"] == "3")
    assert [row["end"] for row in get(address, f"/topics/{TOPIC}")["partitions"]] == ["0", "3"]
    reset = f"/groups/offsets?id={QUOTED_GROUP}"
    body = {"to": "offset:1", "topics": {TOPIC: [1]}}
    assert change(address, "POST", reset, body)["rows"][0]["after"] == "1"
    until("the lag is seen", lambda: listed()["lag_max"] == "2")
    (group,) = get(address, "/groups?search=reader")["items"]
    assert (group["id"], group["lag"], group["topics"], group["members"]) == (GROUP, "2", [TOPIC], 0)
    detail = get(address, f"/groups/detail?id={QUOTED_GROUP}")
    assert [(row["committed"], row["lag"]) for row in detail["offsets"]] == [("1", "2")]
    change(address, "PATCH", f"/topics/{TOPIC}/config", {"set": {"retention.ms": "1000000"}})
    configs = {row["name"]: row for row in get(address, f"/topics/{TOPIC}")["configs"]}
    assert (configs["retention.ms"]["value"], configs["retention.ms"]["source"]) == ("1000000", "topic")
    change(address, "DELETE", f"/groups?id={QUOTED_GROUP}", {})
    change(address, "DELETE", f"/topics/{TOPIC}", {"confirm": TOPIC})


def test_the_brokers_and_the_quorum(address: str) -> None:
    cluster = get(address, "/cluster")
    assert (cluster["brokers"], cluster["alive"], cluster["problems"]) == (1, 1, [])
    assert cluster["cluster_id"]
    assert cluster["durability"] == (None if KAFKA else "fsync")

    def broker() -> Any:
        (row,) = get(address, "/brokers")
        return row

    until("the disk is seen", lambda: broker()["report"]["disk"])
    assert (broker()["state"], broker()["report"]["disk"]["free"] > 0) == ("alive", True)
    until("the quorum is seen", lambda: ask(address, f"{BASE}/quorum").status == 200)
    quorum = get(address, "/quorum")
    assert [(row["id"], row["voter"]) for row in quorum["members"]] == [(quorum["leader"], True)]
    assert int(quorum["members"][0]["end"]) >= int(quorum["commit_index"]) > 0


def test_a_stream_says_that_the_cluster_is_there(address: str) -> None:
    with connect(address) as sock:
        sock.sendall(f"GET {BASE}/events HTTP/1.1\r\nHost: {address}\r\n\r\n".encode())
        seen = b""
        while seen.count(b"event: rates") < 2:
            chunk = sock.recv(65536)
            assert chunk, seen
            seen += chunk
    assert b"event: hello" in seen


def test_what_is_inside_a_broker_is_said_to_be(address: str) -> None:
    for path in ("/raft", "/raft/orders/0", "/connections", "/apis", "/dev"):
        answer = ask(address, f"{BASE}{path}")
        assert (answer.status, "only a broker of raftlog knows" in answer.error) == (404, True)


def test_the_settings_of_a_brokers_http_hold_here(bootstrap: str) -> None:
    with console(bootstrap, "-o", "raftlog.http.readonly=true") as address:
        answer = ask(address, f"{BASE}/topics", method="POST", body={"name": "no"})
        assert (answer.status, answer.json()["error"]["code"]) == (403, "READ_ONLY")
        assert get(address, "/about")["may_change"] is False
        assert ask(address, f"{BASE}/about", host="evil.example").status == 421
