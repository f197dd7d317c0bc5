"""Where settings come from: files, the environment, options, and which one wins."""

from __future__ import annotations

from pathlib import Path

import pytest

from raftlog.config import BrokerConfig
from raftlog.config.load import (
    FILE_BYTES_MAX,
    load_settings,
    parse_properties,
    parse_toml,
    read_environment,
    read_file,
)
from raftlog.errors import ConfigError


def test_toml_tables_nest_into_dotted_names() -> None:
    text = """
    listeners = ["PLAINTEXT://a:1", "b:2"]
    "num.partitions" = 3
    [log.retention]
    hours = 1
    [auto.create.topics]
    enable = false
    """
    assert parse_toml(text) == {
        "listeners": "PLAINTEXT://a:1,b:2",
        "num.partitions": "3",
        "log.retention.hours": "1",
        "auto.create.topics.enable": "false",
    }


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("x", "not TOML"),
        ('"a.b" = 1\n[a]\nb = 2', "set twice"),
        ("a = 2020-01-01", "a date is not a setting"),
        ("a = [[1]]", "a list is not a setting"),
    ],
)
def test_bad_toml(text: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        parse_toml(text)


def test_properties_are_javas() -> None:
    text = """
    # a comment
    ! another
    a=1
    b : 2
    c 3
    d=x=y
    e=
    f=one,\\
      two
    g = spaces inside
    a=4
    """
    assert parse_properties(text) == {
        "a": "4", "b": "2", "c": "3", "d": "x=y", "e": "", "f": "one,two", "g": "spaces inside",
    }  # fmt: skip


@pytest.mark.parametrize("text", ["word", "=1"])
def test_bad_properties_name_the_line(text: str) -> None:
    with pytest.raises(ConfigError, match="line 2"):
        parse_properties(f"# first\n{text}\n")


def test_the_environment_follows_kafkas_rule() -> None:
    environ = {
        "RAFTLOG_LOG_RETENTION_MS": "1",
        "RAFTLOG_RAFTLOG_DURABILITY": "os",
        "RAFTLOG_A__B___C_D": "2",
        "RAFTLOG_CONFIG": "file",
        "RAFTLOG_COMPILE": "1",
        "RAFTLOG_SERVICE_HOST": "10.0.0.1",
        "RAFTLOG_PORT": "tcp://10.0.0.1:9092",
        "RAFTLOG_PORT_9092_TCP_ADDR": "10.0.0.1",
        "PATH": "/bin",
    }
    assert read_environment(environ) == {"log.retention.ms": "1", "raftlog.durability": "os", "a_b-c.d": "2"}


def test_options_win_over_the_environment_over_the_file(tmp_path: Path) -> None:
    file = tmp_path / "broker.toml"
    file.write_text("[num]\npartitions = 1\n[log.segment]\nbytes = 2048\n[node]\nid = 5\n")
    config = BrokerConfig.load(
        file, {"RAFTLOG_NUM_PARTITIONS": "2", "RAFTLOG_LOG_SEGMENT_BYTES": "4096"}, ["num.partitions = 3"]
    )
    assert (config.int("num.partitions"), config.int("log.segment.bytes"), config.int("node.id")) == (
        3,
        4096,
        5,
    )


def test_a_file_is_read_by_its_name(tmp_path: Path) -> None:
    properties, toml = tmp_path / "server.properties", tmp_path / "server.conf"
    properties.write_text("num.partitions=3\n")
    toml.write_bytes(b"\xef\xbb\xbfnum.partitions = 3\n")
    assert read_file(properties) == read_file(toml) == {"num.partitions": "3"}


def test_what_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"missing\.toml: No such file"):
        load_settings(tmp_path / "missing.toml")
    with pytest.raises(ConfigError, match="directory"):
        load_settings(tmp_path)
    binary, large, bad = tmp_path / "binary", tmp_path / "large", tmp_path / "bad.toml"
    binary.write_bytes(b"\xff\xfe")
    large.write_bytes(b"#" * (FILE_BYTES_MAX + 1))
    bad.write_text("x")
    with pytest.raises(ConfigError, match="UTF-8"):
        load_settings(binary)
    with pytest.raises(ConfigError, match="larger than"):
        load_settings(large)
    with pytest.raises(ConfigError, match=r"bad\.toml: not TOML"):
        load_settings(bad)


@pytest.mark.parametrize("option", ["num.partitions", "=3", ""])
def test_an_option_is_key_equals_value(option: str) -> None:
    with pytest.raises(ConfigError, match="is not key=value"):
        load_settings(overrides=[option])
