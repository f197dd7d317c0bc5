"""The bench command without a broker: its options, its loads' settings and its reports."""

from __future__ import annotations

import json
import random
import sys
import zlib
from typing import Any

import pytest
from click.testing import CliRunner

from raftlog.cli.bench import bench_group, report_json, report_lines
from raftlog.cli.bench_figures import Run, spread
from raftlog.cli.bench_load import Load
from raftlog.cli.bench_records import make_keys, make_values

RUNS = [
    Run(records=10, payload_bytes=1000, seconds=seconds, client_cpu_seconds=0.5, errors=errors)
    for seconds, errors in [(1.0, {}), (2.0, {"_MSG_TIMED_OUT": 3, "missing": 0})]
]


@pytest.mark.parametrize("name", ["produce", "consume", "latency"])
def test_every_command_shows_an_example(name: str) -> None:
    result = CliRunner().invoke(bench_group, [name, "--help"])
    assert result.exit_code == 0
    assert f"raftlog bench {name} --" in result.output


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["-X", "linger.ms"], "'linger.ms' is not KEY=VALUE"),
        (["--count", "0"], "--count"),
        (["--acks", "2"], "--acks"),
        (["--compression", "brotli"], "--compression"),
        (["--runs", "0"], "--runs"),
    ],
)
def test_a_bad_option_is_named(arguments: list[str], word: str) -> None:
    result = CliRunner().invoke(bench_group, ["produce", *arguments])
    assert result.exit_code == 2
    assert word in result.output


def test_without_the_extra_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "confluent_kafka", None)
    result = CliRunner().invoke(bench_group, ["consume"])
    assert result.exit_code == 1
    assert "pip install 'raftlog[bench]'" in result.output


@pytest.mark.parametrize("size", [0, 1, 100, 10_000])
@pytest.mark.parametrize("payload", ["random", "text"])
def test_values_have_the_size_asked_for(size: int, payload: str) -> None:
    values = make_values(size, payload, random.Random(1))[:200]
    assert {len(value) for value in values} == {size}


def test_random_values_do_not_compress_and_text_does() -> None:
    for payload, low, high in (("random", 0.99, 1.01), ("text", 0.1, 0.6)):
        data = b"".join(make_values(100, payload, random.Random(1))[:5000])
        assert low < len(zlib.compress(data)) / len(data) < high


def test_keys_are_as_many_as_asked_for() -> None:
    assert make_keys(0, random.Random(1)) == [None]
    assert sorted(make_keys(3, random.Random(1)), key=str) == [b"key-0", b"key-1", b"key-2"]


@pytest.mark.parametrize(("acks", "number"), [("all", -1), ("1", 1), ("0", 0)])
def test_a_property_that_is_given_wins(acks: str, number: int) -> None:
    load = Load(bootstrap="b:1", topic="t", acks=acks)
    assert load.producer_config()["acks"] == number
    load = Load(bootstrap="b:1", topic="t", acks=acks, properties={"acks": "7", "fetch.wait.max.ms": "9"})
    assert load.producer_config()["acks"] == "7"
    assert load.consumer_config()["fetch.wait.max.ms"] == "9"


def test_a_load_ends_by_records_or_by_time() -> None:
    load = Load(bootstrap="b:1", topic="t", count=10, seconds=5.0)
    assert [load.ended(*so_far) for so_far in ((9, 4.9), (10, 0.0), (0, 5.0))] == [False, True, True]
    assert not Load(bootstrap="b:1", topic="t").ended(10**9, 1e9)


def test_the_report_for_people_has_median_spread_and_failures() -> None:
    lines = list(report_lines("produce", Load(bootstrap="b:1", topic="t"), RUNS, spread(RUNS)))
    assert lines[0] == "produce t at b:1: 20 records in 2 runs"
    assert any(line.split() == ["records/s", "8", "5", "to", "10"] for line in lines)
    assert [line for line in lines if "FAILED" in line] == ["  run 2 FAILED: _MSG_TIMED_OUT 3"]


def test_an_interrupted_report_says_so() -> None:
    runs = [Run(records=1, payload_bytes=1, seconds=1.0, client_cpu_seconds=0.0, interrupted=True)]
    assert "1 run, interrupted" in next(
        iter(report_lines("latency", Load(bootstrap="b:1", topic="t"), runs, {}))
    )


def test_the_report_for_programs_is_json_and_whole() -> None:
    load = Load(bootstrap="b:1", topic="t", properties={"a": "b"})
    report: dict[str, Any] = json.loads(json.dumps(report_json("produce", load, RUNS, spread(RUNS))))
    assert report["load"]["properties"] == {"a": "b"}
    assert [run["errors"] for run in report["runs"]] == [{}, {"_MSG_TIMED_OUT": 3}]
    assert report["summary"]["records_per_s"] == {"median": 7.5, "low": 5.0, "high": 10.0}
