"""What is shipped in monitoring/: alerts that promtool tests, and a dashboard that asks for what there is."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from raftlog.http.metrics import FAMILIES

MONITORING = Path(__file__).parents[2] / "monitoring"
ASKED = re.compile(r"raftlog_[a-z_]+")


def promtool(*arguments: str) -> None:
    if shutil.which("promtool") is None:
        if os.environ.get("RAFTLOG_TEST_REQUIRE") == "all":
            pytest.fail("promtool is not installed")
        pytest.skip("promtool is not installed: it comes with Debian's prometheus")
    done = subprocess.run(
        ["promtool", *arguments], cwd=MONITORING, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_each_alert_fires_on_what_it_is_for_and_none_on_a_cluster_that_is_well() -> None:
    promtool("check", "rules", "alerts.yml")
    promtool("test", "rules", "alerts_test.yml")


def test_what_compose_gives_to_prometheus_and_grafana_is_there_and_where_they_look() -> None:
    """Grafana itself is not run by any test."""
    promtool("check", "config", "prometheus.yml")
    compose = (MONITORING.parent / "docker-compose.yml").read_text()
    given = dict(re.findall(r'"\./(monitoring/[^:"]+):([^:"]+):ro"', compose))
    assert len(given) == 4
    assert [source for source in given if not (MONITORING.parent / source).exists()] == []
    provider = (MONITORING / "grafana" / "dashboards" / "raftlog.yml").read_text()
    folder = re.search(r"path: ([^}\s]+)", provider)
    assert folder is not None
    assert given["monitoring/dashboard.json"].startswith(f"{folder[1]}/")
    source = (MONITORING / "grafana" / "datasources" / "prometheus.yml").read_text()
    assert 'url: "http://prometheus:9090"' in source and "\n  prometheus:\n" in compose


def known() -> set[str]:
    names = {family.name for family in FAMILIES}
    return names | {f"{name}_bucket" for name in names}


@pytest.mark.parametrize("file", ["alerts.yml", "dashboard.json"])
def test_what_is_asked_for_is_there(file: str) -> None:
    asked = set(ASKED.findall((MONITORING / file).read_text()))
    assert len(asked) > 10
    assert asked - known() == set()


def test_the_guide_explains_each_alert_as_it_is() -> None:
    guide = (MONITORING.parent / "docs" / "guides" / "monitoring.md").read_text()
    expressions = re.findall(r"expr: (.+)", (MONITORING / "alerts.yml").read_text())
    missing = [one for one in expressions if f"`{one}`" not in guide]
    assert missing == []


def test_the_dashboard_has_a_title_and_a_question_for_each_panel() -> None:
    dashboard = json.loads((MONITORING / "dashboard.json").read_text())
    panels = [panel for panel in dashboard["panels"] if panel["type"] != "row"]
    assert len(panels) >= 18
    assert all(panel["title"] and panel["targets"] for panel in panels)
