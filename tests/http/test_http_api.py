"""The JSON API of one broker: what it says of topics, groups, records and clients, and what it changes."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import quote

import pytest

import raftlog
from raftlog.client.bounded import BYTES_MAX
from raftlog.client.metadata import TopicPartition
from raftlog.records.codecs import Codec
from raftlog.records.record import NewRecord, encode_batch
from raftlog.testing.processes import BrokerProcess
from tests.badinput.batches import zstd_bomb
from tests.badinput.requests import produce
from tests.badinput.wire import Raw
from tests.http.raw import CHANGE, Answer, ask, connect

BASE = "/api/v1"


def get(broker: BrokerProcess, path: str) -> Any:
    answer = ask(broker, f"{BASE}{path}")
    assert answer.status == 200, (path, answer)
    return answer.json()


def change(broker: BrokerProcess, method: str, path: str, body: object = None, **rest: Any) -> Answer:
    return ask(broker, f"{BASE}{path}", method=method, body=body, **rest)


def test_the_cluster_and_its_brokers(broker: BrokerProcess) -> None:
    cluster = get(broker, "/cluster")
    assert (cluster["brokers"], cluster["alive"], cluster["problems"]) == (1, 1, [])
    assert cluster["metadata"]["leader"] == 1
    assert int(cluster["metadata"]["commit_index"]) > 0
    (only,) = get(broker, "/brokers")
    assert (only["id"], only["state"], only["is_this"]) == (1, "alive", True)
    assert only["report"]["disk"]["total"] > only["report"]["disk"]["free"] > 0
    assert only["report"]["rss"] > 10_000_000


def test_a_topic_is_made_changed_and_deleted(broker: BrokerProcess) -> None:
    made = {"name": "orders", "partitions": 3, "configs": {"retention.ms": "1000000"}}
    assert change(broker, "POST", "/topics?dry_run=1", made).status == 201
    assert ask(broker, f"{BASE}/topics/orders").status == 404
    assert change(broker, "POST", "/topics", made).status == 201
    again = change(broker, "POST", "/topics", made)
    assert (again.status, again.json()["error"]["code"]) == (409, "TOPIC_ALREADY_EXISTS")
    topic = get(broker, "/topics/orders")
    assert [row["partition"] for row in topic["partitions"]] == [0, 1, 2]
    assert topic["partitions"][0] | {"epoch": 1} == {
        "partition": 0,
        "leader": 1,
        "epoch": 1,
        "replicas": [1],
        "in_sync": [1],
        "preferred": 1,
        "start": "0",
        "end": "0",
        "state": "ok",
    }
    (retention,) = [one for one in topic["configs"] if one["name"] == "retention.ms"]
    assert (retention["value"], retention["source"], retention["default"]) == (
        "1000000",
        "topic",
        "604800000",
    )
    assert change(broker, "PATCH", "/topics/orders/config", {"remove": ["retention.ms"]}).status == 200
    (retention,) = [one for one in get(broker, "/topics/orders")["configs"] if one["name"] == "retention.ms"]
    assert retention["source"] == "default"
    bad = change(broker, "PATCH", "/topics/orders/config", {"set": {"retention.ms": "soon"}})
    assert (bad.status, bad.json()["error"]["code"]) == (400, "INVALID_CONFIG")
    assert change(broker, "POST", "/topics/orders/partitions", {"total": 4}).status == 200
    assert len(get(broker, "/topics/orders")["partitions"]) == 4
    assert change(broker, "DELETE", "/topics/orders", {"confirm": "order"}).status == 400
    assert change(broker, "DELETE", "/topics/orders", {"confirm": "orders"}).status == 204
    assert ask(broker, f"{BASE}/topics/orders").status == 404
    illegal = change(broker, "POST", "/topics", {"name": "<script>"})
    assert (illegal.status, illegal.json()["error"]["code"]) == (400, "INVALID_TOPIC_EXCEPTION")


def test_topics_are_listed_a_page_at_a_time(broker: BrokerProcess) -> None:
    for number in range(5):
        assert change(broker, "POST", "/topics", {"name": f"page-{number}"}).status == 201
    first = get(broker, "/topics?search=PAGE-&limit=2")
    assert ([row["name"] for row in first["items"]], first["total"]) == (["page-0", "page-1"], 5)
    second = get(broker, f"/topics?search=page-&limit=2&after={first['next']}")
    assert [row["name"] for row in second["items"]] == ["page-2", "page-3"]
    last = get(broker, f"/topics?search=page-&limit=2&after={second['next']}")
    assert ([row["name"] for row in last["items"]], last["next"]) == (["page-4"], None)
    down = get(broker, "/topics?search=page-&limit=2&desc=1")
    assert [row["name"] for row in down["items"]] == ["page-4", "page-3"]
    sized = get(broker, "/topics?search=page-&sort=records&limit=3")
    assert (len(sized["items"]), sized["total"], sized["next"]) == (3, 5, "3")
    for bad in ("limit=0", "limit=1001", "limit=x", "limit=%F0%9F%98%80", "sort=size", "desc=2", "zzz=1"):
        assert ask(broker, f"{BASE}/topics?{bad}").status == 400, bad


def test_records_are_written_read_and_looked_through(broker: BrokerProcess) -> None:
    change(broker, "POST", "/topics", {"name": "seen", "partitions": 1})
    number = f'{{"n": {2**63 - 1}}}'
    for value in (number, "<script>alert(1)</script>", "\u202eabc\0"):
        record = {"key": {"as": "utf8", "text": "k"}, "value": {"as": "utf8", "text": value}}
        assert change(broker, "POST", "/topics/seen/records", record).status == 200
    raw = {"value": {"as": "hex", "text": "ff00fe"}, "headers": [["h", {"as": "utf8", "text": "v"}]]}
    written = change(broker, "POST", "/topics/seen/records", raw).json()
    assert (written["partition"], written["offset"]) == (0, "3")
    found = get(broker, "/topics/seen/records?from=oldest")
    assert [row["offset"] for row in found["records"]] == ["0", "1", "2", "3"]
    assert found["stopped"] == "end"
    assert found["next"] == {"0": "4"}
    first, script, odd, binary = found["records"]
    assert first["value"] == {"size": 26, "as": "utf8", "text": number, "cut": False}
    assert script["value"]["text"] == "<script>alert(1)</script>"
    assert odd["value"]["text"] == "\u202eabc\0"
    assert binary["key"] is None
    assert binary["value"] == {"size": 3, "as": "hex", "text": "ff00fe", "cut": False}
    assert binary["headers"] == [["h", {"size": 1, "as": "utf8", "text": "v", "cut": False}]]
    newest = get(broker, "/topics/seen/records?limit=2")
    assert {row["offset"] for row in newest["records"]} == {"2", "3"}
    held = get(broker, "/topics/seen/records?from=oldest&contains=script&in=value")
    assert [row["offset"] for row in held["records"]] == ["1"]
    assert held["scanned"]["records"] == 4
    at = get(broker, "/topics/seen/records?from=offset:2&partition=0")
    assert [row["offset"] for row in at["records"]] == ["2", "3"]
    one = get(broker, "/topics/seen/records/0/3")
    assert one["value"]["text"] == "ff00fe"
    value = ask(broker, f"{BASE}/topics/seen/records/0/3/value")
    assert (value.body, value.headers["content-type"]) == (b"\xff\x00\xfe", "application/octet-stream")
    assert value.headers["content-disposition"].startswith("attachment")
    assert ask(broker, f"{BASE}/topics/seen/records/0/9").status == 404
    assert ask(broker, f"{BASE}/topics/seen/records/7/0").status == 404
    assert ask(broker, f"{BASE}/topics/seen/records/%C2%B2/0").status == 404, "a digit that is no number"
    for bad in ("from=later", "from=offset:x", "partition=4", "partition=-1", "limit=501", "in=body"):
        assert ask(broker, f"{BASE}/topics/seen/records?{bad}").status == 400, bad


def test_10_a_large_value_is_listed_by_its_beginning(broker: BrokerProcess) -> None:
    change(broker, "POST", "/topics", {"name": "large"})
    text = "ä" * 5000
    change(broker, "POST", "/topics/large/records", {"value": {"as": "utf8", "text": text}})
    (row,) = get(broker, "/topics/large/records")["records"]
    assert row["value"] == {"size": 10_000, "as": "utf8", "text": "ä" * 1024, "cut": True}
    assert get(broker, "/topics/large/records/0/0")["value"]["text"] == text


async def test_11_records_of_many_headers_end_a_read_and_are_shown_by_the_first(
    broker: BrokerProcess,
) -> None:
    """Compressed they are next to nothing, and each becomes a row of JSON."""
    change(broker, "POST", "/topics", {"name": "headed"})
    async with (
        raftlog.open_client(broker.bootstrap) as client,
        client.producer(compression_type="zstd") as producer,
    ):
        for _ in range(80):
            await producer.send_soon("headed", b"", headers=[("h", b"")] * 2000)
        await producer.flush()
    answer = ask(broker, f"{BASE}/topics/headed/records?from=oldest&limit=500")
    found = answer.json()
    assert found["stopped"] in ("bytes", "time") and 0 < len(found["records"]) < 80
    assert (len(found["records"][0]["headers"]), found["records"][0]["header_count"]) == (100, 2000)
    assert len(answer.body) < 1 << 20


def test_11_a_batch_that_unpacks_to_a_gigabyte_ends_its_request_and_costs_no_memory(
    broker: BrokerProcess,
) -> None:
    change(broker, "POST", "/topics", {"name": "bombed"})
    host, _, port = broker.bootstrap.rpartition(":")
    with Raw((host, int(port))) as raw:
        assert produce(raw, "bombed", zstd_bomb(1000, count=1)).error == 0
    before = broker.memory_bytes()
    for path in ("records?from=oldest", "records/0/0", "records?contains=x"):
        answer = ask(broker, f"{BASE}/topics/bombed/{path}")
        assert (answer.status, answer.json()["error"]["code"]) == (503, "CORRUPT_MESSAGE"), path
    assert broker.memory_bytes() - before < 64 << 20
    assert ask(broker, "/livez").status == 200


def test_a_batch_that_unpacks_to_very_much_is_refused_and_costs_little(broker: BrokerProcess) -> None:
    """A few kilobytes on the wire; it was unpacked on the broker's loop, whatever came out."""
    change(broker, "POST", "/topics", {"name": "packed", "partitions": 2})
    record = NewRecord(timestamp=1, key=None, value=bytes(BYTES_MAX), headers=())
    host, _, port = broker.bootstrap.rpartition(":")
    with Raw((host, int(port))) as raw:
        assert produce(raw, "packed", bytes(encode_batch([record], codec=Codec.ZSTD))).error == 0
        small = [record._replace(value=b"x" * 1000)] * 1000
        packed = bytes(encode_batch(small, codec=Codec.ZSTD))
        assert produce(raw, "packed", packed, partition=1).error == 0
    answer = ask(broker, f"{BASE}/topics/packed/records?from=oldest&partition=0")
    assert (answer.status, answer.json()["error"]["code"]) == (503, "CORRUPT_MESSAGE")
    assert f"more than {BYTES_MAX} bytes" in answer.json()["error"]["message"]
    found = get(broker, "/topics/packed/records?from=oldest&partition=1&limit=500")
    assert len(found["records"]) == 500 and found["stopped"] == "limit"


