"""`raftlog produce` and `raftlog consume` against a real broker."""

from __future__ import annotations

import json
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from raftlog.testing.processes import BrokerProcess
from tests.cli.conftest import Run

Start = Callable[..., subprocess.Popen[bytes]]

LINES = b"".join(b"line %d\n" % number for number in range(5000))


def test_lines_go_in_and_come_out(raftlog: Run, name: str) -> None:
    assert b"created topic" in raftlog("topic", "create", name, "-p", "1").stdout
    assert raftlog("produce", name, input=LINES).stderr == b"5,000 records acknowledged\n"
    result = raftlog("consume", name, "--from-beginning", "--exit-at-end")
    assert result.stdout == LINES
    assert result.stderr == b""


@pytest.mark.parametrize("codec", ["gzip", "snappy", "lz4", "zstd"])
def test_every_codec(raftlog: Run, name: str, codec: str) -> None:
    raftlog("produce", name, "-z", codec, input=LINES)
    assert raftlog("consume", name, "-o", "beginning", "-e").stdout == LINES


def test_awkward_lines_come_out_as_they_went_in(raftlog: Run, name: str) -> None:
    text = b"\n  \n\xff\x00\r\n" + "ü→\n".encode() + b"x" * 900_000 + b"\nno end"
    raftlog("produce", name, input=text)
    assert raftlog("consume", name, "-o", "beginning", "-e").stdout == text + b"\n"


def test_keys_headers_and_nulls(raftlog: Run, name: str) -> None:
    lines = b"alice:one\nno key\n:empty key\nbob:\nx:y:z\n"
    raftlog("produce", name, "-k", "-H", "source=import", "-H", "flag", input=lines)
    template = "%o|%k|%K|%s|%S|%h\\n"
    assert raftlog("consume", name, "-o", "beginning", "-e", "-f", template).stdout.splitlines() == [
        b"0|alice|5|one|3|source=import,flag=NULL",
        b"1||-1|no key|6|source=import,flag=NULL",
        b"2||0|empty key|9|source=import,flag=NULL",
        b"3|bob|3||0|source=import,flag=NULL",
        b"4|x|1|y:z|3|source=import,flag=NULL",
    ]
    raftlog("produce", name, "-K", "->", "-Z", input=b"k->\n")
    (record,) = raftlog("consume", name, "-o", "-1", "-e", "-J").stdout.splitlines()
    assert (json.loads(record)["key"], json.loads(record)["payload"]) == ("k", None)
    assert raftlog("consume", name, "-o", "-1", "-e", "-K", "=", "-Z").stdout == b"k=NULL\n"
    raftlog("produce", name, "-K", r"\t", input=b"a\tb\n")
    assert raftlog("consume", name, "-o", "-1", "-e", "-K", r"\x3a\t").stdout == b"a:\tb\n"


def test_places_to_start(raftlog: Run, name: str) -> None:
    raftlog("produce", name, input=b"a\nb\n")
    time.sleep(0.05)  # records before and after a moment
    moment = int(time.time() * 1000)
    raftlog("produce", name, input=b"c\nd\n")
    for place, expected in {
        "beginning": b"a\nb\nc\nd\n",
        "end": b"",
        "3": b"d\n",
        "-2": b"c\nd\n",
        "-100": b"a\nb\nc\nd\n",
        f"s@{moment}": b"c\nd\n",
        "s@2100-01-01": b"",
    }.items():
        assert raftlog("consume", name, "-o", place, "-e").stdout == expected, place
    assert raftlog("consume", name, "-o", f"e@{moment}", "-o", "1").stdout == b"b\n"
    assert raftlog("consume", name, "-o", "beginning", "-o", "e@2100-01-01").stdout == b"a\nb\nc\nd\n"
    assert b"for reading without --group" in raftlog("consume", name, "-G", "g", "-o", "e@1", code=2).stderr
    beyond = raftlog("consume", name, "-o", "99", "-e")
    assert beyond.stdout == b"" and b"holds offsets 0 to 4: starting at 4 instead of 99" in beyond.stderr


def test_one_partition_of_several(raftlog: Run, name: str) -> None:
    raftlog("topic", "create", name, "-p", "3")
    for partition in range(3):
        raftlog("produce", name, "-p", str(partition), input=b"%d\n" % partition)
    assert raftlog("consume", name, "-p", "1", "-o", "beginning", "-e").stdout == b"1\n"
    everything = raftlog("consume", name, "-o", "beginning", "-e", "-f", "%p%s ").stdout
    assert sorted(everything.split()) == [b"00", b"11", b"22"]
    assert b"has 3 partitions: the last one is 2" in raftlog("produce", name, "-p", "3", code=1).stderr
    assert b"has no partition 3: the last one is 2" in raftlog("consume", name, "-p", "3", code=1).stderr


def test_a_group_goes_on_where_it_was_to_the_record(raftlog: Run, name: str) -> None:
    raftlog("produce", name, input=b"a\nb\nc\nd\n")
    first = raftlog("consume", name, "--group", name, "--from-beginning", "-n", "1")
    second = raftlog("consume", name, "--group", name, "-n", "2")
    rest = raftlog("consume", name, "--group", name, "-e")
    assert (first.stdout, second.stdout, rest.stdout) == (b"a\n", b"b\nc\n", b"d\n")


