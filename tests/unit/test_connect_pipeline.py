"""Pipeline files: what is good becomes what a worker runs, what is not is told with its place and a cure."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import threading
import tomllib
from pathlib import Path
from typing import Any

import pytest

from raftlog.client.record import Record
from raftlog.connect import Source, SourceRecord, load, parse, postgres, s3, web
from raftlog.connect.contract import Unit
from raftlog.connect.deadletters import headers
from raftlog.connect.errors import ConnectError, Refused
from raftlog.connect.options import describe
from raftlog.connect.pipeline import SinkSettings, SourceSettings
from raftlog.connect.plugins import BUILT_IN, find, installed
from raftlog.connect.positions import Positions
from raftlog.connect.transforms import NOT_PARSED, apply, make
from raftlog.errors import ConfigError

SINK = {"class": "sqlite-sink", "topics": ["a"], "path": "w.db"}
SOURCE = {"class": "file-source", "paths": ["a.log"], "topic": "a"}


def one(given: dict[str, Any]) -> Any:
    return parse({"connector": {"it": given}}, "p.toml")[0]


def test_a_file_becomes_connectors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    secret = tmp_path / "secret"
    secret.write_text("w.db\n")
    monkeypatch.setenv("TOPIC", "payments")
    path = tmp_path / "p.toml"
    path.write_text(f"""
[connector.in]
class = "file-source"
paths = ["a.log", "${{env:TOPIC}}/b.log"]
topic = "${{env:TOPIC}}"
[[connector.in.transform]]
type = "key"
field = "id"
[connector.out]
class = "sqlite-sink"
topics = "payments, alerts"
path = "${{file:{secret}}}"
batch_records = "7"
errors = {{ dlq = "dead", retry_s = 5 }}
""")
    source, sink = load(str(path))
    assert source.is_source and source.config.topic == "payments"
    assert source.config.paths == ("a.log", "payments/b.log")
    assert source.settings == SourceSettings()
    assert len(source.transforms) == 1
    assert sink.settings == SinkSettings(topics=("payments", "alerts"), batch_records=7)
    assert (sink.config.path, sink.errors.dlq, sink.errors.retry_s) == ("w.db", "dead", 5.0)
    assert sink.errors.leaves_out


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({}, "has no connector"),
        ({"connectors": {}}, "did you mean 'connector'"),
        ({"connector": {"a b": SINK}}, "a name has up to 80"),
        ({"connector": {"it": {}}}, "raftlog connect plugins"),
        ({"connector": {"it": SINK | {"class": "sqlite"}}}, "did you mean 'sqlite-sink'"),
        ({"connector": {"it": SINK | {"pth": "x"}}}, "no option 'pth'; did you mean 'path'"),
        ({"connector": {"it": {"class": "sqlite-sink", "topics": ["a"]}}}, "it needs path: The file"),
        ({"connector": {"it": {"class": "sqlite-sink", "path": "x"}}}, "it needs topics"),
        ({"connector": {"it": SINK | {"topics": []}}}, "topics is empty"),
        ({"connector": {"it": SINK | {"batch_records": 0}}}, "batch_records = 0: it must be at least 1"),
        ({"connector": {"it": SINK | {"batch_records": "x"}}}, "it must be a whole number"),
        ({"connector": {"it": SINK | {"place": "yes"}}}, "place = 'yes': it must be true or false"),
        ({"connector": {"it": SINK | {"new_fields": "drop"}}}, "one of 'add', 'ignore', 'refuse'"),
        ({"connector": {"it": SINK | {"path": "${env:NOWHERE}"}}}, "the environment has no NOWHERE"),
        ({"connector": {"it": SINK | {"path": "${file:/nowhere}"}}}, "/nowhere cannot be read"),
        ({"connector": {"it": SINK | {"errors": {"dlq": "d", "tolerance": "none"}}}}, "dlq needs tolerance"),
        ({"connector": {"it": SINK | {"transform": {"type": "key"}}}}, r"\[\[connector.it.transform\]\]"),
        ({"connector": {"it": SINK | {"transform": [{"type": "key"}]}}}, "transform 1 needs field"),
        ({"connector": {"it": SINK | {"transform": [{"type": "keys"}]}}}, "no module:function"),
        ({"connector": {"it": SINK | {"transform": [{"type": "no.where:f"}]}}}, "cannot be loaded"),
        ({"connector": {"it": SOURCE | {"paths": []}}}, "paths is empty"),
        ({"connector": {"it": SOURCE | {"guarantee": "twice"}}}, "exactly_once"),
    ],
)
def test_what_is_wrong_is_told(given: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        parse(given, "p.toml")


def test_a_secret_in_what_never_ends_is_told_and_waits_for_nobody(tmp_path: Path) -> None:
    """A named pipe without a writer would hold up all that the worker does."""
    os.mkfifo(tmp_path / "pipe")
    told: list[str] = []

    def read() -> None:
        try:
            one(SINK | {"path": f"${{file:{tmp_path / 'pipe'}}}"})
        except ConfigError as error:
            told.append(str(error))

    reading = threading.Thread(target=read, daemon=True)
    reading.start()
    reading.join(20)
    assert told and "no regular file" in told[0]


PASSWORD = "pa/ss:w@rd-0123"
SECRETS: list[dict[str, Any]] = [
    SINK | {"batch_records": "${env:S}"},
    SINK | {"new_fields": "${env:S}"},
    SINK | {"table": "sqlite_${env:S}"},
    {"class": "stdout", "topics": ["a"], "format": "{${env:S}}"},
    {"class": "postgres-cdc", "dsn": "x", "topic": "t", "slot": "${env:S}"},
    {"class": "postgres-cdc", "dsn": "x", "topic": "{${env:S}}", "slot": "s"},
    {"class": "postgres-sink", "dsn": "x", "topics": ["a"], "table": "${env:S}" * 6},
    {"class": "http-sink", "url": "https://h/", "topics": ["a"], "retry_on": ["${env:S}"]},
    SINK | {"transform": [{"type": "parse", "pattern": "(${env:S}"}]},
    SINK | {"errors": {"dlq": "x", "tolerance": "${env:S}"}},
]


@pytest.mark.parametrize("given", SECRETS, ids=lambda given: given["class"])
def test_a_mistake_shows_nothing_of_what_was_filled_in(
    given: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever tells it: the option's type, or what the connector itself looks at, also cut or in parts."""
    monkeypatch.setenv("S", PASSWORD)
    with pytest.raises(ConfigError) as failed:
        one(given)
    shown = str(failed.value)
    assert not [part for n in range(len(PASSWORD) - 3) if (part := PASSWORD[n : n + 4]) in shown], shown