async def test_27_a_group_is_described_reset_and_deleted(broker: BrokerProcess) -> None:
    change(broker, "POST", "/topics", {"name": "read", "partitions": 2})
    for number in range(10):
        body = {"value": {"as": "utf8", "text": str(number)}, "partition": number % 2}
        change(broker, "POST", "/topics/read/records", body)
    group = "a/b?c#d%2f"
    quoted = "a%2Fb%3Fc%23d%252f"
    async with (
        raftlog.open_client(broker.bootstrap, client_id="reader-of-27") as client,
        client.consumer("read", group=group, auto_offset_reset="earliest") as consumer,
    ):
        ahead = {TopicPartition("read", number): 1 + number for number in (0, 1)}
        await client.admin.alter_group_offsets("ahead", ahead)
        await consumer.poll(4, max_wait_ms=10_000)
        await consumer.commit()
        busy = change(broker, "POST", f"/groups/offsets?id={quoted}", {"to": "earliest"})
        assert (busy.status, busy.json()["error"]["code"]) == (409, "NON_EMPTY_GROUP")
        assert "its members must be stopped first: reader-of-27" in busy.error
        detail = get(broker, f"/groups/detail?id={quoted}")
        assert (detail["state"], len(detail["members"])) == ("Stable", 1)
        assert sum(int(row["lag"] or 0) for row in detail["offsets"]) <= 10
    (row,) = get(broker, f"/groups?search={quoted}")["items"]
    assert (row["id"], row["topics"]) == (group, ["read"])
    for to, places in {
        "earliest": ["0", "0"],
        "latest": ["5", "5"],
        "offset:3": ["3", "3"],
        "shift:-1": ["2", "2"],
        "time:0": ["0", "0"],
        "offset:99": ["5", "5"],
        "group:ahead": ["1", "2"],
    }.items():
        dry = change(
            broker,
            "POST",
            f"/groups/offsets?id={quoted}",
            {"to": to, "topics": {"read": [0, 1]}, "dry_run": True},
        )
        assert [row["after"] for row in dry.json()["rows"]] == places, to
        done = change(broker, "POST", f"/groups/offsets?id={quoted}", {"to": to, "topics": {"read": [0, 1]}})
        assert [row["after"] for row in done.json()["rows"]] == places, to
        detail = get(broker, f"/groups/detail?id={quoted}")
        assert [row["committed"] for row in detail["offsets"]] == places, to
    assert change(broker, "DELETE", f"/groups?id={quoted}").status == 204
    assert ask(broker, f"{BASE}/groups/detail?id={quoted}").status == 404
    assert ask(broker, f"{BASE}/groups/detail").status == 400


