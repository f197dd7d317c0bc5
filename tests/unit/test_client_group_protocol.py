"""What group members tell each other, both ways, and in the bytes of other clients."""

from __future__ import annotations

import random
import struct
from dataclasses import replace

import pytest

from raftlog.client.errors import Disconnected, UnsupportedVersion, broker_error
from raftlog.client.group import Member, Reaction
from raftlog.client.group_protocol import (
    Subscription,
    decode_assignment,
    decode_subscription,
    decode_told,
    encode_assignment,
    encode_subscription,
)
from raftlog.client.metadata import TopicPartition
from raftlog.errors import InvalidInput
from raftlog.protocol.errors import ErrorCode

OWNED = (TopicPartition("t", 0), TopicPartition("t", 2), TopicPartition("u", 1))
SUBSCRIPTION = Subscription(topics=("t", "u"), owned=OWNED, generation=7, rack="r1")


def string(text: str) -> bytes:
    return struct.pack(">h", len(text)) + text.encode()


def test_a_subscription_both_ways() -> None:
    assert decode_subscription(encode_subscription(SUBSCRIPTION)) == SUBSCRIPTION


def test_an_assignment_both_ways() -> None:
    assert decode_assignment(encode_assignment(reversed(OWNED))) == OWNED
    assert decode_assignment(b"") == ()
    assert decode_assignment(encode_assignment(())) == ()


def test_what_an_assignor_tells_goes_both_ways() -> None:
    told = replace(SUBSCRIPTION, user_data=b"of my own")
    assert decode_subscription(encode_subscription(told)) == told
    mine = [TopicPartition("t", 1)]
    assert decode_told(encode_assignment(mine, b"yours")) == (tuple(mine), b"yours")
    assert decode_told(encode_assignment(mine)) == (tuple(mine), b"")
    assert decode_told(b"") == ((), b"")


def test_older_versions_are_read() -> None:
    topics = struct.pack(">i", 1) + string("t")
    owned = struct.pack(">i", 1) + string("t") + struct.pack(">ii", 1, 5)
    none = struct.pack(">i", -1)
    assert decode_subscription(struct.pack(">h", 0) + topics + none) == Subscription(topics=("t",))
    one = decode_subscription(struct.pack(">h", 1) + topics + struct.pack(">ii", 4, 3) + owned)
    assert one == Subscription(topics=("t",), owned=(TopicPartition("t", 5),), generation=3)
    two = decode_subscription(struct.pack(">h", 2) + topics + none + owned + struct.pack(">i", 9), "static")
    assert two.generation == 9
    assert two.instance_id == "static"


def test_a_later_version_is_read_as_far_as_we_know_it() -> None:
    data = struct.pack(">h", 9) + encode_subscription(SUBSCRIPTION)[2:] + b"more"
    assert decode_subscription(data) == SUBSCRIPTION


@pytest.mark.parametrize("decode", [decode_subscription, decode_assignment])
def test_any_bytes_are_read_or_refused(decode: object) -> None:
    assert callable(decode)
    rng = random.Random(1)
    whole = encode_subscription(SUBSCRIPTION)
    for cut in range(len(whole)):
        with pytest.raises(InvalidInput):
            decode_subscription(whole[:cut])
    for _ in range(3000):
        data = bytearray(whole if rng.random() < 0.7 else rng.randbytes(rng.randrange(40)))
        for _ in range(rng.randrange(4)):
            if data:
                data[rng.randrange(len(data))] = rng.randrange(256)
        try:
            decode(bytes(data))
        except InvalidInput:
            pass


@pytest.mark.parametrize(
    ("code", "reaction"),
    [
        (ErrorCode.NOT_COORDINATOR, Reaction.FIND),
        (ErrorCode.COORDINATOR_NOT_AVAILABLE, Reaction.FIND),
        (ErrorCode.COORDINATOR_LOAD_IN_PROGRESS, Reaction.RETRY),
        (ErrorCode.REBALANCE_IN_PROGRESS, Reaction.REJOIN),
        (ErrorCode.MEMBER_ID_REQUIRED, Reaction.REJOIN),
        (ErrorCode.ILLEGAL_GENERATION, Reaction.START_OVER),
        (ErrorCode.UNKNOWN_MEMBER_ID, Reaction.START_OVER),
        (ErrorCode.FENCED_INSTANCE_ID, Reaction.GIVE_UP),
        (ErrorCode.GROUP_AUTHORIZATION_FAILED, Reaction.GIVE_UP),
        (ErrorCode.INCONSISTENT_GROUP_PROTOCOL, Reaction.GIVE_UP),
        (ErrorCode.UNKNOWN_SERVER_ERROR, Reaction.GIVE_UP),
    ],
)
def test_what_a_member_does_about_an_error(code: ErrorCode, reaction: Reaction) -> None:
    member = Member()
    member.member_id, member.generation = "m", 3
    assert member.react(broker_error(code)) is reaction
    assert member.joined == (reaction is not Reaction.START_OVER)
    assert member.member_id == ("" if code is ErrorCode.UNKNOWN_MEMBER_ID else "m")


def test_what_a_member_does_about_a_broken_connection() -> None:
    assert Member().react(Disconnected("x")) is Reaction.FIND
    assert Member().react(UnsupportedVersion("x")) is Reaction.GIVE_UP
    assert repr(Member()) == "<Member (none) member generation=-1>"
