"""The pytest plugin in runs of its own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import tests.conftest
from tests.conftest import PLUGIN

TESTS = """
import os
import pytest

@pytest.mark.parametrize("number", range(4))
def test_topics(raftlog_broker, raftlog_topic, number):
    catalog = raftlog_broker.brokers[0].backend.catalog
    assert raftlog_topic.startswith(f"test_topics-{number}")
    assert raftlog_topic in catalog.topics
    with open("seen", "a") as seen:
        print(os.getpid(), raftlog_broker.port, raftlog_topic, file=seen)
"""


@pytest.fixture
def project(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> pytest.Pytester:
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
    return pytester


def run(project: pytest.Pytester, *arguments: str) -> pytest.RunResult:
    # Nothing but pytest itself, and xdist where it is asked for: the fixtures need no other plugin.
    plugins = ["-p", "no:trio", "-p", "no:hypothesispytest"]
    if PLUGIN in tests.conftest.pytest_plugins:
        plugins += ["-p", PLUGIN]
    return project.runpytest_subprocess(*plugins, *arguments)


def rows(project: pytest.Pytester) -> list[list[str]]:
    return [line.split() for line in (project.path / "seen").read_text().splitlines()]


def test_one_broker_for_all_tests_and_a_topic_for_each(project: pytest.Pytester) -> None:
    project.makepyfile(TESTS)
    run(project).assert_outcomes(passed=4)
    pids, ports, topics = zip(*rows(project), strict=True)
    assert (len(set(pids)), len(set(ports)), len(set(topics))) == (1, 1, 4)


def test_each_worker_of_xdist_has_its_own_broker(project: pytest.Pytester) -> None:
    project.makepyfile(TESTS)
    run(project, "-n", "2").assert_outcomes(passed=4)
    pids, ports, topics = zip(*rows(project), strict=True)
    assert len(set(topics)) == 4
    assert len(set(ports)) == len(set(pids)) == len(set(zip(pids, ports, strict=True)))


def test_settings_are_overridden_and_a_failing_test_shows_the_seed(project: pytest.Pytester) -> None:
    project.makepyfile(
        """
        import pytest

        @pytest.fixture(scope="session")
        def raftlog_settings():
            return {"num.partitions": 5, "raftlog.durability": "os"}

        def test_settings(raftlog_broker):
            raftlog_broker.create_topic("five", partitions=-1)
            assert len(raftlog_broker.brokers[0].backend.catalog.topics["five"].partitions) == 5

        def test_fault(raftlog_cluster):
            raftlog_cluster.faults.kill()
            assert False
        """
    )
    result = run(project, "--raftlog-seed", "42")
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(["raftlog fault (seed=42): kill ?"])


def test_loading_the_plugin_costs_next_to_nothing() -> None:
    code = (
        "import sys, raftlog.testing.pytest_plugin; heavy = {'trio', 'kio', 'cbor2', 'pysyncobj'};"
        "sys.exit(','.join(sorted(heavy & sys.modules.keys() | {m for m in sys.modules if m.startswith("
        "('raftlog.broker', 'raftlog.client', 'raftlog.testing.cluster'))})))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stderr.strip() == ""