@pytest.mark.parametrize(
    ("group", "status"),
    [
        pytest.param("a/b?c#d%2f", 200, id="of an address's characters"),
        pytest.param("\u202e<b>\0", 200, id="of what nobody sees"),
        pytest.param("", 200, id="empty"),
        pytest.param("g" * 4000, 200, id="long"),
        pytest.param("g" * 32_000, 431, id="longer than a head may be"),
    ],
)
async def test_28_a_group_of_any_name_is_listed_opened_and_deleted_or_refused_with_the_reason(
    broker: BrokerProcess, group: str, status: int
) -> None:
    change(broker, "POST", "/topics", {"name": "named", "partitions": 1})
    at = f"id={quote(group, safe='')}"
    async with raftlog.open_client(broker.bootstrap) as client:
        await client.admin.alter_group_offsets(group, {TopicPartition("named", 0): 0})
        assert group in [row["id"] for row in get(broker, "/groups?limit=1000")["items"]]
        detail = ask(broker, f"{BASE}/groups/detail?{at}")
        deleted = change(broker, "DELETE", f"/groups?{at}")
        if status == 200:
            assert (detail.status, deleted.status) == (200, 204), (detail, deleted)
            assert [row["committed"] for row in detail.json()["offsets"]] == ["0"]
        else:
            assert (detail.status, deleted.status) == (status, status)
            assert "a head has at most" in detail.error
            await client.admin.delete_group(group)
    assert group not in [row["id"] for row in get(broker, "/groups?limit=1000")["items"]]


