"""What security promises and no other file of tests is about: logins, ACLs, limits and the audit log."""

from __future__ import annotations

import itertools
import json
import logging
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
import trio
import trio.testing
from trio.testing import MockClock

from raftlog.broker.audit import Audit
from raftlog.broker.registry import served as apis
from raftlog.config.table import STANDARD_AUTHORIZER
from raftlog.metadata.acl_table import AclBinding, Acls
from raftlog.metadata.acls import ACLS, ACLS_LEVEL, ACLS_MAX, CreateAcls, kept_host
from raftlog.metadata.catalog import METADATA_LEVEL, Catalog
from raftlog.protocol.api import ApiKey
from raftlog.protocol.schema import message_struct
from raftlog.rights import CLUSTER_NAME, Operation, Pattern, Permission, ResourceKind
from raftlog.types import RaftIndex
from tests.clocks import thread_clock
from tests.memory.broker_fakes import FakeNode, Peer, Served
from tests.memory.test_broker_authorized import (
    World,
    allow,
    fetch,
    produce,
    raw_answer,
    request_of,
    worlds,  # noqa: F401  (a fixture)
)
from tests.memory.test_broker_gate import SASL, choose, log_in, set_password, show
from tests.memory.test_broker_gate import node as sasl_node

TOPIC, CLUSTER = ResourceKind.TOPIC, ResourceKind.CLUSTER
ANYBODY = "User:ANONYMOUS"


@pytest.fixture
def clock() -> MockClock:
    return MockClock(autojump_threshold=0.02)


@pytest.fixture
def patient_clock(monkeypatch: pytest.MonkeyPatch) -> MockClock:
    """Does not jump while a thread hashes a password."""
    return thread_clock(monkeypatch)


@pytest.fixture
async def serve(nursery: trio.Nursery) -> AsyncIterator[Callable[[FakeNode], Served]]:
    all_served: list[Served] = []

    def serve(node: FakeNode) -> Served:
        all_served.append(Served(node, nursery))
        return all_served[-1]

    yield serve
    for one in all_served:
        await one.aclose()


def authorized(**settings: str) -> FakeNode:
    return FakeNode(authorizer_class_name=STANDARD_AUTHORIZER, **settings)


def rule(
    permission: int, *, name: str = "t", operation: int = Operation.READ, who: str = "*"
) -> dict[str, Any]:
    return {
        "resource_type": TOPIC,
        "resource_name": name,
        "resource_pattern_type": 3,
        "principal": f"User:{who}",
        "host": "*",
        "operation": operation,
        "permission_type": permission,
    }


def audited(caplog: pytest.LogCaptureFixture) -> list[dict[str, Any]]:
    return [json.loads(one.getMessage()) for one in caplog.records if one.name == "raftlog.audit"]


