"""What Postgres says of changes: messages by hand, and what a connector makes of them."""

from __future__ import annotations

import json
import struct

import pytest

from raftlog.connect.errors import ConnectError, PositionLost
from raftlog.connect.pgoutput import EPOCH_MS, Begin, Change, Commit, Decoder, Truncate
from raftlog.connect.postgres_cdc import Follower, Place, PostgresChangesConfig, lsn_of, lsn_text
from raftlog.errors import ConfigError

INT, TEXT, BOOL, NUMERIC, JSONB = 23, 25, 16, 1700, 3802


def begin(lsn: int) -> bytes:
    return b"B" + struct.pack(">QqI", lsn, 5_000_000, 77)


def commit(lsn: int) -> bytes:
    return b"C" + struct.pack(">BQQq", 0, lsn, lsn + 8, 5_000_000)


def table(*columns: tuple[str, int, bool], identity: bytes = b"d") -> bytes:
    said = b"R" + struct.pack(">I", 1) + b"public\0things\0" + identity + struct.pack(">H", len(columns))
    for name, kind, is_key in columns:
        said += bytes([is_key]) + name.encode() + b"\0" + struct.pack(">Ii", kind, -1)
    return said


def row(kind: bytes, *values: str | type | None) -> bytes:
    """`str` stands for a value that did not change."""
    said = kind + struct.pack(">H", len(values))
    for value in values:
        if isinstance(value, str):
            said += b"t" + struct.pack(">I", len(value.encode())) + value.encode()
        else:
            said += b"n" if value is None else b"u"
    return said


def change(kind: bytes, *rows: bytes) -> bytes:
    return kind + struct.pack(">I", 1) + b"".join(rows)


THINGS = table(("id", INT, True), ("text", TEXT, False))


def followed(place: Place, *messages: bytes) -> tuple[Follower, list[tuple[bytes | None, bytes | None]]]:
    follower, decoder = Follower(place, "{schema}.{table}"), Decoder()
    for each in messages:
        follower.take(decoder.decode(each))
    return follower, [(one.key, one.value) for one in follower.records]


def test_messages_are_read() -> None:
    decoder = Decoder()
    assert decoder.decode(begin(8)) == Begin(8, EPOCH_MS + 5_000, 77)
    assert decoder.decode(commit(8)) == Commit(16)
    decoder.decode(THINGS)
    inserted = decoder.decode(change(b"I", row(b"N", "1", None)))
    assert isinstance(inserted, Change)
    assert (inserted.op, inserted.old, inserted.new) == ("c", None, {"id": "1", "text": None})
    updated = decoder.decode(change(b"U", row(b"K", "1", None), row(b"N", "2", str)))
    assert isinstance(updated, Change)
    assert (updated.op, updated.old, updated.new) == ("u", {"id": "1", "text": None}, {"id": "2"})
    deleted = decoder.decode(change(b"D", row(b"O", "2", "x")))
    assert isinstance(deleted, Change)
    assert (deleted.op, deleted.old, deleted.new) == ("d", {"id": "2", "text": "x"}, None)
    assert decoder.decode(b"T" + struct.pack(">IBI", 1, 0, 1)) == Truncate(("public.things",))
    assert decoder.decode(b"Yignored") is None


@pytest.mark.parametrize(
    "data",
    [
        b"?",
        b"B123",
        change(b"I", row(b"N", "1", "x"))[:-1],
        change(b"I", row(b"N", "1")),
        change(b"I", row(b"K", "1", None)),
        change(b"D", b""),
        change(b"I").replace(b"\1", b"\2"),
        THINGS[:-6],
        change(b"I", b"N" + struct.pack(">H", 2) + b"x" * 9),
    ],
)
def test_what_is_no_message_is_told(data: bytes) -> None:
    decoder = Decoder()
    decoder.decode(THINGS)
    with pytest.raises(ConnectError, match="is none"):
        decoder.decode(data)


def test_a_row_becomes_json_with_all_its_digits() -> None:
    columns = table(
        ("id", INT, True),
        ("b", BOOL, False),
        ("n", NUMERIC, False),
        ("j", JSONB, False),
        ('"t"', TEXT, False),
    )
    number = "12345678901234567890.123456789"
    _, [(key, value)] = followed(
        Place(0), columns, begin(8), change(b"I", row(b"N", "1", "t", number, '{"a": [1, 2]}', "é\n"))
    )
    assert key == b"1"
    assert value is not None and number.encode() in value
    assert json.loads(value) == {"id": 1, "b": True, "n": float(number), "j": {"a": [1, 2]}, '"t"': "é\n"}
    for odd in ("NaN", "Infinity", "-Infinity"):
        _, [(_, value)] = followed(
            Place(0), columns, begin(8), change(b"I", row(b"N", "1", "f", odd, "1", ""))
        )
        assert json.loads(value or b"") == {"id": 1, "b": False, "n": odd, "j": 1, '"t"': ""}


