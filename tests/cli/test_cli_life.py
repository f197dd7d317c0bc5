"""What a broker's log says of its life, without being asked to: the lines that somebody needs at 3 a.m."""

from __future__ import annotations

import os
import re
import signal
import subprocess
from pathlib import Path

import pytest

from raftlog.cli.life_lines import differing
from raftlog.config import BrokerConfig
from raftlog.testing.processes import RAFTLOG, BrokerProcess, ClusterProcesses
from tests.waiting import until


def says(broker: BrokerProcess, pattern: str) -> None:
    until(f"{pattern} in the log", lambda: re.search(pattern, broker.log_tail(100)))


def test_start_and_stop(tmp_path: Path) -> None:
    broker = BrokerProcess(tmp_path / "data", node_id=7, options={"num.partitions": 3})
    broker.start()
    says(broker, r"raftlog \S+ .*starts as broker 7, process \d+, on Python [\d.]+; its data is in \S+data")
    says(broker, r"settings that are not the defaults: .*num\.partitions=3 \(command line\)")
    says(broker, r"data is open after [\d.]+ s: 1 log, .*0\.0 MiB of the write-ahead log")
    says(broker, r"broker 7 \(this one\) leads the metadata in term 1")
    says(broker, rf"serves clients at {broker.bootstrap}")
    broker.kill()
    broker.start()
    says(broker, r"leads the metadata in term 2")
    assert len(re.findall("starts as broker 7", broker.log_tail(100))) == 2
    os.kill(broker.pid, signal.SIGHUP)
    assert broker.wait() == 0
    says(broker, r"SIGHUP: stops; it leads 1 group, .*\n.* stopped, [\d.]+ s after the signal")


def test_a_broker_that_ignores_sighup_goes_on_ignoring_it(tmp_path: Path) -> None:
    broker = BrokerProcess(tmp_path / "data", program=("nohup", *RAFTLOG)).start()
    os.kill(broker.pid, signal.SIGHUP)
    assert broker.stop() == 0
    assert "SIGTERM: stops" in broker.log_tail() and "SIGHUP" not in broker.log_tail()


def test_who_leads_and_who_is_lost(tmp_path: Path) -> None:
    with ClusterProcesses(tmp_path, 3, options={"broker.session.timeout.ms": 2000}).start() as cluster:
        brokers = cluster.brokers
        for broker in brokers.values():
            says(broker, r"leads the metadata in term")
        (led,) = re.findall(r"broker (\d).* leads the metadata", brokers[1].log_tail(100))[-1:]
        lost = next(one for number, one in brokers.items() if number != int(led))
        lost.kill()
        says(brokers[int(led)], rf"broker {lost.node_id} is lost")
        lost.start()
        says(brokers[int(led)], rf"broker {lost.node_id} is there \({lost.bootstrap}\)")


def test_all_that_is_wrong_is_said_with_where_it_was_given(tmp_path: Path) -> None:
    toml = tmp_path / "broker.toml"
    toml.write_text('# ours\n[log.retention]\nhours = "soon"\n\n[num]\npartitions = 0\n')
    environ = {**os.environ, "RAFTLOG_LOG_SEGMENT_BYTEZ": "1"}
    command = [*RAFTLOG, "serve", "--config", str(toml), "--node-id", "x"]
    done = subprocess.run(command, capture_output=True, text=True, env=environ)
    assert done.returncode == 2
    assert "4 settings are wrong" in done.stderr
    for words in (
        f"log.retention.hours = 'soon': it is a whole number ({toml} line 3)",
        f"num.partitions = '0': it must be 1 to 10000 ({toml} line 6)",
        "did you mean log.segment.bytes? (RAFTLOG_LOG_SEGMENT_BYTEZ)",
        "node.id = 'x': it is a whole number (command line)",
    ):
        assert words in done.stderr


def test_a_properties_file_has_lines_too(tmp_path: Path) -> None:
    file = tmp_path / "server.properties"
    file.write_text("! ours\nnum.partitions=3\nlog.retention.hours = \\\n  never\n")
    with pytest.raises(Exception, match=rf"'never': it is a whole number \({file} line 3\)"):
        BrokerConfig.load(file)


def test_settings_are_told_but_secrets() -> None:
    config = BrokerConfig.of({"num.partitions": "3", "node.id": "4", "log.retention.hours": "168"})
    assert list(differing(config)) == ["num.partitions=3"]