@pytest.fixture
def audit_log(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    caplog.set_level(logging.INFO, "raftlog.audit")
    return caplog


# Logins


async def test_many_who_begin_a_login_keep_nobody_out(
    clock: MockClock, serve: Callable[[FakeNode], Served]
) -> None:
    """Scenario 16: two hundred connections say their first word, and have a challenge kept for each."""
    served = serve(sasl_node())
    await set_password(served, "alice", "secret")
    for number in range(200):
        stranger = await served.connect(SASL)
        await choose(stranger, "SCRAM-SHA-256")
        await show(stranger, b"n,,n=%d,r=abc" % number)
    begun = trio.current_time()
    assert (await log_in(await served.connect(SASL), "alice", "secret", "SCRAM-SHA-512")).error_code == 0
    assert trio.current_time() - begun < 1
    await trio.sleep(11)
    assert len(served.listener.connections) == 1


async def test_a_user_by_the_name_of_nobody_stays_logged_in(
    clock: MockClock, serve: Callable[[FakeNode], Served]
) -> None:
    served = serve(sasl_node())
    await set_password(served, "ANONYMOUS", "secret")
    peer = await served.connect(SASL)
    assert (await log_in(peer, "ANONYMOUS", "secret", "SCRAM-SHA-512")).error_code == 0
    await trio.sleep(11)
    assert (await peer.ask(ApiKey.METADATA, 1, topics=[])).brokers


@pytest.mark.parametrize(
    ("password", "mechanism", "event"),
    [
        ("secret", "PLAIN", "login"),
        ("wrong", "SCRAM-SHA-256", "login refused"),
        ("", "GSSAPI", "login refused"),
    ],
)
async def test_logins_are_audited(
    patient_clock: MockClock,
    serve: Callable[[FakeNode], Served],
    audit_log: pytest.LogCaptureFixture,
    password: str,
    mechanism: str,
    event: str,
) -> None:
    served = serve(sasl_node())
    await set_password(served, "alice", "secret")
    peer = await served.connect(SASL)
    if mechanism == "GSSAPI":
        await choose(peer, mechanism)
    else:
        await log_in(peer, "alice", password, mechanism)
    (line,) = audited(audit_log)
    assert (line["event"], line["mechanism"], line["listener"]) == (event, mechanism, SASL)
    assert line["host"] == "127.0.0.1" and "secret" not in str(line) and "wrong'" not in str(line)
    assert line.get("principal") == (None if mechanism == "GSSAPI" else "User:alice")
    assert ("why" in line) == (event != "login")


async def test_refused_logins_of_one_address_are_one_line_a_minute(
    patient_clock: MockClock,
    serve: Callable[[FakeNode], Served],
    audit_log: pytest.LogCaptureFixture,
) -> None:
    served = serve(sasl_node())
    for number in range(4):
        await log_in(await served.connect(SASL), f"nobody-{number}", "guess", "SCRAM-SHA-256")
    assert len(audited(audit_log)) == 1
    patient_clock.jump(61)
    await trio.sleep(1)
    first, counted = audited(audit_log)
    assert "repeated" not in first and counted["repeated"] == 3


async def test_each_broker_of_a_process_counts_its_own_refusals(
    patient_clock: MockClock, serve: Callable[[FakeNode], Served], audit_log: pytest.LogCaptureFixture
) -> None:
    """Embedded brokers run in event loops of their own, with clocks that begin anywhere."""
    first, second = serve(sasl_node()), serve(sasl_node())
    for number in range(2):
        for served in (first, second):
            await log_in(await served.connect(SASL), f"nobody-{number}", "guess", "SCRAM-SHA-256")
    assert len(audited(audit_log)) == 2
    second.node.backend.notes.audit.flush(trio.current_time() + 61)
    await log_in(await first.connect(SASL), "nobody", "guess", "SCRAM-SHA-256")
    assert [line.get("repeated") for line in audited(audit_log)] == [None, None, 1]


# ACLs


async def test_a_deny_and_an_allow_of_one_request_are_in_force_together(
    serve: Callable[[FakeNode], Served],
) -> None:
    """Scenario 37: a thousand readers ask in every turn of the loop."""
    served = serve(node := authorized(super_users=ANYBODY))
    assert node.authorizer is not None
    authorizer, seen, over = node.authorizer, set[bool](), trio.Event()

    async def look() -> None:
        while not over.is_set():
            seen.add(authorizer.allows("User:eve", "1.1.1.1", Operation.READ, TOPIC, "t"))
            await trio.lowlevel.checkpoint()

    async with trio.open_nursery() as readers:
        for _ in range(1000):
            readers.start_soon(look)
        peer = await served.connect()
        answer = await peer.ask(ApiKey.CREATE_ACLS, 3, creations=[rule(3), rule(2)])
        over.set()
    assert [each.error_code for each in answer.results] == [0, 0] and len(node.catalog.acls) == 2
    assert seen == {False}


@pytest.mark.parametrize("replica_id", [1, 2, -2])
async def test_who_claims_to_be_a_replica_is_a_consumer(
    serve: Callable[[FakeNode], Served], replica_id: int
) -> None:
    """Scenario 39: it needs the right of one, and sees no record that is not committed."""
    served = serve(node := authorized())
    node.add_topic("t", 1)
    peer, partition = await served.connect(), node.partitions["t", 0]
    asked = {**fetch("t"), "replica_id": replica_id}
    answer = await peer.ask(ApiKey.FETCH, 12, **asked)
    assert answer.responses[0].partitions[0].error_code == 29
    allow(node, (TOPIC, "t", Operation.READ), (TOPIC, "t", Operation.WRITE))
    partition.hold = True
    writer = await served.connect()
    await writer.send(ApiKey.PRODUCE, 9, **produce("t"))
    while not partition.log_end_offset:
        await trio.lowlevel.checkpoint()
    (found,) = (await peer.ask(ApiKey.FETCH, 12, **asked)).responses[0].partitions
    assert found.error_code == 0 and not found.records and found.high_watermark == 0
    partition.commit()
    (found,) = (await peer.ask(ApiKey.FETCH, 12, **asked)).responses[0].partitions
    assert found.records


async def test_cluster_action_opens_nothing(worlds: list[World]) -> None:  # noqa: F811
    """Scenario 44: what brokers say to each other has a port of its own."""
    allow(worlds[0].node, (CLUSTER, CLUSTER_NAME, Operation.CLUSTER_ACTION))
    peers = [await world.served.connect() for world in worlds]
    for api in [each for each in apis() if each.rule]:
        request = request_of(message_struct(api.key, api.last, "request"), "named")
        with_it, without = [await raw_answer(peer, api, api.last, request) for peer in peers]
        assert with_it == without, api.key.name


async def test_who_deletes_the_last_acl_about_something_is_warned(
    serve: Callable[[FakeNode], Served], caplog: pytest.LogCaptureFixture
) -> None:
    """Scenario 45: with allow.everyone.if.no.acl.found everybody may use it from then on."""
    served = serve(node := authorized(allow_everyone_if_no_acl_found="true", super_users=ANYBODY))
    assert node.authorizer is not None
    peer = await served.connect()
    await peer.ask(ApiKey.CREATE_ACLS, 3, creations=[rule(3, who="a"), rule(3, who="b")])
    for who, is_last in (("a", False), ("b", True)):
        every = {
            "resource_type_filter": 2,
            "resource_name_filter": "t",
            "pattern_type_filter": 3,
            "principal_filter": f"User:{who}",
            "host_filter": None,
            "operation": 1,
            "permission_type": 1,
        }
        await peer.ask(ApiKey.DELETE_ACLS, 3, filters=[every])
        assert ("no ACL is about 't' any more" in caplog.text) == is_last
        assert node.authorizer.allows("User:eve", "1.1.1.1", Operation.READ, TOPIC, "t") == is_last


async def test_an_address_of_ipv4_is_the_same_by_a_socket_of_ipv6(
    serve: Callable[[FakeNode], Served],
) -> None:
    served = serve(node := authorized(super_users=ANYBODY))
    peer = await served.connect()
    mapped = {**rule(3), "host": "::ffff:10.0.0.1"}
    assert (await peer.ask(ApiKey.CREATE_ACLS, 3, creations=[mapped])).results[0].error_code == 0
    assert [binding.host for binding in node.catalog.acls] == ["10.0.0.1"]
    every = {
        "resource_type_filter": 2,
        "resource_name_filter": None,
        "pattern_type_filter": 3,
        "principal_filter": None,
        "host_filter": "::ffff:10.0.0.1",
        "operation": 1,
        "permission_type": 1,
    }
    assert (await peer.ask(ApiKey.DESCRIBE_ACLS, 3, **every)).resources
    await peer.ask(ApiKey.DELETE_ACLS, 3, filters=[every])
    assert not len(node.catalog.acls)
    assert kept_host("::ffff:10.0.0.1") == "10.0.0.1" and kept_host("fe80::1%eth0") == "fe80::1%eth0"


@pytest.mark.parametrize(
    ("who", "is_super"), [("User:a", True), ("User:b,c", True), ("User:b", False), ("c", False)]
)
def test_super_users_are_separated_by_semicolons(who: str, is_super: bool) -> None:
    """Scenario 46: a distinguished name has commas."""
    node = authorized(super_users="User:a;User:b,c")
    assert node.authorizer is not None and node.authorizer.is_super_user(who) == is_super


async def test_no_deny_stops_a_super_user_and_the_audit_log_has_it(
    serve: Callable[[FakeNode], Served], audit_log: pytest.LogCaptureFixture
) -> None:
    """Scenario 47: the host is denied everything."""
    served = serve(node := authorized(super_users=ANYBODY))
    allow(node, (CLUSTER, CLUSTER_NAME, Operation.ALL), permission=2, host="127.0.0.1")
    peer = await served.connect()
    for _ in range(3):
        answer = await peer.ask(ApiKey.CREATE_ACLS, 3, creations=[rule(3)])
        assert answer.results[0].error_code == 0
    lines = [(line["event"], line["principal"], line["host"]) for line in audited(audit_log)]
    assert lines == [("super user", ANYBODY, "127.0.0.1"), ("acl created", ANYBODY, "127.0.0.1")]


def test_a_hundred_thousand_acls_are_found_as_fast_as_a_few() -> None:
    """Scenario 48: decisions do not walk, and an image gives the same rules again."""
    table = Acls()
    for number in range(ACLS_MAX):
        pattern = Pattern.PREFIXED if number % 10 == 0 else Pattern.LITERAL
        who = f"User:u{number % 500}"
        table.add(AclBinding(2, pattern, f"topic-{number}", who, "*", 3, Permission.ALLOW), RaftIndex(1))
    few, some = Acls(), Acls()
    for count, acls in ((100, few), (2000, some)):
        for binding in itertools.islice(table, count):
            acls.add(binding, RaftIndex(1))

    def spent(acls: Acls) -> float:
        begun = time.thread_time()
        for number in range(2000):
            acls.decide(f"User:u{number % 500}", "1.1.1.1", 3, 2, f"topic-{number * 7}-x")
        return time.thread_time() - begun

    assert min(spent(table) for _ in range(3)) < 20 * min(spent(few) for _ in range(3))
    catalog = Catalog()
    assert ACLS.table is not None
    ACLS.table.put(
        catalog, [1, *([int(one) if isinstance(one, int) else one for one in row] for row in some)]
    )
    assert catalog.acls == some and catalog.acls.canonical() == some.canonical()


async def test_an_older_broker_in_the_cluster_is_told_of_no_acl(serve: Callable[[FakeNode], Served]) -> None:
    """Scenario 49: nothing is proposed that it could not read."""
    served = serve(node := authorized(super_users=ANYBODY))
    node.catalog.features[METADATA_LEVEL] = ACLS_LEVEL - 1
    proposed: list[object] = []
    node.propose = proposed.append  # type: ignore[method-assign, assignment]
    answer = await (await served.connect()).ask(ApiKey.CREATE_ACLS, 3, creations=[rule(3)])
    assert answer.results[0].error_code == 35 and not proposed and not len(node.catalog.acls)


# Limits


async def connect_from(served: Served, source: str) -> Peer:
    address = served.listener.addresses["INTERNAL"]
    stream = await trio.open_tcp_stream(*address, local_address=source)
    served._streams.append(stream)
    return Peer(stream)


async def test_an_address_that_has_enough_connections_takes_no_place_of_others(
    serve: Callable[[FakeNode], Served],
) -> None:
    """Scenario 56: of a thousand tries ten are served."""
    served = serve(FakeNode(max_connections_per_ip="10"))
    greedy = [await connect_from(served, "127.0.0.2") for _ in range(1000)]
    served_count = 0
    for peer in greedy:
        with trio.fail_after(10):
            try:
                await peer.ask(ApiKey.API_VERSIONS, 0)
            except (trio.BrokenResourceError, EOFError):
                continue
        served_count += 1
    assert served_count == 10 and served.listener.refused == 990
    administrator = await connect_from(served, "127.0.0.1")
    assert (await administrator.ask(ApiKey.METADATA, 1, topics=[])).brokers


async def test_connections_that_come_too_fast_wait(
    clock: MockClock, serve: Callable[[FakeNode], Served]
) -> None:
    served = serve(FakeNode(max_connection_creation_rate="5"))
    begun = trio.current_time()
    for _ in range(20):
        peer = await served.connect()
        await peer.ask(ApiKey.API_VERSIONS, 0)
    assert 1.9 <= trio.current_time() - begun < 3


async def test_who_connects_ever_again_keeps_others_out_for_seconds_not_for_hours(
    clock: MockClock, serve: Callable[[FakeNode], Served]
) -> None:
    served = serve(FakeNode(max_connection_creation_rate="5"))
    for _ in range(300):
        await served.connect()
    with trio.fail_after(10):
        while served.listener.accepted + served.listener.refused < 300:  # noqa: ASYNC110
            await trio.sleep(0.01)
    assert served.listener.refused > 200
    await trio.sleep(5)
    begun = trio.current_time()
    peer = await served.connect()
    await peer.ask(ApiKey.API_VERSIONS, 0)
    assert trio.current_time() - begun < 10


# The audit log


class FullDisk(logging.Handler):
    """A handler that cannot write, as handlers say it."""

    is_full = False

    def emit(self, record: logging.LogRecord) -> None:
        if self.is_full:
            self.handleError(record)


@pytest.fixture
def disk(audit_log: pytest.LogCaptureFixture) -> Any:
    handler = FullDisk()
    logging.getLogger("raftlog.audit").addHandler(handler)
    yield handler
    logging.getLogger("raftlog.audit").removeHandler(handler)


@pytest.mark.parametrize("is_required", [True, False])
async def test_without_an_audit_log_nothing_is_changed(
    serve: Callable[[FakeNode], Served], disk: FullDisk, is_required: bool, caplog: pytest.LogCaptureFixture
) -> None:
    served = serve(node := authorized(super_users=ANYBODY, raftlog_audit_required=str(is_required).lower()))
    peer = await served.connect()
    await peer.ask(ApiKey.CREATE_ACLS, 3, creations=[rule(3)])
    disk.is_full = True
    answer = await peer.ask(ApiKey.CREATE_ACLS, 3, creations=[rule(3, name="other")])
    assert answer.results[0].error_code == (44 if is_required else 0)
    topic = {"name": "made", "num_partitions": 1, "replication_factor": 1, "assignments": [], "configs": []}
    await peer.send(ApiKey.CREATE_TOPICS, 5, topics=[topic], timeout=1000, validate_only=False)
    if is_required:
        assert await peer.is_closed()
    else:
        await peer.receive(ApiKey.CREATE_TOPICS, 5)
    assert (len(node.catalog.acls), "made" in node.catalog.topics) == (
        (1, False) if is_required else (2, True)
    )
    assert ("change asked for" in caplog.text) == is_required


def test_a_name_cannot_end_a_line_or_make_up_another(audit_log: pytest.LogCaptureFixture) -> None:
    """Scenario 61."""
    name = '\n{"event":"login"}\u2028\x00'
    Audit(logging.getLogger("raftlog.audit")).event("denied", client_id=name, name=name)
    (record,) = audit_log.records
    assert len(record.getMessage().splitlines()) == 1
    assert json.loads(record.getMessage())["name"] == name


# What is kept of who asks


async def test_long_names_are_not_kept(serve: Callable[[FakeNode], Served]) -> None:
    """Who has no right may ask about ten thousand names of 32 KB, by as long a client id."""
    served = serve(node := authorized())
    assert node.authorizer is not None
    peer = await served.connect()
    name = "x" * 32_000
    answer = await peer.ask(ApiKey.FIND_COORDINATOR, 1, key=name, key_type=0)
    assert answer.error_code == 30
    assert max(len(question[-1] or "") for question in [*node.authorizer._remembered, ("",)]) < 1000
    folded = node.backend.notes.audit._folded
    kept = [*folded, *(each.fields.values() for each in folded.values())]
    assert kept
    assert max(len(text) for some in kept for text in some if isinstance(text, str)) < 1000
    node.backend.notes.speakers.is_late(name, 1, 0, 1)
    assert not node.backend.notes.speakers._newest
    quotas = served.listener._dispatcher.quotas
    quotas.produced("u", name, 1, 0.0)
    kept_ids = [key[2] for key in quotas._known]
    assert max(map(len, kept_ids)) <= 1024


@pytest.mark.parametrize("name", ["short", "x" * 32_000])
def test_a_decision_is_the_same_remembered_or_not(name: str) -> None:
    node = authorized()
    assert node.authorizer is not None
    for _ in range(2):
        assert not node.authorizer.allows("User:a", "1.1.1.1", Operation.READ, TOPIC, name)
    rows = (AclBinding(2, 4, name[:1], "User:a", "*", Operation.READ, 3),)
    node.state.apply(CreateAcls(bindings=rows), RaftIndex(node.catalog.applied_index + 1))
    for _ in range(2):
        assert node.authorizer.allows("User:a", "1.1.1.1", Operation.READ, TOPIC, name)
