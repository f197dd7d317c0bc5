"""Requests of every version that is served look to handlers like the newest."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import Any

import pytest

import raftlog.protocol.requests
from raftlog.broker.registry import Api, served
from raftlog.protocol.api import ApiKey
from raftlog.protocol.codec import decode_request, decode_request_header, encode_request
from raftlog.protocol.requests import request_reader
from raftlog.protocol.schema import message_class, struct_class

NAMED = re.findall(
    r"from kio\.schema\.(\w+)\.v(\d+)\.request import \(?\s*(\w+)",
    Path(raftlog.protocol.requests.__file__).read_text(),
)
BY_HAND = {ApiKey.PRODUCE}
REBUILT: dict[int, int] = {
    ApiKey.FIND_COORDINATOR: 4,
    ApiKey.LEAVE_GROUP: 3,
    ApiKey.DELETE_TOPICS: 6,
    ApiKey.OFFSET_FETCH: 8,
}
"""The version whose shape older ones are brought into."""


@pytest.mark.parametrize("api", list(served()), ids=lambda api: api.key.name)
def test_handlers_are_written_against_the_newest_version_that_is_served(api: Api) -> None:
    versions = {int(version) for name, version, _ in NAMED if name == api.key.name.lower()}
    assert versions == (set() if api.key in BY_HAND else {api.last})


@pytest.mark.parametrize("api", [api for api in served() if api.key not in BY_HAND], ids=lambda a: a.key.name)
def test_no_version_lacks_a_field_of_the_newest(api: Api) -> None:
    for version in range(api.first, api.last + 1):
        request_reader(api.key, version)
        shape = max(version, REBUILT.get(api.key, version))
        lacks = list(
            lacking(message_class(api.key, shape, "request"), message_class(api.key, api.last, "request"))
        )
        assert lacks == [], version


def lacking(cls: type[Any], newest: type[Any]) -> list[str]:
    """Fields of the newest, its structs included, that an object of the other class would not have."""
    found = [field.name for field in dataclasses.fields(newest) if not hasattr(cls, field.name)]
    has = {field.name: field for field in dataclasses.fields(cls)}
    for field in dataclasses.fields(newest):
        inner = struct_of(field)
        if inner is not None and field.name in has:
            found += lacking(struct_class(has[field.name]), inner)
    return found


def struct_of(field: dataclasses.Field[Any]) -> type[Any] | None:
    try:
        return struct_class(field)
    except AssertionError:
        return None


def test_a_lacking_field_is_found() -> None:
    @dataclasses.dataclass
    class New:
        name: str

    assert lacking(dataclasses.make_dataclass("Old", []), New) == ["name"]


def decoded(api: ApiKey, version: int, **fields: Any) -> Any:
    frame = b"".join(encode_request(api, version, 1, None, fields))[4:]
    return decode_request(frame, decode_request_header(frame))


def test_what_an_older_version_does_not_say_has_its_default() -> None:
    old = decoded(
        ApiKey.FETCH,
        4,
        max_wait=1,
        min_bytes=1,
        max_bytes=1,
        isolation_level=0,
        topics=[
            {"topic": "t", "partitions": [{"partition": 0, "fetch_offset": 0, "partition_max_bytes": 1}]}
        ],
    )
    assert (old.session_id, old.session_epoch, old.topics[0].partitions[0].current_leader_epoch) == (
        0,
        -1,
        -1,
    )
    metadata = decoded(ApiKey.METADATA, 1, topics=None)
    assert metadata.allow_auto_topic_creation is True
    assert metadata.include_topic_authorized_operations is False
    new = decoded(ApiKey.METADATA, 4, topics=None, allow_auto_topic_creation=False)
    assert new.allow_auto_topic_creation is False


@pytest.mark.parametrize("version", [0, 3, 4])
def test_one_coordinator_is_asked_for_as_many_are(version: int) -> None:
    asked = decoded(ApiKey.FIND_COORDINATOR, version, key="g", key_type=0, coordinator_keys=["g"])
    assert (asked.key_type, asked.coordinator_keys) == (0, ("g",))


@pytest.mark.parametrize("version", [0, 2, 3, 5])
def test_one_member_leaves_as_many_do(version: int) -> None:
    leaving = decoded(ApiKey.LEAVE_GROUP, version, group_id="g", member_id="m", members=[{"member_id": "m"}])
    (member,) = leaving.members
    assert (leaving.group_id, member.member_id, member.group_instance_id) == ("g", "m", None)


@pytest.mark.parametrize("version", [1, 5, 6])
def test_topics_are_deleted_by_name_as_by_name_or_id(version: int) -> None:
    fields = {"topic_names": ["t"], "topics": [{"name": "t", "topic_id": None}], "timeout": 5}
    deleting = decoded(ApiKey.DELETE_TOPICS, version, **fields)
    (topic,) = deleting.topics
    assert (topic.name, topic.topic_id, deleting.timeout.total_seconds()) == ("t", None, 0.005)


@pytest.mark.parametrize("version", [1, 2, 7, 8, 9])
@pytest.mark.parametrize("everything", [False, True])
def test_offsets_of_one_group_are_fetched_as_those_of_many(version: int, everything: bool) -> None:
    topics = None if everything and version > 1 else [{"name": "t", "partition_indexes": [3]}]
    fields = {"group_id": "g", "topics": topics, "groups": [{"group_id": "g", "topics": topics}]}
    (group,) = decoded(ApiKey.OFFSET_FETCH, version, **fields).groups
    assert group.group_id == "g"
    if topics is None:
        assert group.topics is None
    else:
        assert [(each.name, each.partition_indexes) for each in group.topics] == [("t", (3,))]
