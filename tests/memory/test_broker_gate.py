"""What a connection may do before its login, what a login comes to, and when that ends."""

from __future__ import annotations

import logging
import os
import struct
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
import trio
import trio.testing
from trio.testing import MockClock

from raftlog.broker import authentication
from raftlog.metadata.users import AlterCredentials, NewCredential
from raftlog.protocol.api import ApiKey
from raftlog.protocol.sasl import write_plain
from raftlog.protocol.scram import HASHES, ScramClient, keys_of, salted
from tests.clocks import thread_clock
from tests.memory.broker_fakes import FakeNode, Peer, Served
from tests.memory.test_broker_authorized import fetch, produce

SASL = "EXTERNAL"
MECHANISMS = "PLAIN,SCRAM-SHA-256,SCRAM-SHA-512"


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> MockClock:
    """Passwords are hashed in threads."""
    return thread_clock(monkeypatch)


def node(**settings: str) -> FakeNode:
    return FakeNode(
        listener_security_protocol_map=f"PLAINTEXT:PLAINTEXT,INTERNAL:PLAINTEXT,{SASL}:SASL_PLAINTEXT",
        **{"sasl_enabled_mechanisms": MECHANISMS, **settings},
    )


@pytest.fixture
async def serve(nursery: trio.Nursery) -> AsyncIterator[Callable[[FakeNode], Served]]:
    all_served: list[Served] = []

    def serve(node: FakeNode) -> Served:
        all_served.append(Served(node, nursery))
        return all_served[-1]

    yield serve
    for served in all_served:
        await served.aclose()


@pytest.fixture
async def served(serve: Callable[[FakeNode], Served]) -> Served:
    served = serve(node())
    await set_password(served, "alice", "secret")
    return served


async def set_password(served: Served, user: str, password: str, drop: tuple[str, ...] = ()) -> None:
    salt = os.urandom(16)
    put = []
    for mechanism in HASHES:
        keys = keys_of(mechanism, salted(mechanism, password.encode(), salt, 4096))
        put.append(NewCredential(user, mechanism, salt, 4096, *keys))
    gone = tuple((name, mechanism) for name in drop for mechanism in HASHES)
    await served.node.propose(AlterCredentials(phantom_key=os.urandom(32), put=tuple(put), drop=gone))


def new_topic(name: str) -> dict[str, Any]:
    topic = {"name": name, "num_partitions": 1, "replication_factor": 1, "assignments": [], "configs": []}
    return {"topics": [topic], "timeout": 1000, "validate_only": False}


async def choose(peer: Peer, mechanism: str, version: int = 1) -> Any:
    return await peer.ask(ApiKey.SASL_HANDSHAKE, version, mechanism=mechanism)


async def show(peer: Peer, token: bytes, version: int = 2) -> Any:
    return await peer.ask(ApiKey.SASL_AUTHENTICATE, version, auth_bytes=token)


async def log_in(peer: Peer, user: str, password: str, mechanism: str = "PLAIN", version: int = 2) -> Any:
    answer = await choose(peer, mechanism)
    assert answer.error_code.name == "none", answer
    if mechanism == "PLAIN":
        return await show(peer, write_plain(user, password), version)
    scram = ScramClient(mechanism, user, password)
    challenge = await show(peer, scram.first(), version)
    if challenge.error_code.name != "none":
        return challenge
    answer = await show(peer, scram.prove(challenge.auth_bytes), version)
    if answer.error_code.name == "none":
        scram.check(answer.auth_bytes)
    return answer


@pytest.mark.parametrize("mechanism", MECHANISMS.split(","))
@pytest.mark.parametrize("version", [0, 1, 2])
async def test_who_logs_in_is_served_by_that_name(
    clock: MockClock, served: Served, mechanism: str, version: int
) -> None:
    peer = await served.connect(SASL)
    await peer.ask(ApiKey.API_VERSIONS, 3, client_software_name="x", client_software_version="1")
    answer = await log_in(peer, "alice", "secret", mechanism, version)
    assert answer.error_code.name == "none"
    assert (await peer.ask(ApiKey.METADATA, 1, topics=[])).brokers
    (connection,) = served.listener.connections
    assert connection.origin.principal == "User:alice"