async def test_clients_and_apis_are_told(broker: BrokerProcess) -> None:
    async with raftlog.open_client(broker.bootstrap, client_id="told") as client:
        await client.admin.list_groups()  # asks the broker itself, not whoever answers first
        rows = get(broker, "/connections")["items"]
    (row,) = [row for row in rows if row["client_id"] == "told"]
    assert row["requests"] >= 1
    assert row["host"] == "127.0.0.1"
    apis = {row["api"]: row for row in get(broker, "/apis")}
    assert apis["METADATA"]["requests"] >= 1
    assert apis["METADATA"]["versions"] == [0, 13]
    assert apis["DELETE_ACLS"]["requests"] == 0


def test_raft_of_the_metadata_is_told_by_its_only_broker(broker: BrokerProcess) -> None:
    group = get(broker, "/raft/__cluster_metadata/0")
    view = group["said_by"]["1"]
    assert (group["voters"], view["role"], view["leader"]) == ([1], "leader", 1)
    assert int(view["commit_index"]) == int(view["last_index"]) > 0
    assert view["recent"][-1] == [int(view["last_index"]), view["term"]]
    names = [row["group"] for row in get(broker, "/raft")["items"]]
    assert names[0] == "__cluster_metadata-0"
    assert ask(broker, f"{BASE}/raft/nothing/0").status == 404
    assert ask(broker, f"{BASE}/raft/__cluster_metadata/1").status == 404
    (won, *_) = [e for e in get(broker, "/events/recent?limit=1000") if e["kind"] == "leader"]
    assert won["why"] == "it is the only voter"


