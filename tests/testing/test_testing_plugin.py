"""The pytest plugin in runs of its own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

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
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    return pytester


def run(project: pytest.Pytester, *arguments: str) -> pytest.RunResult:
    # No other plugin, but for xdist where it is asked for: the fixtures need none.
    return project.runpytest_subprocess("-p", PLUGIN, *arguments)


def rows(project: pytest.Pytester) -> list[list[str]]:
    return [line.split() for line in (project.path / "seen").read_text().splitlines()]


def test_one_broker_for_all_tests_and_a_topic_for_each(project: pytest.Pytester) -> None:
    project.makepyfile(TESTS)
    run(project).assert_outcomes(passed=4)
    pids, ports, topics = zip(*rows(project), strict=True)
    assert (len(set(pids)), len(set(ports)), len(set(topics))) == (1, 1, 4)


def test_each_worker_of_xdist_has_its_own_broker(project: pytest.Pytester) -> None:
    project.makepyfile(TESTS)
    run(project, "-p", "xdist", "-n", "2").assert_outcomes(passed=4)
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


def test_settings_of_a_folder_do_not_leak_and_any_scope_has_its_own(project: pytest.Pytester) -> None:
    asks = (
        "def test_{0}(raftlog_broker, per_session, own):\n"
        "    assert raftlog_broker.brokers[0].backend.config.int('num.partitions') == {1}\n"
        "    assert per_session == raftlog_broker.bootstrap\n"
        "    assert own.brokers[0].backend.config.int('num.partitions') == 9\n"
        "    open('seen', 'a').write(f'{{raftlog_broker.port}} {{own.port}}\\n')\n"
    )
    settings = (
        "import pytest\n"
        "@pytest.fixture(scope='session')\n"
        "def raftlog_settings(): return {{'num.partitions': {0}}}\n"
    )
    project.makeconftest(
        settings.format(2) + "@pytest.fixture(scope='session')\n"
        "def per_session(raftlog_broker): return raftlog_broker.bootstrap\n"
        "@pytest.fixture(scope='module')\n"
        "def own(raftlog_brokers): return raftlog_brokers(num_partitions=9)\n"
    )
    below = project.mkpydir("below")
    (below / "conftest.py").write_text(settings.format(3))
    (below / "test_below.py").write_text(asks.format("below", 3))
    project.makepyfile(
        test_a=asks.format("a", 2),
        test_z=asks.format("z", 2)
        + "import pytest\n"
        + "@pytest.mark.raftlog(num_partitions=3)\n"
        + asks.format("marked", 3)
        + asks.format("after", 2),
    )
    run(project).assert_outcomes(passed=5)
    ports, own = zip(*rows(project), strict=True)
    assert len(set(ports)) == 2, "one broker for each set of settings"
    assert len(set(own)) == 1


def test_a_cluster_has_as_many_brokers_as_its_mark_says(project: pytest.Pytester) -> None:
    project.makepyfile(
        """
        import pytest

        @pytest.mark.raftlog(nodes=2, num_partitions=4)
        def test_two(raftlog_cluster):
            assert len(raftlog_cluster.brokers) == 2
            assert raftlog_cluster.brokers[0].backend.config.int("num.partitions") == 4
        """
    )
    run(project).assert_outcomes(passed=1)


@pytest.mark.parametrize(
    ("mark", "words"),
    [
        ("num_partition=3", "did you mean num.partitions"),
        ("num_partitions=0", "it must be 1 to 10000"),
        ("nodes=0", "it must be 1 to 9"),
        ("3", "takes settings by name"),
    ],
)
def test_a_wrong_mark_is_refused_before_any_test(project: pytest.Pytester, mark: str, words: str) -> None:
    project.makepyfile(
        f"""
        import pytest

        def test_first():
            print("a test ran")

        @pytest.mark.raftlog({mark})
        def test_marked(raftlog_broker):
            pass
        """
    )
    result = run(project, "-s")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    said = result.stdout.str() + result.stderr.str()
    assert words in said and "test_marked" in said and "a test ran" not in said


SHOWS = """
import logging

import pytest
import trio

import raftlog


@pytest.mark.raftlog(nodes=2)
def test_fails(raftlog_cluster):
    raftlog_cluster.create_topic("orders", partitions=2)

    async def main():
        async with raftlog_cluster.client() as client:
            async with client.producer() as producer:
                for _ in range(3):
                    await producer.send("orders", b"v", partition=1)
            async with client.consumer(
                "orders", group="billing", auto_offset_reset="earliest", enable_auto_commit=False
            ) as consumer:
                await anext(consumer)
                await consumer.commit()
                logging.getLogger("raftlog.test").warning("of no broker")
                raftlog_cluster.faults.pause(2)
                raftlog_cluster.faults.resume(2)
                ENDS

    trio.run(main)
"""


def test_a_failed_test_shows_its_cluster_and_ends_without_noise(project: pytest.Pytester) -> None:
    project.makepyfile(SHOWS.replace("ENDS", "assert False, 'ours'"))
    result = run(project)
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        [
            "*--- raftlog ---*",
            "broker 1 (127.0.0.1:*): runs",
            "broker 2 (127.0.0.1:*): runs",
            "topic orders ends at 0: 0, 1: 3",
            "group billing: *",
            "  orders-1 committed at 1, lag 2",
            "faults so far: pause 2; resume 2",
            "broker 1 has logged last:",
            "  * INFO raftlog.cluster: leads orders-? in term *",
        ]
    )
    said = result.stdout.str()
    assert "Captured log teardown" not in said and "Captured stderr teardown" not in said
    captured, _, kept = said.partition("--- raftlog ---")
    assert "of no broker" not in kept and "of no broker" in captured
    assert "INFO" not in captured, "the project's own log is as it was"


def test_a_test_that_hangs_shows_its_cluster_when_it_is_interrupted(project: pytest.Pytester) -> None:
    project.makepyfile(SHOWS.replace("ENDS", "import os, signal; os.kill(os.getpid(), signal.SIGINT)"))
    result = run(project)
    assert result.ret == pytest.ExitCode.INTERRUPTED
    result.stdout.fnmatch_lines(
        ["*raftlog, when test_fails was interrupted*", "topic orders ends at 0: 0, 1: 3"]
    )


def test_a_test_that_passes_shows_nothing(project: pytest.Pytester) -> None:
    project.makepyfile("def test_passes(raftlog_cluster): raftlog_cluster.faults.kill()")
    result = run(project, "-rA")
    result.assert_outcomes(passed=1)
    assert "ends at" not in result.stdout.str() and "Captured log teardown" not in result.stdout.str()


def test_loading_the_plugin_costs_next_to_nothing() -> None:
    code = (
        "import sys, raftlog.testing.pytest_plugin; heavy = {'trio', 'kio', 'cbor2', 'pysyncobj'};"
        "sys.exit(','.join(sorted(heavy & sys.modules.keys() | {m for m in sys.modules if m.startswith("
        "('raftlog.broker', 'raftlog.client', 'raftlog.testing.cluster'))})))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stderr.strip() == ""