def test_a_mistake_shows_what_was_not_filled_in(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("S", "elsewhere")
    with pytest.raises(ConfigError, match=r"no table of records can be called 'sqlite_x'"):
        one(SINK | {"path": "${env:S}", "table": "sqlite_x"})


@pytest.mark.parametrize(("text", "said"), [("x", "is no TOML"), (None, "cannot be read")])
def test_a_file_that_is_none(text: str | None, said: str, tmp_path: Path) -> None:
    path = tmp_path / "p.toml"
    if text is not None:
        path.write_text(text)
    with pytest.raises(ConfigError, match=said):
        load(str(path))


def test_what_extras_bring_is_imported_by_who_uses_it() -> None:
    """To list the connectors takes none of it, nor the time that it takes."""
    code = (
        "import sys; from raftlog.connect.plugins import installed; found, broken = installed();"
        "assert not broken and 's3-sink' in found, broken;"
        "print({'obstore', 'httpx2', 'psycopg', 'boto3'} & sys.modules.keys())"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "set()\n"


@pytest.mark.parametrize(
    ("module", "extra"), [("obstore", "s3"), ("httpx2", "http"), ("psycopg", "postgres")]
)
def test_an_extra_that_is_missing_is_named(module: str, extra: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    library = {"obstore": s3.library, "httpx2": web.library, "psycopg": postgres.driver}[module]
    with pytest.raises(ConnectError, match=rf"pip install 'raftlog\[{extra}\]'"):
        library()


def test_the_pipelines_of_the_guide_are_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    page = (Path(__file__).parents[2] / "docs" / "guides" / "connect.md").read_text()
    for name in re.findall(r"\$\{env:(\w+)\}", page):
        monkeypatch.setenv(name, "x")
    blocks = [each for each in re.findall(r"```text\n(.*?)```", page, re.DOTALL) if "\nclass = " in each]
    kinds = [spec.kind for each in blocks for spec in parse(tomllib.loads(each), "connect.md")]
    assert set(kinds) >= {"s3-sink", "http-sink", "http-source", "postgres-sink", "postgres-cdc"}


@pytest.mark.parametrize("name", BUILT_IN)
def test_every_connector_says_what_its_options_mean(name: str) -> None:
    connector = find(name)
    options = describe(connector.Config)
    assert all(option.doc for option in options)
    shared = SourceSettings if issubclass(connector, Source) else SinkSettings
    taken = {*shared.__dataclass_fields__, "class", "errors", "transform"}
    assert not taken & {option.name for option in options}


def test_connectors_of_other_packages_are_found_by_their_entry_points(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "theirs.py").write_text("from raftlog.connect.stdout import Stdout\nNOT = 1\n")
    info = tmp_path / "theirs-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: theirs\nVersion: 1\n")
    entries = info / "entry_points.txt"
    (tmp_path / "broken_theirs.py").write_text("raise RuntimeError('it does not load')\n")
    entries.write_text(
        "[raftlog.connectors]\ntheir-sink = theirs:Stdout\nnot-one = theirs:NOT\ngone = x:Y\n"
        "broken = broken_theirs:Y\nodd = nothing\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    try:
        assert find("their-sink").__name__ == "Stdout"
        for name, said in (
            ("not-one", "is no raftlog.connect.Source or Sink"),
            ("gone", "cannot be loaded"),
            ("broken", "RuntimeError: it does not load"),
            ("odd", "cannot be loaded"),
        ):
            with pytest.raises(ConfigError, match=said):
                find(name)
        kinds, broken = installed()
        assert set(kinds) == {*BUILT_IN, "their-sink"}
        assert set(broken) == {"not-one", "gone", "broken", "odd"}
        entries.write_text("[raftlog.connectors]\nstdout = theirs:Stdout\n")
        with pytest.raises(ConfigError, match="two connectors are called 'stdout'"):
            find("stdout")
        assert find("generator").__name__ == "Generator"
        kinds, broken = installed()
        assert set(kinds) == BUILT_IN.keys() - {"stdout"} and set(broken) == {"stdout"}
    finally:
        sys.modules.pop("theirs", None)


def _record(value: bytes | None) -> Record:
    return Record("t", 0, 7, 1, None, value, ())


@pytest.mark.parametrize(
    "record", [_record(b'{"id": 5, "name": "x"}'), SourceRecord("t", b'{"id": 5, "name": "x"}')]
)
def test_a_key_is_taken_from_a_field(record: Any) -> None:
    assert [each.key for each in apply(make([{"type": "key", "field": "id"}], "p"), record)] == [b"5"]
    assert [each.key for each in apply(make([{"type": "key", "field": "name"}], "p"), record)] == [b"x"]


@pytest.mark.parametrize("value", [None, b"", b"[]", b"{", b"{}"])
def test_a_value_without_the_field_is_refused(value: bytes | None) -> None:
    with pytest.raises(Refused, match="'id'"):
        apply(make([{"type": "key", "field": "id"}], "p"), _record(value))


def test_a_text_is_parsed_by_a_pattern() -> None:
    pattern = r"(?P<at>\S+) (?P<level>[A-Z]+) (?P<text>.*)"
    parse = make([{"type": "parse", "pattern": pattern, "on_error": "keep"}], "p")
    (made,) = apply(parse, _record(b"12:00 WARN it is\nlate"))
    assert made.value == b'{"at": "12:00", "level": "WARN", "text": "it is\\nlate"}'
    (kept,) = apply(parse, _record(b"what"))
    assert (kept.value, kept.headers) == (b"what", ((NOT_PARSED, b""),))
    assert (
        apply(make([{"type": "parse", "pattern": pattern, "on_error": "drop"}], "p"), _record(b"what")) == []
    )
    with pytest.raises(Refused, match="does not match"):
        apply(make([{"type": "parse", "pattern": pattern}], "p"), _record(b"what"))


def test_a_function_gives_one_record_or_several_or_none_and_what_it_raises_is_the_records_fault() -> None:
    def by_value(record: Record) -> Any:
        value = record.value or b""
        return {b"none": None, b"one": record, b"two": [record, record]}[value]

    for value, count in ((b"none", 0), (b"one", 1), (b"two", 2)):
        assert len(apply([by_value], _record(value))) == count
    assert len(apply([by_value, by_value], _record(b"two"))) == 4
    with pytest.raises(Refused, match="KeyError"):
        apply([by_value], _record(b"three"))


def _fails_late(record: Record) -> Any:
    yield record
    raise KeyError("late")


@pytest.mark.parametrize(
    ("transform", "said"),
    [
        (_fails_late, "KeyError"),
        (lambda _: 7, "TypeError"),
        (lambda _: b"xy", "gave int"),
        (lambda _: ["x"], "gave str"),
    ],
)
def test_what_a_transform_gives_is_looked_at_as_well(transform: Any, said: str) -> None:
    with pytest.raises(Refused, match=said):
        apply([transform], _record(b"1"))


def test_a_name_that_is_no_utf_8_is_a_units_all_the_same() -> None:
    """Files on disk have such names."""
    unit = Unit.of(filename=os.fsdecode(b"/var/log/caf\xe9.log"))
    key, _ = Positions(None, "p", "it").record(unit, {"position": 1})  # type: ignore[arg-type]
    assert Unit.of(**json.loads(key)[1]) == unit
    told = headers("it", "TRANSFORMATION", Refused("\ud800"), {"unit": "\udce9"})
    assert dict(told)["__connect.errors.exception.message"] == rb"\ud800"