def test_events_are_streamed_and_a_hole_is_filled(broker: BrokerProcess) -> None:
    with connect(broker) as sock:
        sock.sendall(b"GET /api/v1/events HTTP/1.1\r\nHost: localhost\r\n\r\n")
        data = b""
        while data.count(b"event: rates") < 2:
            data += sock.recv(65536)
    assert b"Content-Type: text/event-stream" in data
    assert data.index(b"event: hello") < data.index(b"event: rates")
    assert b"event: raft" in data


def test_the_history_has_a_point_for_each_second(broker: BrokerProcess) -> None:
    history = get(broker, "/metrics/history?names=records_in,requests&minutes=1")
    assert set(history) == {"at", "records_in", "requests"}
    assert len(history["at"]) == len(history["requests"])
    assert ask(broker, f"{BASE}/metrics/history?names=cpu").status == 400


def test_a_series_that_is_asked_for_again_and_again_is_told_once(broker: BrokerProcess) -> None:
    """A request of 1 KB was answered with megabytes, in which an object had a name 200 times."""
    answer = ask(broker, f"{BASE}/metrics/history?names={','.join(['term'] * 200)}")
    assert answer.status == 200 and answer.body.count(b'"term":') == 1


@pytest.mark.parametrize(
    "headers",
    [
        {"Content-Type": "text/plain"},
        {"Content-Type": "application/x-www-form-urlencoded"},
        {"X-Raftlog-CSRF": ""},
        {"Sec-Fetch-Site": "cross-site"},
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
    ],
)
def test_18_what_a_page_of_another_origin_can_send_changes_nothing(
    broker: BrokerProcess, headers: dict[str, str]
) -> None:
    made = change(broker, "POST", "/topics", {"name": "forged"}, headers=headers)
    assert made.status == 403
    assert ask(broker, f"{BASE}/topics/forged").status == 404


def test_a_page_of_the_broker_itself_may(broker: BrokerProcess) -> None:
    headers = {"Sec-Fetch-Site": "same-origin", "Origin": "http://localhost:1", "Host": "localhost:1"}
    assert change(broker, "POST", "/topics", {"name": "honest"}, headers=headers).status == 201


@pytest.mark.parametrize("body", [b"[]", b"{", b"1", b'"x"', b"\xff", b"[" * 100_000])
def test_a_body_that_is_no_object_is_refused(broker: BrokerProcess, body: bytes) -> None:
    head = f"POST {BASE}/topics HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n"
    head += "".join(f"{name}: {value}\r\n" for name, value in CHANGE.items())
    with connect(broker) as sock:
        sock.sendall(head.encode() + b"\r\n" + body)
        data = sock.recv(65536)
    assert data.startswith(b"HTTP/1.1 400"), data
    assert json.loads(data.partition(b"\r\n\r\n")[2])["error"]["code"] == "BAD_REQUEST"
