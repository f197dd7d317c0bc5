"""Topic names, and commands on the wire."""

from __future__ import annotations

import cbor2
import pytest

from raftlog.errors import InvalidInput
from raftlog.metadata.commands import (
    APPLIED_BYTES_MAX,
    COMMANDS,
    UnknownCommand,
    decode_command,
    encode_command,
)
from raftlog.metadata.features import SetFeature
from raftlog.metadata.names import topic_collision, topic_name_problem
from raftlog.metadata.offsets import DeleteGroup
from raftlog.metadata.topics import CreateTopic
from raftlog.types import BrokerId


@pytest.mark.parametrize("name", ["a", "A.b_c-9", "__consumer_offsets", "...", "x" * 249])
def test_good_names(name: str) -> None:
    assert topic_name_problem(name) is None


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("", "empty"),
        (".", "'.'"),
        ("..", "'..'"),
        ("x" * 250, "249"),
        ("a b", "letters"),
        ("a\n", "letters"),
        ("é", "letters"),
        ("a/b", "letters"),
        ("٣", "letters"),
    ],
)
def test_bad_names_have_a_reason(name: str, words: str) -> None:
    problem = topic_name_problem(name)
    assert problem is not None and words in problem


def test_names_that_metrics_cannot_tell_apart_collide() -> None:
    assert topic_collision("a.b", ["x", "a_b"]) == "a_b"
    assert topic_collision("a.b_c", ["a_b.c"]) == "a_b.c"
    assert topic_collision("a.b", ["a.b", "a-b", "ab"]) is None
    assert topic_collision("ab", ["a.b"]) is None


def test_a_command_is_a_version_a_kind_and_fields_by_name() -> None:
    command = CreateTopic(
        name="t", topic_id=bytes(16), partitions=((BrokerId(1),),), configs={"b": "1", "a": "2"}
    )
    plain = cbor2.loads(encode_command(command))
    assert plain == [
        1,
        "create_topic",
        {"name": "t", "topic_id": bytes(16), "partitions": [[1]], "configs": {"a": "2", "b": "1"}},
    ]
    assert list(plain[2]["configs"]) == ["a", "b"], "equal commands are equal bytes"
    assert decode_command(memoryview(encode_command(command))) == command


def test_every_command_has_a_kind_of_its_own() -> None:
    assert len(COMMANDS) == 35
    assert all(kind == command.kind for kind, command in COMMANDS.items())


def test_a_field_with_a_default_may_be_missing() -> None:
    fields = {"name": "t", "topic_id": bytes(16), "partitions": [[1]]}
    command = decode_command(cbor2.dumps([1, "create_topic", fields]))
    assert isinstance(command, CreateTopic) and command.configs == {}


@pytest.mark.parametrize(
    ("plain", "words"),
    [
        ({}, "[version, kind, fields]"),
        ([1, "delete_group"], "[version, kind, fields]"),
        ([0, "delete_group", {"group": "g"}], "version 0"),
        ([True, "delete_group", {"group": "g"}], "version True"),
        ([1, ["delete_group"], {}], "metadata command \"['delete_group']\""),
        ([1, "alter_broker_config", {}], "not used any more"),
        ([1, "set_feature", {"name": "f", "level": 2**63}], "64 bits"),
        ([1, "commit_offsets", {"commits": [["g", 1, [["t", 0, -(2**63) - 1, 2, ""]]]]}], "64 bits"),
        ([1, "delete_group", {}], "lacks group"),
        ([1, "delete_group", []], "as a map"),
        ([1, "delete_group", {"group": b"g"}], "expected str, got bytes"),
        ([1, "delete_group", {"group": None}], "expected str, got NoneType"),
        ([1, "set_feature", {"name": "f", "level": True}], "expected int, got bool"),
        ([1, "set_feature", {"name": "f", "level": 1.0}], "expected int, got float"),
        ([1, "delete_offsets", {"group": "g", "partitions": [["t"]]}], "pair as an array of 2"),
        ([1, "delete_offsets", {"group": "g", "partitions": {}}], "expected an array"),
        (
            [1, "create_topic", {"name": "t", "topic_id": b"", "partitions": [], "configs": []}],
            "expected a map",
        ),
        ([1, "commit_offsets", {"commits": [["g", 1, [["t", 0, 1, 2]]]]}], "OffsetCommit as an array of 5"),
    ],
)
def test_what_is_not_a_command_is_refused_with_the_reason(plain: object, words: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        decode_command(cbor2.dumps(plain))
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("plain", "words"),
    [
        ([2, "delete_group", {"group": "g"}], "version 2"),
        ([1, "no_such", {}], "unknown metadata command 'no_such'"),
        ([1, "delete_group", {"group": "g", "more": 1}], "no field 'more'"),
    ],
)
def test_what_a_newer_build_may_have_meant_is_told_from_what_is_malformed(plain: object, words: str) -> None:
    with pytest.raises(UnknownCommand) as caught:
        decode_command(cbor2.dumps(plain))
    assert words in str(caught.value)


def test_more_or_less_than_one_item_is_refused() -> None:
    good = encode_command(DeleteGroup(group="g"))
    with pytest.raises(InvalidInput, match="follow"):
        decode_command(good + b"\0")
    with pytest.raises(InvalidInput, match="not CBOR"):
        decode_command(good[:-1])


def test_a_command_has_a_largest_size() -> None:
    with pytest.raises(InvalidInput, match="allowed"):
        decode_command(bytes(APPLIED_BYTES_MAX + 1))
    assert isinstance(decode_command(encode_command(SetFeature(name="x" * 1000, level=1))), SetFeature)
