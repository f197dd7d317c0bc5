"""Fetches and offset look-ups that ask for what cannot be."""

from __future__ import annotations

import pytest

from tests.badinput import requests
from tests.badinput.batches import batch
from tests.badinput.conftest import Victim
from tests.badinput.wire import FETCH, array, framed, header, i8, i32, i64, string

OFFSET_OUT_OF_RANGE = 1
NOT_LEADER = 6
FETCH_SESSION_ID_NOT_FOUND = 70
FENCED_LEADER_EPOCH = 74
UNKNOWN_LEADER_EPOCH = 75


@pytest.fixture
def topic(victim: Victim) -> str:
    """A topic with three records."""
    name = victim.topic()
    with victim.connect() as raw:
        for _ in range(3):
            assert requests.produce(raw, name, batch()).error == 0
    return name


@pytest.mark.parametrize("offset", [-5, -1, -2, 4, 2**63 - 1, -(2**63)])
def test_offsets_that_are_not_there(victim: Victim, topic: str, offset: int) -> None:
    """An error never waits, whatever max_wait says."""
    with victim.connect() as raw:
        found = requests.fetch(raw, topic, offset, max_wait_ms=600_000)
        assert (found.error, found.records) == (OFFSET_OUT_OF_RANGE, b"")
        assert requests.fetch(raw, topic, 0).error == 0


@pytest.mark.parametrize("limit", [0, -1, -(2**31), 1, 2**31 - 1])
def test_limits_that_mean_nothing(victim: Victim, topic: str, limit: int) -> None:
    """At least one batch comes, whole; Kafka serves a negative limit as 0."""
    with victim.connect() as raw:
        for fields in ({"max_bytes": limit}, {"partition_max_bytes": limit}):
            found = requests.fetch(raw, topic, 0, max_wait_ms=0, **fields)
            assert found.error == 0
            assert len(found.records) >= len(batch())


def test_a_wait_without_end(victim: Victim, topic: str) -> None:
    """The client leaves while the broker waits for what never comes."""
    for _ in range(20):
        with victim.connect() as raw:
            body = requests.fetch_body(topic, 3, max_wait_ms=2**31 - 1, min_bytes=2**31 - 1)
            raw.send(framed(header(FETCH, 11) + body))
            raw.sock.settimeout(0.02)
            with pytest.raises(TimeoutError):
                raw.receive()


@pytest.mark.parametrize("wait_ms", [-1, -(2**31)])
def test_a_negative_wait_is_none(victim: Victim, topic: str, wait_ms: int) -> None:
    with victim.connect() as raw:
        assert requests.fetch(raw, topic, 3, max_wait_ms=wait_ms) == (0, 3, b"")


@pytest.mark.parametrize("replica", [0, 1, 2, -2, 2**31 - 1])
def test_cve_2018_1288_a_client_that_says_it_is_a_replica(victim: Victim, topic: str, replica: int) -> None:
    """Such a fetch moved the high watermark and lost data. Here it is a consumer like any other."""
    with victim.connect() as raw:
        found = requests.fetch(raw, topic, 0, replica=replica)
        assert (found.error, found.high_watermark) == (0, 3)
        ahead = requests.fetch(raw, topic, 10**9, replica=replica)
        assert ahead.error == OFFSET_OUT_OF_RANGE
        assert requests.list_offsets(raw, topic, -1) == (0, 3)
        assert requests.produce(raw, topic, batch()) == (0, 3)


def test_sessions_that_do_not_exist(victim: Victim, topic: str) -> None:
    with victim.connect() as raw:
        found = requests.fetch(raw, topic, 0, session_id=12345, session_epoch=7)
        assert found.error == FETCH_SESSION_ID_NOT_FOUND
        for epoch in (0, -1):  # everything is named: nothing of the session is needed
            assert requests.fetch(raw, topic, 0, session_id=12345, session_epoch=epoch).error == 0


def test_leader_epochs_of_another_world(victim: Victim, topic: str) -> None:
    with victim.connect() as raw:
        assert requests.fetch(raw, topic, 0, leader_epoch=10**6).error == UNKNOWN_LEADER_EPOCH
        assert requests.fetch(raw, topic, 0, leader_epoch=0).error in (0, FENCED_LEADER_EPOCH)


def test_an_isolation_level_that_is_none(victim: Victim, topic: str) -> None:
    with victim.connect() as raw:
        assert requests.fetch(raw, topic, 0, isolation=7).error == 0


def test_an_empty_fetch_answers_at_once(victim: Victim) -> None:
    """Java's last one closes its session so; it must not wait."""
    body = i32(-1) + i32(600_000) + i32(1) + i32(1000) + i8(0) + i32(0) + i32(-1)
    with victim.connect() as raw:
        answer = raw.ask(FETCH, 11, body + array([]) + array([]) + string(""))
        assert requests.read_fetch(answer) == (0, -1, b"")


def test_the_same_partition_a_thousand_times(victim: Victim, topic: str) -> None:
    one = i32(0) + i32(-1) + i64(0) + i64(-1) + i32(1_000_000)
    body = i32(-1) + i32(0) + i32(1) + i32(1_000_000) + i8(0) + i32(0) + i32(-1)
    with victim.connect() as raw:
        answer = raw.ask(
            FETCH, 11, body + array([string(topic) + array([one] * 1000)]) + array([]) + string("")
        )
        assert len(answer) > 1000


@pytest.mark.parametrize("timestamp", [-3, -4, -5, -6, -7, -(2**63), 2**63 - 1])
def test_timestamps_that_mean_something_or_nothing(victim: Victim, topic: str, timestamp: int) -> None:
    with victim.connect() as raw:
        error, offset = requests.list_offsets(raw, topic, timestamp)
        assert -1 <= offset <= 3, (error, offset)