@pytest.mark.parametrize("mechanism", MECHANISMS.split(","))
@pytest.mark.parametrize(
    ("user", "password"), [("alice", "Secret"), ("mallory", "secret"), ("Alice", "secret")]
)
async def test_who_does_not_is_told_the_same_whatever_is_wrong(
    clock: MockClock, served: Served, mechanism: str, user: str, password: str
) -> None:
    """Scenario 19, but for the measuring: the refusal is held back for at least 200 ms and ends it."""
    peer = await served.connect(SASL)
    begun = trio.current_time()
    answer = await log_in(peer, user, password, mechanism)
    took = trio.current_time() - begun
    assert answer.error_code.name == "sasl_authentication_failed"
    assert answer.error_message == f"authentication failed: user or password is wrong ({mechanism})"
    assert answer.auth_bytes == b"" and took >= 0.2
    assert await peer.is_closed()


async def test_a_phantom_has_the_same_salt_tomorrow_and_another_by_another_mechanism(served: Served) -> None:
    said = []
    for mechanism in ("SCRAM-SHA-256", "SCRAM-SHA-256", "SCRAM-SHA-512"):
        peer = await served.connect(SASL)
        await choose(peer, mechanism)
        challenge = await show(peer, b"n,,n=nobody,r=abc")
        said.append(challenge.auth_bytes.split(b",")[1:])
    assert said[0] == said[1] != said[2]
    assert said[0][1] == b"i=4096" and len(said[0][0]) == len(b"s=") + 32