def test_changes_become_records_of_a_compacted_topic() -> None:
    follower, records = followed(
        Place(0),
        begin(8),
        THINGS,
        change(b"I", row(b"N", "1", "x")),
        change(b"U", row(b"N", "1", "y")),
        change(b"U", row(b"K", "1", None), row(b"N", "2", str)),
        change(b"D", row(b"K", "2", None)),
        commit(8),
    )
    assert records == [
        (b"1", b'{"id":1,"text":"x"}'),
        (b"1", b'{"id":1,"text":"y"}'),
        (b"1", None),
        (b"2", b'{"id":2}'),
        (b"2", None),
    ]
    headers = [dict(one.headers) for one in follower.records]
    assert [one["postgres.op"] for one in headers] == [b"c", b"u", b"u", b"u", b"d"]
    assert headers[3]["postgres.unchanged"] == b"text"
    assert {one["postgres.lsn"] for one in headers} == {b"0/8"}
    assert {one.timestamp for one in follower.records} == {EPOCH_MS + 5_000}
    assert {one.topic for one in follower.records} == {"public.things"}


def test_where_old_rows_have_all_columns_the_key_is_the_primary_key() -> None:
    follower = Follower(Place(0), "t", {1: ["id"]})
    decoder = Decoder()
    full = table(("id", INT, True), ("text", TEXT, True), identity=b"f")
    for each in (
        begin(8),
        full,
        change(b"U", row(b"O", "1", "long"), row(b"N", "1", str)),
        change(b"D", row(b"O", "1", "long")),
    ):
        follower.take(decoder.decode(each))
    assert [(one.key, one.value) for one in follower.records] == [
        (b"1", b'{"id":1,"text":"long"}'),
        (b"1", None),
    ]


def test_where_all_columns_are_the_key_a_value_that_did_not_change_is_in_it() -> None:
    """A table without a primary key: the row that is deleted later has the key that the update gave it."""
    full = table(("id", INT, True), ("text", TEXT, True), ("n", INT, True), identity=b"f")
    _, records = followed(
        Place(0),
        begin(8),
        full,
        change(b"I", row(b"N", "1", "long", "1")),
        change(b"U", row(b"O", "1", "long", "1"), row(b"N", "1", str, "2")),
        change(b"D", row(b"O", "1", "long", "2")),
    )
    first, second = (f'{{"id":1,"text":"long","n":{n}}}'.encode() for n in (1, 2))
    assert records == [(first, first), (first, None), (second, second), (second, None)]


def test_a_long_key_that_did_not_change_is_the_old_rows() -> None:
    """Postgres sends a long key with the old row alone, whose other columns it leaves empty."""
    follower, records = followed(
        Place(0),
        begin(8),
        table(("name", TEXT, True), ("text", TEXT, False), ("n", INT, False)),
        change(b"U", row(b"K", "long", None, None), row(b"N", str, str, "2")),
        change(b"D", row(b"K", "long", None, None)),
    )
    assert records == [(b"long", b'{"name":"long","n":2}'), (b"long", None)]
    assert dict(follower.records[0].headers)["postgres.unchanged"] == b"text"


def test_keys_of_several_columns_and_of_none() -> None:
    two = table(("a", INT, True), ("b", TEXT, True))
    assert followed(Place(0), two, begin(8), change(b"I", row(b"N", "1", "x")))[1][0][0] == b'{"a":1,"b":"x"}'
    none = table(("a", INT, False), identity=b"n")
    assert followed(Place(0), none, begin(8), change(b"I", row(b"N", "1")))[1] == [(None, b'{"a":1}')]


def test_every_place_is_where_it_goes_on() -> None:
    """Of three transactions each change is read once, wherever a batch ended."""
    messages = [THINGS]
    for number, lsn in enumerate((8, 100, 200)):
        messages += [
            begin(lsn),
            *(change(b"I", row(b"N", f"{number}{n}", "x")) for n in range(3)),
            commit(lsn),
        ]
    _, whole = followed(Place(0), *messages)
    for cut in range(len(messages) + 1):
        follower, first = followed(Place(0), *messages[:cut])
        place = Place.read(json.loads(json.dumps(follower.batch().position)))
        assert first + followed(place, *messages)[1] == whole, (cut, place)


def test_places_are_as_postgres_writes_them() -> None:
    assert lsn_text(lsn_of("16/B374D848")) == "16/B374D848"
    assert Place(lsn_of("0/10"), lsn_of("0/20"), 3).position() == {"lsn": "0/10", "within": "0/20", "done": 3}
    for other in ({}, {"lsn": 5}, {"lsn": "x"}, {"lsn": "0/1", "within": "y"}, {"lsn": "0/1", "done": "1"}):
        with pytest.raises(PositionLost, match="another's"):
            Place.read(other)


@pytest.mark.parametrize("given", [{"slot": "Big"}, {"slot": "s", "topic": "{x}"}, {"slot": "s" * 64}])
def test_what_cannot_be_is_refused(given: dict[str, str]) -> None:
    with pytest.raises(ConfigError):
        PostgresChangesConfig(dsn="", **given)
