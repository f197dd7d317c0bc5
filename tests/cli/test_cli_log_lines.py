"""The broker's log as JSON lines, and levels by logger."""

from __future__ import annotations

import json
import logging
import sys
from pathlib import Path

import pytest

from raftlog.cli.log_lines import JsonLines
from raftlog.config import BrokerConfig
from raftlog.errors import ConfigError
from raftlog.testing.processes import BrokerProcess


def test_a_line_is_one_object_whatever_it_holds() -> None:
    record = logging.LogRecord("raftlog.x", logging.WARNING, "f", 1, "a %s\nb\u2028", ("\ud800",), None)
    line = JsonLines().format(record)
    assert "\n" not in line and line.isascii()
    said = json.loads(line)
    assert (said["level"], said["logger"], said["message"]) == ("WARNING", "raftlog.x", "a \ud800\nb\u2028")
    assert said["at"].endswith("Z")


def test_an_error_of_ours_has_its_traceback() -> None:
    try:
        raise RuntimeError("ours")
    except RuntimeError:
        record = logging.LogRecord("raftlog.x", logging.ERROR, "f", 1, "failed", (), sys.exc_info())
    assert "RuntimeError: ours" in json.loads(JsonLines().format(record))["error"]


def test_a_broker_writes_json_lines_and_says_more_of_what_is_asked_for(tmp_path: Path) -> None:
    options = {"raftlog.log.format": "json", "raftlog.log.levels": "raftlog.cluster:INFO"}
    broker = BrokerProcess(tmp_path / "data", options=options)
    broker.start()
    broker.stop()
    lines = [json.loads(line) for line in broker.log_path.read_text().splitlines()]
    assert any(line["logger"] == "raftlog.cluster" and line["level"] == "INFO" for line in lines)
    told = {line["logger"] for line in lines if line["level"] == "INFO"}
    assert told == {"raftlog.cluster", "raftlog.life"}


@pytest.mark.parametrize("levels", ["raftlog.raft", "raftlog.raft:LOUD", ":INFO"])
def test_a_level_that_is_none_stops_the_start(levels: str) -> None:
    with pytest.raises(ConfigError, match="LOGGER:LEVEL"):
        BrokerConfig.of({"raftlog.log.levels": levels})
