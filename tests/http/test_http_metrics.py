"""/metrics: what Prometheus reads is what happened, and what promtool likes."""

from __future__ import annotations

import gzip
import os
import shutil
import subprocess

import pytest
from prometheus_client.parser import text_string_to_metric_families

import raftlog
from raftlog.http.metrics import FAMILIES
from raftlog.testing.processes import BrokerProcess
from tests.http.raw import ask

Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


def scrape(broker: BrokerProcess) -> Samples:
    text = ask(broker, "/metrics").body.decode()
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def value(samples: Samples, name: str, **labels: str) -> float:
    return samples[name, frozenset(labels.items())]


def promtool() -> str:
    found = shutil.which("promtool")
    if found is None:
        if os.environ.get("RAFTLOG_TEST_REQUIRE") == "all":
            pytest.fail("promtool is missing: it is in Debian's package `prometheus`")
        pytest.skip("promtool is missing: it is in Debian's package `prometheus`")
    return found


async def test_what_was_produced_and_consumed_is_counted(broker: BrokerProcess) -> None:
    async with raftlog.open_client(broker.bootstrap) as client:
        await client.admin.create_topic("counted", partitions=2)
        async with client.producer() as producer:
            for number in range(10):
                await producer.send("counted", b"x" * 100, partition=number % 2)
        async with client.consumer("counted", auto_offset_reset="earliest") as consumer:
            seen = 0
            async for _ in consumer:
                seen += 1
                if seen == 10:
                    break
    samples = scrape(broker)
    assert value(samples, "raftlog_records_in_total", topic="counted") == 10
    assert value(samples, "raftlog_bytes_in_total", topic="counted") > 1000
    assert value(samples, "raftlog_bytes_out_total", topic="counted") >= value(
        samples, "raftlog_bytes_in_total", topic="counted"
    )
    for partition in ("0", "1"):
        at = {"topic": "counted", "partition": partition}
        assert value(samples, "raftlog_partition_high_watermark", **at) == 5
        assert value(samples, "raftlog_partition_in_sync", **at) == 1
    produced = value(samples, "raftlog_requests_total", api="PRODUCE")
    assert produced >= 2
    assert value(samples, "raftlog_request_latency_seconds_count", api="PRODUCE") == produced
    assert value(samples, "raftlog_request_latency_seconds_bucket", api="PRODUCE", le="+Inf") == produced
    assert value(samples, "raftlog_request_bytes_total", api="PRODUCE") > 1000
    assert value(samples, "raftlog_ready") == 1
    assert value(samples, "raftlog_raft_groups_led") == value(samples, "raftlog_raft_groups")
    assert value(samples, "raftlog_raft_leaderships_begun_total", reason="alone") >= 3


def test_every_family_is_there_once_with_its_type_and_promtool_is_content(broker: BrokerProcess) -> None:
    text = ask(broker, "/metrics").body
    types = [line.split()[2:] for line in text.decode().splitlines() if line.startswith("# TYPE")]
    assert types == [[family.name, family.kind] for family in FAMILIES]
    checked = subprocess.run([promtool(), "check", "metrics"], input=text, capture_output=True)
    assert (checked.returncode, checked.stdout, checked.stderr) == (0, b"", b"")


def test_who_takes_gzip_gets_it(broker: BrokerProcess) -> None:
    packed = ask(broker, "/metrics", headers={"Accept-Encoding": "gzip"})
    assert packed.headers["content-encoding"] == "gzip"
    assert gzip.decompress(packed.body).startswith(b"# HELP raftlog_build_info ")


def test_names_are_unique_and_counters_are_called_that() -> None:
    assert len({family.name for family in FAMILIES}) == len(FAMILIES)
    for family in FAMILIES:
        assert (family.kind == "counter") == family.name.endswith("_total"), family
        assert family.doc.endswith("."), family
