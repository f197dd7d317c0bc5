"""How records are printed: kcat's templates and JSON."""

from __future__ import annotations

import json

import pytest

from raftlog.cli.template import BadTemplate, as_json, compile_template, keyed, unescape
from raftlog.client.record import Record

RECORD = Record("orders", 2, 17, 1_700_000_000_123, b"alice", b"one apple", (("a", b"1"), ("b", None)))
NULLS = Record("orders", 0, 0, -1, None, None, ())


@pytest.mark.parametrize(
    ("template", "text"),
    [
        ("%s", b"one apple"),
        ("%s\\n", b"one apple\n"),
        ("%k\\t%s\\n", b"alice\tone apple\n"),
        ("%t %p:%o @%T", b"orders 2:17 @1700000000123"),
        ("%K %S", b"5 9"),
        ("%R", b"\0\0\0\x09"),
        ("%h", b"a=1,b=NULL"),
        ("100%% %s", b"100% one apple"),
        ("\\x41\\101\\\\\\r\\0", b"AA\\\r\0"),
        ("", b""),
        ("ü%s", "üone apple".encode()),
    ],
)
def test_templates_mean_what_kcat_means(template: str, text: bytes) -> None:
    assert compile_template(template)(RECORD) == text


def test_nulls_are_nothing_or_what_is_asked_for() -> None:
    assert compile_template("%k|%s|%K|%S")(NULLS) == b"||-1|-1"
    assert compile_template("%k|%s", null=b"NULL")(NULLS) == b"NULL|NULL"
    assert keyed(b": ")(NULLS) == b": \n"
    assert keyed(b": ", null=b"NULL")(NULLS) == b"NULL: NULL\n"


@pytest.mark.parametrize("template", ["%x", "%", "\\q", "end\\"])
def test_a_template_without_a_meaning_is_refused(template: str) -> None:
    with pytest.raises(BadTemplate):
        compile_template(template)


def test_json_is_kcats_envelope() -> None:
    assert json.loads(as_json(RECORD)) == {
        "topic": "orders",
        "partition": 2,
        "offset": 17,
        "ts": 1_700_000_000_123,
        "headers": ["a", "1", "b", None],
        "key": "alice",
        "payload": "one apple",
    }
    assert as_json(RECORD).endswith(b"\n")


def test_json_tells_null_empty_and_binary_apart() -> None:
    binary = NULLS._replace(key=b"", value=b"\xff\x00")
    assert json.loads(as_json(binary))["key"] == ""
    assert json.loads(as_json(binary))["payload_base64"] == "/wA="
    assert "payload" not in json.loads(as_json(binary))
    assert json.loads(as_json(NULLS))["payload"] is None


def test_a_delimiter_has_the_same_escapes() -> None:
    assert unescape("\\t") == b"\t"
    assert unescape("%s\\x1f:%") == b"%s\x1f:%"
    with pytest.raises(BadTemplate):
        unescape("\\q")