def test_records_that_come_later_are_printed_when_they_come(raftlog: Run, start: Start, name: str) -> None:
    raftlog("topic", "create", name)
    consumer = start("consume", name, "--from-beginning", "-n", "2")
    assert consumer.stdout is not None
    raftlog("produce", name, input=b"first\n")
    assert consumer.stdout.readline() == b"first\n"
    raftlog("produce", name, input=b"second\n")
    assert consumer.stdout.read() == b"second\n"
    assert consumer.wait(10) == 0


def test_a_reader_that_leaves_ends_the_consumer_quietly(raftlog: Run, start: Start, name: str) -> None:
    raftlog("produce", name, input=LINES)
    consumer = start("consume", name, "--from-beginning")
    assert consumer.stdout is not None and consumer.stderr is not None
    assert consumer.stdout.readline() == b"line 0\n"
    consumer.stdout.close()
    assert consumer.wait(5) == 0
    assert consumer.stderr.read() == b""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize(
    "arguments", [("--from-beginning",), ("--from-beginning", "--group", "g")], ids=["alone", "in a group"]
)
def test_a_signal_ends_the_consumer_within_a_second(
    raftlog: Run, start: Start, name: str, arguments: tuple[str, ...], number: signal.Signals
) -> None:
    raftlog("produce", name, input=b"x\n")
    begun = time.monotonic()
    process = start("consume", name, *arguments)
    assert process.stdout is not None
    assert process.stdout.readline() == b"x\n"
    assert _end(process, number, begun) == b""


def test_an_interrupted_producer_says_what_was_acknowledged(raftlog: Run, start: Start, name: str) -> None:
    raftlog("topic", "create", name)
    begun = time.monotonic()
    process = start("produce", name)
    assert process.stdin is not None
    process.stdin.write(b"x\ny\n")
    process.stdin.flush()
    while raftlog("consume", name, "--from-beginning", "-e").stdout != b"x\ny\n":
        time.sleep(0.01)
    assert _end(process, signal.SIGINT, begun) == b"2 records acknowledged\n"


def _end(process: subprocess.Popen[bytes], number: signal.Signals, begun: float) -> bytes:
    """Send a signal; the process must be gone within a second and what its start took, which is half a second
    on a quiet machine, with the right code. Gives what it wrote to stderr."""
    sent = time.monotonic()
    process.send_signal(number)
    _, errors = process.communicate(timeout=30)
    assert time.monotonic() - sent < 1 + (sent - begun)
    assert process.returncode == 128 + number
    return errors


def test_a_member_that_is_interrupted_leaves_its_group(raftlog: Run, start: Start, name: str) -> None:
    raftlog("produce", name, input=b"a\n")
    consumer = start("consume", name, "--group", name, "--from-beginning")
    assert consumer.stdout is not None
    assert consumer.stdout.readline() == b"a\n"
    described = json.loads(raftlog("group", "describe", name, "--format", "json").stdout)
    assert len(described["members"]) == 1
    consumer.send_signal(signal.SIGINT)
    assert consumer.wait(10) == 130
    described = json.loads(raftlog("group", "describe", name, "--format", "json").stdout)
    assert (described["state"], described["members"]) == ("Empty", [])


def test_a_topic_that_does_not_exist(raftlog: Run, name: str) -> None:
    raftlog("topic", "create", name)
    near = raftlog("consume", f"{name}x", "-e", code=1).stderr
    assert near == f"raftlog: there is no topic '{name}x'; did you mean '{name}'?\n".encode()
    made = raftlog("produce", f"{name}-new", input=b"x\n").stderr
    assert made.splitlines()[0].endswith(b"the broker is asked to create it")
    assert b"names are made of up to 249" in raftlog("produce", "bad/name", input=b"x\n", code=1).stderr


def test_a_record_that_is_too_large_is_named(raftlog: Run, name: str) -> None:
    result = raftlog("produce", name, input=b"small\n" + b"x" * 2_000_000 + b"\n", code=1)
    assert b"(line 2)" in result.stderr
    assert b"max_request_size" in result.stderr
    assert b"1 record acknowledged\n" in result.stderr
    assert b"Traceback" not in result.stderr


def test_acks_0_asks_for_nothing(raftlog: Run, name: str) -> None:
    raftlog("topic", "create", name)
    assert b"1 record handed over" in raftlog("produce", name, "--acks", "0", input=b"x\n").stderr
    assert raftlog("consume", name, "--from-beginning", "-n", "1").stdout == b"x\n"


def test_settings_come_from_a_properties_file(
    raftlog: Run, name: str, tmp_path: Path, broker: BrokerProcess
) -> None:
    good, bad = tmp_path / "client.properties", tmp_path / "bad.properties"
    good.write_text(f"bootstrap.servers={broker.bootstrap}\nclient.id=tester\n")
    bad.write_text("bootstrap.server=localhost:9092\n")
    raftlog("topic", "create", name, "--config", str(good))
    said = raftlog("topic", "list", "--config", str(bad), code=1).stderr
    assert b"unknown key 'bootstrap.server'; did you mean 'bootstrap.servers'?" in said
