"""`raftlog topic`, `group` and `log` against a real broker and its files."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from raftlog.testing.processes import BrokerProcess, broker_process
from tests.cli.conftest import Run


def test_the_life_of_a_topic(raftlog: Run, name: str) -> None:
    made = raftlog("topic", "create", name, "-p", "2", "-c", "retention.ms=3600000")
    assert made.stdout == f"created topic {name}: 2 partitions, 1 replica each\n".encode()
    assert b"exists already" in raftlog("topic", "create", name, code=1).stderr
    assert b"exists already" in raftlog("topic", "create", name, "--if-not-exists").stdout
    assert name in {
        topic["topic"] for topic in json.loads(raftlog("topic", "list", "--format", "json").stdout)
    }
    assert f"{name} ".encode() in raftlog("topic", "list").stdout

    raftlog("produce", name, "-p", "1", input=b"a\nb\n")
    described = json.loads(raftlog("topic", "describe", name, "--format", "json").stdout)
    assert [p["end_offset"] for p in described["partitions"]] == [0, 2]
    assert described["partitions"][0]["bytes"] == 0 < described["partitions"][1]["bytes"]
    assert [p["replicas"] for p in described["partitions"]] == [[1], [1]]
    assert described["settings"]["retention.ms"]["value"] == "3600000"
    shown = raftlog("topic", "describe", name).stdout.decode()
    assert "PARTITION  LEADER  REPLICAS  IN SYNC  FIRST  END  BYTES" in shown
    assert "  retention.ms = 3600000" in shown
    assert "segment.bytes" not in shown
    assert b"segment.bytes = " in raftlog("topic", "describe", name, "--settings").stdout

    altered = raftlog(
        "topic", "alter", name, "-p", "3", "--remove", "retention.ms", "-c", "segment.bytes=1048576"
    )
    assert b"3 partitions" in altered.stdout and b"segment.bytes = 1048576" in altered.stdout
    assert b"cannot be taken away" in raftlog("topic", "alter", name, "-p", "2", code=1).stderr
    wrong = raftlog("topic", "alter", name, "-c", "retentoin.ms=1", code=1).stderr
    assert b"did you mean retention.ms?" in wrong and wrong.count(b"\n") == 1
    assert (
        b"did you mean 'retention.ms'?"
        in raftlog("topic", "alter", name, "--remove", "retension.ms", code=1).stderr
    )

    assert raftlog("topic", "delete", name).stdout == f"deleted topic {name}\n".encode()
    assert b"there is no topic" in raftlog("topic", "describe", name, code=1).stderr
    assert b"there is no topic" in raftlog("topic", "delete", name, code=1).stderr


def test_the_life_of_a_group(raftlog: Run, name: str) -> None:
    raftlog("topic", "create", name, "-p", "1")
    raftlog("produce", name, input=b"a\nb\nc\nd\n")
    raftlog("consume", name, "--group", name, "--from-beginning", "-n", "3")
    assert name in {
        group["group"] for group in json.loads(raftlog("group", "list", "--format", "json").stdout)
    }

    def place() -> tuple[int, int]:
        described = json.loads(raftlog("group", "describe", name, "--format", "json").stdout)
        (row,) = described["offsets"]
        return row["committed"], row["lag"]

    assert place() == (3, 1)
    assert b"COMMITTED" in raftlog("group", "describe", name).stdout
    for to, committed in {
        "earliest": 0,
        "latest": 4,
        "2": 2,
        "2000-01-01": 0,
        "2100-01-01": 4,
        "99": 4,
    }.items():
        raftlog("group", "seek", name, name, "--to", to)
        assert place()[0] == committed, to
    planned = raftlog("group", "seek", name, name, "--to", "1", "--dry-run", "--format", "json")
    assert json.loads(planned.stdout) == [{"topic": name, "partition": 0, "before": 4, "after": 1}]
    assert place()[0] == 4
    raftlog("group", "seek", name, name, "--to", "1")
    assert raftlog("consume", name, "--group", name, "-n", "1").stdout == b"b\n"

    assert raftlog("group", "delete", name).stdout == f"deleted group {name}\n".encode()
    assert b"there is no group" in raftlog("group", "describe", name, code=1).stderr
    assert b"there is no group" in raftlog("group", "delete", name, code=1).stderr


def test_where_a_group_is_for_spark(raftlog: Run, name: str) -> None:
    other = f"{name}-other"
    for topic in (name, other):
        raftlog("topic", "create", topic, "-p", "2")
        raftlog("group", "seek", name, topic, "--to", "earliest", "-p", "1")
    raftlog("produce", name, "-p", "1", input=b"a\nb\n")
    raftlog("group", "seek", name, name, "--to", "latest", "-p", "1")

    def told(*topics: str) -> object:
        options = [word for topic in topics for word in ("--topic", topic)]
        return json.loads(raftlog("group", "describe", name, *options, "--format", "spark").stdout)

    assert told() == {name: {"0": -2, "1": 2}, other: {"0": -2, "1": 0}}
    assert told(name) == {name: {"0": -2, "1": 2}}
    shown = raftlog("group", "describe", name, "--topic", other).stdout.decode()
    assert other in shown and f"\n{name} " not in shown
    assert (
        b"there is no topic"
        in raftlog("group", "describe", name, "--topic", "nowhere", "--format", "spark", code=1).stderr
    )


def test_the_files_of_a_broker_running_and_stopped(raftlog: Run, tmp_path: Path) -> None:
    data = tmp_path / "data"
    with broker_process(data) as broker:
        at = ("-b", broker.bootstrap)
        raftlog("topic", "create", "orders", "-p", "1", "-c", "retention.ms=-1", *at)
        raftlog("produce", "orders", "-k", "-z", "lz4", *at, input=b"alice:one\nbob:two\n")
        raftlog("consume", "orders", "-G", "billing", "--from-beginning", "-n", "1", *at)
        _check_files(raftlog, data)
        wal = raftlog("log", "dump", str(data), "--wal").stdout
        assert b"ENTRY" in wal and b"metadata" in wal
        broker.stop()
        assert b"CHECKPOINT" in raftlog("log", "dump", str(data), "--wal").stdout
        _check_files(raftlog, data)
        _check_damage(raftlog, data, broker)


def _check_files(raftlog: Run, data: Path) -> None:
    assert raftlog("log", "verify", str(data)).stdout.startswith(b"sound: 2 logs")
    listed = raftlog("log", "dump", str(data)).stdout
    assert b"__cluster_metadata-0" in listed and b"orders-0." in listed
    (batch,) = raftlog("log", "dump", str(data), "orders-0", "--format", "json").stdout.splitlines()
    assert json.loads(batch)["codec"] == "lz4" and json.loads(batch)["records"] == 2
    assert b"0..1" in raftlog("log", "dump", str(data), "orders-0").stdout
    records = raftlog("log", "dump", str(data), "orders-0", "--records", "--from", "1").stdout
    assert records.count(b"\n") == 1 and b"key='bob'  value='two'" in records
    known = json.loads(raftlog("log", "metadata", str(data), "--format", "json").stdout)
    assert [topic["topic"] for topic in known["topics"]] == ["orders"]
    assert known["topics"][0]["settings"] == {"retention.ms": "-1"}
    assert known["groups"] == {"billing": [{"topic": "orders", "partition": 0, "offset": 1}]}
    assert b"billing" in raftlog("log", "metadata", str(data)).stdout


def _check_damage(raftlog: Run, data: Path, broker: BrokerProcess) -> None:
    """A flipped byte is found, named, and changes the exit code; a folder that is no broker's is refused."""
    copy = data.with_name("copy")
    shutil.copytree(data, copy)
    (segment,) = copy.glob("orders-0.*/*.log")
    flipped = bytearray(segment.read_bytes())
    flipped[70] ^= 1
    segment.write_bytes(flipped)
    found = raftlog("log", "verify", str(copy), code=1).stdout
    assert b"DAMAGED" in found and segment.name.encode() in found and b"1 problem" in found
    assert not json.loads(raftlog("log", "verify", str(copy), "--format", "json", code=1).stdout)["sound"]
    assert b"there is no meta.toml in it" in raftlog("log", "verify", str(data.parent), code=1).stderr
    missing = raftlog("log", "dump", str(data), "nothing-0", code=1).stderr
    assert b"there is no log 'nothing-0'" in missing and b"orders-0" in missing
    assert not broker.is_running