@pytest.mark.parametrize(
    ("api", "version", "fields"),
    [
        (ApiKey.METADATA, 1, {"topics": []}),
        (ApiKey.PRODUCE, 9, {"acks": 1, "timeout": 1000, "topic_data": []}),
        (ApiKey.FETCH, 12, {"max_wait": 1, "min_bytes": 1, "topics": [], "forgotten_topics_data": []}),
        (ApiKey.ALTER_USER_SCRAM_CREDENTIALS, 0, {"upsertions": [], "deletions": []}),
    ],
)
async def test_nothing_is_served_before_a_login(
    served: Served, api: ApiKey, version: int, fields: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    """Scenario 13."""
    peer = await served.connect(SASL)
    with caplog.at_level(logging.WARNING):
        await peer.send(api, version, **fields)
        assert await peer.is_closed()
    assert f"(API {api.value}) before it has logged in" in caplog.text


@pytest.mark.parametrize("count", [3, 4])
async def test_versions_are_asked_for_a_few_times_only(clock: MockClock, served: Served, count: int) -> None:
    """Scenario 14."""
    peer = await served.connect(SASL)
    for _ in range(3):
        await peer.ask(ApiKey.API_VERSIONS, 0)
    if count == 3:
        assert (await log_in(peer, "alice", "secret")).error_code.name == "none"
    else:
        await peer.send(ApiKey.API_VERSIONS, 0)
        assert await peer.is_closed()


@pytest.mark.parametrize("size", [64 * 1024 + 1, 1 << 30])
async def test_a_large_request_before_a_login_is_the_end(served: Served, size: int) -> None:
    """Scenario 15: by the length alone."""
    peer = await served.connect(SASL)
    await peer.stream.send_all(struct.pack(">I", size))
    assert await peer.is_closed()
    assert served.node.memory.requests == 0


async def test_after_the_login_requests_may_be_large(served: Served) -> None:
    peer = await served.connect(SASL)
    await log_in(peer, "alice", "secret")
    topics = [{"name": f"{number:0200}"} for number in range(1000)]
    assert len((await peer.ask(ApiKey.METADATA, 1, topics=topics)).topics) == 1000


async def test_who_takes_too_long_goes(served: Served, clock: MockClock) -> None:
    begun = trio.current_time()
    peer = await served.connect(SASL)
    await choose(peer, "PLAIN")
    assert await peer.is_closed()
    assert 9 < trio.current_time() - begun < 11


@pytest.mark.parametrize("first", ["PLAIN", "SCRAM-SHA-256"])
async def test_a_second_handshake_within_a_login_is_the_end(
    clock: MockClock, served: Served, first: str
) -> None:
    """Scenario 25."""
    peer = await served.connect(SASL)
    await choose(peer, first)
    assert (await choose(peer, "PLAIN")).error_code.name == "illegal_sasl_state"
    assert await peer.is_closed()


async def test_versions_within_a_login_are_the_end(clock: MockClock, served: Served) -> None:
    peer = await served.connect(SASL)
    await choose(peer, "PLAIN")
    await peer.send(ApiKey.API_VERSIONS, 0)
    assert await peer.is_closed()


async def test_a_token_without_a_mechanism_is_the_end(clock: MockClock, served: Served) -> None:
    peer = await served.connect(SASL)
    assert (await show(peer, b"\0alice\0secret")).error_code.name == "illegal_sasl_state"
    assert await peer.is_closed()


async def test_a_mechanism_that_is_off_is_answered_with_those_that_are_on(
    clock: MockClock,
    serve: Callable[[FakeNode], Served],
) -> None:
    """After the while that a wrong password takes: else librdkafka comes back twenty times a second."""
    served = serve(node(sasl_enabled_mechanisms="SCRAM-SHA-512"))
    peer = await served.connect(SASL)
    begun = trio.current_time()
    answer = await choose(peer, "PLAIN")
    assert (answer.error_code.name, answer.mechanisms) == ("unsupported_sasl_mechanism", ("SCRAM-SHA-512",))
    assert trio.current_time() - begun >= 0.2
    assert await peer.is_closed()


async def test_raw_tokens_are_refused_in_kafkas_words(clock: MockClock, served: Served) -> None:
    peer = await served.connect(SASL)
    answer = await choose(peer, "PLAIN", version=0)
    assert (answer.error_code.name, len(answer.mechanisms)) == ("unsupported_version", 3)
    assert await peer.is_closed()


async def test_a_token_outside_of_a_login_changes_nothing(clock: MockClock, served: Served) -> None:
    peer = await served.connect(SASL)
    await log_in(peer, "alice", "secret")
    assert (await choose(peer, "PLAIN")).error_code.name == "illegal_sasl_state"
    assert (await show(peer, b"\0alice\0wrong")).error_code.name == "illegal_sasl_state"
    assert (await peer.ask(ApiKey.METADATA, 1, topics=[])).brokers


async def test_a_password_that_changes_ends_what_was_made_with_it(clock: MockClock, served: Served) -> None:
    """Scenario 60: when the call returns."""
    alice, bob = await served.connect(SASL), await served.connect(SASL)
    await set_password(served, "bob", "secret")
    await log_in(alice, "alice", "secret")
    await log_in(bob, "bob", "secret", "SCRAM-SHA-256")
    await set_password(served, "alice", "other")
    assert await alice.is_closed()
    assert (await bob.ask(ApiKey.METADATA, 1, topics=[])).brokers
    for password, code in (("secret", "sasl_authentication_failed"), ("other", "none")):
        peer = await served.connect(SASL)
        assert (await log_in(peer, "alice", password)).error_code.name == code
    await set_password(served, "carol", "secret", drop=("bob",))
    assert await bob.is_closed()


async def test_a_login_that_a_change_overtakes_is_refused(clock: MockClock, served: Served) -> None:
    peer = await served.connect(SASL)
    await choose(peer, "SCRAM-SHA-256")
    scram = ScramClient("SCRAM-SHA-256", "alice", "secret")
    challenge = await show(peer, scram.first())
    await set_password(served, "alice", "other")
    answer = await show(peer, scram.prove(challenge.auth_bytes))
    assert answer.error_code.name == "sasl_authentication_failed"


async def test_a_password_that_changes_while_a_thread_looks_at_the_old_one_lets_nobody_in(
    clock: MockClock,
    served: Served,
) -> None:
    peer = await served.connect(SASL)
    await choose(peer, "PLAIN")
    passwords = served.listener._authentication
    assert passwords is not None
    passwords._hashing = hashing = trio.CapacityLimiter(1)
    async with hashing:
        await peer.send(ApiKey.SASL_AUTHENTICATE, 2, auth_bytes=write_plain("alice", "secret"))
        await trio.testing.wait_all_tasks_blocked()
        await set_password(served, "alice", "other")
    _, answer = await peer.receive(ApiKey.SASL_AUTHENTICATE, 2)
    assert answer.error_code.name == "sasl_authentication_failed"


@pytest.mark.parametrize("comes_back", [True, False])
async def test_a_broker_that_may_not_decide_lets_nobody_in_and_looks_again_before_it_serves(
    clock: MockClock, served: Served, comes_back: bool
) -> None:
    """The halves of scenarios 32 and 33 that are about passwords, on the broker that has lost its lease."""
    node, old, new = served.node, await served.connect(SASL), await served.connect(SASL)
    await log_in(old, "alice", "secret")
    node.is_current = False
    answer = await old.ask(ApiKey.PRODUCE, 9, **produce("any"))
    assert answer.responses[0].partition_responses[0].error_code == 6
    await old.send(ApiKey.CREATE_TOPICS, 5, **new_topic("made"))
    await choose(new, "PLAIN")
    await new.send(ApiKey.SASL_AUTHENTICATE, 2, auth_bytes=write_plain("alice", "secret"))
    await trio.sleep(1)
    if comes_back:
        await set_password(served, "alice", "other")
        node.become_current()
        _, refused = await new.receive(ApiKey.SASL_AUTHENTICATE, 2)
        assert refused.error_code.name == "sasl_authentication_failed"
    assert await old.is_closed() and await new.is_closed()
    assert "made" not in node.catalog.topics


async def test_a_fetch_that_waits_beyond_its_session_gives_nothing(
    serve: Callable[[FakeNode], Served], clock: MockClock
) -> None:
    served = serve(node(connections_max_reauth_ms="10000"))
    await set_password(served, "alice", "secret")
    partition = served.node.add_topic("t", 1) and served.node.partitions["t", 0]
    peer = await served.connect(SASL)
    await log_in(peer, "alice", "secret")
    clock.jump(9.5)
    await peer.send(ApiKey.FETCH, 12, **fetch("t", max_wait=60_000))
    await trio.sleep(0.6)
    partition.waiters.wake()
    woken = trio.current_time()
    assert await peer.is_closed()
    assert trio.current_time() - woken < 1


async def test_a_session_lasts_as_long_as_it_is_told_and_goes_on_by_another_login(
    serve: Callable[[FakeNode], Served], clock: MockClock
) -> None:
    served = serve(node(connections_max_reauth_ms="10000"))
    await set_password(served, "alice", "secret")
    peer = await served.connect(SASL)
    begun = trio.current_time()
    answer = await log_in(peer, "alice", "secret")
    assert answer.session_lifetime.total_seconds() == 10
    clock.jump(6)
    assert (await log_in(peer, "alice", "secret")).error_code.name == "none"
    clock.jump(6)
    assert (await peer.ask(ApiKey.METADATA, 1, topics=[])).brokers
    assert await peer.is_closed()
    assert 15.5 < trio.current_time() - begun < 18


@pytest.mark.parametrize("who", ["bob", "alice by another mechanism", "alice with a wrong password"])
async def test_a_connection_stays_its_owners(
    clock: MockClock, serve: Callable[[FakeNode], Served], who: str
) -> None:
    """Scenario 26."""
    served = serve(node(connections_max_reauth_ms="10000"))
    await set_password(served, "alice", "secret")
    await set_password(served, "bob", "secret")
    peer = await served.connect(SASL)
    await log_in(peer, "alice", "secret")
    if who.endswith("mechanism"):
        answer = await choose(peer, "SCRAM-SHA-256")
    elif who == "bob":
        answer = await log_in(peer, "bob", "secret")
        assert answer.error_message == "the connection belongs to User:alice"
    else:
        answer = await log_in(peer, "alice", "wrong")
    assert answer.error_code.name == "sasl_authentication_failed"
    assert await peer.is_closed()


async def test_nothing_else_is_served_in_the_middle_of_another_login(
    serve: Callable[[FakeNode], Served],
) -> None:
    served = serve(node(connections_max_reauth_ms="10000"))
    await set_password(served, "alice", "secret")
    peer = await served.connect(SASL)
    await log_in(peer, "alice", "secret")
    await choose(peer, "PLAIN")
    await peer.send(ApiKey.METADATA, 1, topics=[])
    assert await peer.is_closed()


async def test_an_address_that_is_refused_often_waits_and_is_not_shut_out(
    served: Served, clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Scenario 30, in small."""
    for _ in range(11):
        assert (await log_in(await served.connect(SASL), "alice", "wrong")).error_code.value == 58
    begun = trio.current_time()
    assert (await log_in(await served.connect(SASL), "alice", "secret")).error_code.name == "none"
    assert trio.current_time() - begun > 0.9
    clock.jump(61)
    monkeypatch.setattr(authentication, "SUSPECT_WAIT_S", 60.0)
    begun = trio.current_time()
    assert (await log_in(await served.connect(SASL), "alice", "secret")).error_code.name == "none"
    assert trio.current_time() - begun < 30


async def test_a_login_on_a_plain_listener_is_illegal_and_the_client_is_nobody(
    clock: MockClock, served: Served
) -> None:
    peer = await served.connect()
    assert (await choose(peer, "PLAIN")).error_code.name == "illegal_sasl_state"
    assert (await peer.ask(ApiKey.METADATA, 1, topics=[])).brokers
    assert [each.origin.principal for each in served.listener.connections] == ["User:ANONYMOUS"]
