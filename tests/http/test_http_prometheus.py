"""A real Prometheus scrapes a real cluster, and is asked what dashboards ask (scenario 6)."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.parse import urlencode
from urllib.request import urlopen

import pytest

import raftlog
from raftlog.testing.processes import ClusterProcesses, free_port, http_address
from tests.waiting import until

pytestmark = pytest.mark.slow

DASHBOARD = Path(__file__).parents[2] / "monitoring" / "dashboard.json"
EVENTS = ("Leaderships ended, by reason",)
"""Panels of what need not happen: a reason has a series from the first time on."""

DASHBOARD_7589 = {
    "messages in per second": 'sum(rate(kafka_topic_partition_current_offset{instance=~"$instance",'
    ' topic=~"$topic"}[1m])) by (topic)',
    "lag by consumer group": 'sum(kafka_consumergroup_lag{instance=~"$instance", topic=~"$topic"})'
    " by (consumergroup, topic)",
    "messages in per minute": 'sum(delta(kafka_topic_partition_current_offset{instance=~"$instance",'
    ' topic=~"$topic"}[5m])/5) by (topic)',
    "messages consumed per minute": 'sum(delta(kafka_consumergroup_current_offset{instance=~"$instance",'
    ' topic=~"$topic"}[5m])/5) by (consumergroup, topic)',
    "partitions per topic": 'sum by(topic) (kafka_topic_partitions{instance=~"$instance", topic=~"$topic"})',
    "the list of jobs": "kafka_consumergroup_current_offset",
}
"""What Grafana's dashboard 7589 of kafka_exporter asks for, as far as is known here."""

CONFIG = """\
global: {{scrape_interval: 1s}}
scrape_configs:
  - job_name: raftlog
    static_configs: [{{targets: [{brokers}]}}]
  - job_name: kafka
    metrics_path: /metrics/kafka
    static_configs: [{{targets: [{first}]}}]
"""


@contextmanager
def prometheus(folder: Path, addresses: list[str]) -> Iterator[str]:
    """The address of one that scrapes these brokers."""
    path = shutil.which("prometheus")
    if path is None:
        if os.environ.get("RAFTLOG_TEST_REQUIRE") == "all":
            pytest.fail("prometheus is not installed")
        pytest.skip("prometheus is not installed: apt-get install prometheus")
    folder.mkdir()
    config, port = folder / "prometheus.yml", free_port()
    config.write_text(CONFIG.format(brokers=", ".join(addresses), first=addresses[0]))
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [
                path,
                f"--config.file={config}",
                f"--storage.tsdb.path={folder / 'data'}",
                f"--web.listen-address=127.0.0.1:{port}",
            ],
            stdout=log,
            stderr=log,
        )
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        process.kill()
        process.wait()


def asked(address: str, expression: str) -> list[Any]:
    """What it answers; nothing while it starts."""
    for name in ("job", "instance", "topic"):
        expression = expression.replace(f"${name}", ".*")
    try:
        with urlopen(f"{address}/api/v1/query?{urlencode({'query': expression})}") as answer:
            found = json.load(answer)
    except URLError as error:
        assert getattr(error, "code", 503) == 503, (expression, error)
        return []
    assert found["status"] == "success", (expression, found)
    return [row for row in found["data"]["result"] if row["value"][1] != "NaN"]


async def use(cluster: ClusterProcesses) -> None:
    """Something of everything that a dashboard shows."""
    async with raftlog.open_client(cluster.bootstrap) as client:
        await client.admin.create_topic("shown", partitions=2, exist_ok=True)
        async with (
            client.producer() as producer,
            client.consumer("shown", group="watchers", auto_offset_reset="earliest") as consumer,
        ):
            for number in range(20):
                await producer.send("shown", b"x" * 100, partition=number % 2)
            while not await consumer.poll(100, max_wait_ms=500):
                pass
            await consumer.commit()


async def test_6_every_panel_of_our_dashboard_and_of_7589_has_data(tmp_path: Path) -> None:
    dashboard = json.loads(DASHBOARD.read_text())
    panels = {
        f"{panel['title']}: {target['expr']}": target["expr"]
        for panel in dashboard["panels"]
        for target in panel.get("targets", ())
        if panel["title"] not in EVENTS
    }
    with ClusterProcesses(tmp_path / "cluster", http=True) as cluster:
        cluster.start()
        addresses = [http_address(broker) for broker in cluster.brokers.values()]
        with prometheus(tmp_path / "prometheus", addresses) as address:
            until("all targets are up", lambda: len(asked(address, "up == 1")) == len(addresses) + 1)
            empty = {**panels, **DASHBOARD_7589}
            for _ in range(10):  # a rate is of two scrapes with something between
                await use(cluster)
                empty = {name: one for name, one in empty.items() if not asked(address, one)}
                if not empty:
                    break
            until("every panel has data", lambda: not [e for e in empty.values() if not asked(address, e)])
