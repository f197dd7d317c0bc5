"""Who may do what (scenarios 18 to 23 of the console's guide, as far as curl can play them)."""

from __future__ import annotations

import base64
import importlib
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka.admin import (
    AclBinding,
    AclOperation,
    AclPermissionType,
    AdminClient,
    ResourcePatternType,
    ResourceType,
    ScramMechanism,
    UserScramCredentialDeletion,
)

from raftlog.cluster.first_users import write_first_user
from raftlog.config.table import STANDARD_AUTHORIZER
from raftlog.http.app import API_MODULES
from raftlog.http.guard import Need
from raftlog.security.credentials import credentials_of
from raftlog.testing.processes import BrokerDidNotStart, BrokerProcess
from tests.http.raw import ask, connect, listen

ADMIN = "a-token-of-an-admin-0123456789"
VIEWER = "a-token-of-a-viewer-0123456789"


def test_19_a_name_that_was_made_to_point_here_is_refused(broker: BrokerProcess) -> None:
    for host in ("evil.example", "evil.example:9644", "localhost.evil.example", "127.0.0.1.evil.example"):
        answer = ask(broker, "/metrics", host=host)
        assert answer.status == 421, host
    assert "raftlog.http.hosts" in answer.error
    for host in ("localhost", "127.0.0.1", "127.0.0.1:1", "[::1]:9644", "LOCALHOST:80"):
        assert ask(broker, "/metrics", host=host).status == 200, host


def test_a_probe_is_answered_by_whatever_name(broker: BrokerProcess) -> None:
    assert ask(broker, "/livez", host="raftlog-0.raftlog.svc.cluster.local").status == 200


def test_every_answer_has_the_headers_that_keep_a_browser_in_its_place(broker: BrokerProcess) -> None:
    for path in ("/livez", "/metrics", "/nothing", "/livez?x=1"):
        headers = ask(broker, path).headers
        assert "default-src 'none'" in headers["content-security-policy"]
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["cross-origin-resource-policy"] == "same-origin"
        assert "access-control-allow-origin" not in headers


def test_a_token_file_that_cannot_be_read_or_is_too_short_stops_the_start(tmp_path: Path) -> None:
    (tmp_path / "short").write_text("secret")
    for name, said in (("absent", "No such file"), ("short", "at least 16")):
        options = {"raftlog.http.token.file": tmp_path / name}
        process = BrokerProcess(tmp_path / f"{name}-data", arguments=listen(), options=options)
        with pytest.raises(BrokerDidNotStart, match=said):
            process.start()


def test_a_port_that_is_taken_stops_the_start_when_it_was_asked_for(
    broker: BrokerProcess, tmp_path: Path
) -> None:
    process = BrokerProcess(tmp_path / "data", arguments=broker.arguments)
    with pytest.raises(BrokerDidNotStart, match="cannot listen for HTTP"):
        process.start()


@pytest.fixture(scope="module")
def open_broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BrokerProcess]:
    """Reached by others than its own machine, and without a token."""
    process = BrokerProcess(tmp_path_factory.mktemp("open") / "broker", arguments=listen("0.0.0.0"))
    process.start()
    yield process
    process.kill()


def test_20_bound_for_others_without_a_token_only_probes_and_metrics_are_served(
    open_broker: BrokerProcess,
) -> None:
    for path in ("/livez", "/readyz", "/healthz", "/metrics"):
        assert ask(open_broker, path).status == 200, path
    assert ask(open_broker, "/metrics", host="raftlog-1").status == 200
    refused = ask(open_broker, "/api/v1/cluster")
    assert refused.status == 403
    assert "raftlog.http.token.file is not set" in refused.error


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BrokerProcess]:
    """With a token for who does everything and one for who looks."""
    folder = tmp_path_factory.mktemp("guarded")
    (folder / "admin").write_text(f"{ADMIN}\n")
    (folder / "viewer").write_text(VIEWER)
    options = {
        "raftlog.http.token.file": folder / "admin",
        "raftlog.http.viewer.token.file": folder / "viewer",
    }
    process = BrokerProcess(folder / "broker", arguments=listen(), options=options)
    process.start()
    yield process
    process.kill()


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def test_22_a_viewer_looks_and_neither_changes_anything_nor_sees_records(guarded: BrokerProcess) -> None:
    made = {"name": "kept", "partitions": 1}
    anonymous = ask(guarded, "/api/v1/cluster")
    assert (anonymous.status, anonymous.headers["www-authenticate"]) == (401, "Bearer")
    for token in ("", "wrong", ADMIN[:-1], ADMIN + "x"):
        assert ask(guarded, "/api/v1/cluster", headers=bearer(token)).status == 401, token
    assert ask(guarded, "/api/v1/cluster", headers=bearer(VIEWER)).status == 200
    assert ask(guarded, "/api/v1/topics", method="POST", body=made, headers=bearer(VIEWER)).status == 403
    assert ask(guarded, "/api/v1/topics", method="POST", body=made, headers=bearer(ADMIN)).status == 201
    for path in ("records", "records/0/0", "records/0/0/value", "tail"):
        answer = ask(guarded, f"/api/v1/topics/kept/{path}", headers=bearer(VIEWER))
        assert answer.status == 403, path
        assert "raftlog.http.viewer.records" in answer.error
    assert ask(guarded, "/api/v1/topics/kept/records", headers=bearer(ADMIN)).status == 200
    assert ask(guarded, "/livez").status == 200


def test_21_a_token_is_exchanged_for_a_cookie_that_ends(guarded: BrokerProcess) -> None:
    assert ask(guarded, "/api/v1/session", method="POST", body={"token": "guess"}).status == 401
    given = ask(guarded, "/api/v1/session", method="POST", body={"token": VIEWER})
    assert given.json()["role"] == "viewer"
    cookie, *flags = given.headers["set-cookie"].split("; ")
    assert {"HttpOnly", "SameSite=Strict", "Path=/"} <= set(flags)
    assert ask(guarded, "/api/v1/cluster", headers={"Cookie": cookie}).status == 200
    name, _, value = cookie.partition("=")
    role, until, signature = value.split(".")
    for forged in (
        f"admin.{until}.{signature}",
        f"{role}.{int(until) + 1}.{signature}",
        f"{role}.1.{signature}",
        f"{role}.{until}.{'0' * 64}",
        f'"{role}.{until}.\\351"',
        "viewer",
        "..",
    ):
        assert ask(guarded, "/api/v1/cluster", headers={"Cookie": f"{name}={forged}"}).status == 401, forged
    made = {"name": "by-cookie", "partitions": 1}
    admin = ask(guarded, "/api/v1/session", method="POST", body={"token": ADMIN}).headers["set-cookie"]
    by_cookie = {"Cookie": admin.partition(";")[0]}
    assert ask(guarded, "/api/v1/topics", method="POST", body=made, headers=by_cookie).status == 201
    forged_page = by_cookie | {"Origin": "http://evil.example"}
    assert ask(guarded, "/api/v1/topics", method="POST", body=made, headers=forged_page).status == 403


def test_a_token_that_is_no_text_or_far_too_long_is_refused_like_any_other(guarded: BrokerProcess) -> None:
    answer = ask(guarded, "/api/v1/session", method="POST", body={"token": "\ud800"})
    assert answer.status == 401
    lists: dict[str, list[list[int]]] = {"token": [[]] * 100_000}
    assert ask(guarded, "/api/v1/session", method="POST", body=lists).status == 413, "it is parsed in one go"


def test_23_read_only_is_one_check_for_every_route(tmp_path: Path) -> None:
    nothing: Any = None
    process = BrokerProcess(
        tmp_path / "broker", arguments=listen(), options={"raftlog.http.readonly": "true"}
    )
    process.start()
    try:
        changes = 0
        for module in API_MODULES:
            for route in importlib.import_module(f"raftlog.http.api.{module}").routes(nothing):
                path = route.path.replace("{}", "0")
                if route.need is Need.SESSION:
                    continue
                answer = ask(process, path, method=route.method, body={})
                is_change = route.method not in ("GET", "HEAD")
                changes += is_change
                refused = answer.status == 403 and answer.json()["error"]["code"] == "READ_ONLY"
                assert refused == is_change, (route.method, path, answer.status)
        assert changes > 8
    finally:
        process.kill()


MECHANISMS = (ScramMechanism.SCRAM_SHA_256, ScramMechanism.SCRAM_SHA_512)


@pytest.fixture(scope="module")
def with_users(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BrokerProcess]:
    """With an authorizer. On the Kafka side whoever comes may do everything, so that a test may."""
    folder = tmp_path_factory.mktemp("users")
    users = folder / "users"
    made = [one for name in ("admin", "alice") for one in credentials_of(name, f"{name}'s")]
    users.write_text("".join(f"{write_first_user(one)}\n" for one in made))
    users.chmod(0o600)
    options = {
        "authorizer.class.name": STANDARD_AUTHORIZER,
        "super.users": "User:admin;User:ANONYMOUS",
        "raftlog.bootstrap.users.file": users,
    }
    process = BrokerProcess(folder / "broker", arguments=listen(), options=options)
    process.start()
    yield process
    process.kill()


def basic(user: str, password: str) -> dict[str, str]:
    return {"Authorization": "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()}


def test_with_an_authorizer_users_have_the_rights_that_acls_give_them(with_users: BrokerProcess) -> None:
    alice, admin = basic("alice", "alice's"), basic("admin", "admin's")
    assert ask(with_users, "/livez").status == 200
    for path in ("/metrics", "/metrics/kafka", "/api/v1/cluster"):
        assert ask(with_users, path).status == 401, path
        assert ask(with_users, path, headers=basic("alice", "admin's")).status == 401
        assert "may not Describe Cluster" in ask(with_users, path, headers=alice).error
        assert ask(with_users, path, headers=admin).status == 200
    assert ask(with_users, "/metrics", headers={"Authorization": "Basic x"}).status == 400
    topic = {"name": "kept", "partitions": 1}
    assert ask(with_users, "/api/v1/topics", method="POST", body=topic, headers=admin).status == 201
    cluster = ResourceType.BROKER, "kafka-cluster", ResourcePatternType.LITERAL
    rule = AclBinding(*cluster, "User:alice", "*", AclOperation.DESCRIBE, AclPermissionType.ALLOW)
    kafka = AdminClient({"bootstrap.servers": with_users.bootstrap})
    kafka.create_acls([rule])[rule].result(60)
    assert ask(with_users, "/metrics", headers=alice).status == 200
    assert ask(with_users, "/api/v1/topics", method="POST", body=topic, headers=alice).status == 403
    assert "may not Read Topic" in ask(with_users, "/api/v1/topics/kept/records", headers=alice).error
    assert ask(with_users, "/api/v1/topics/kept/records", headers=admin).status == 200
    with connect(with_users) as stream:
        shown = f"Authorization: {alice['Authorization']}"
        stream.sendall(f"GET /api/v1/events HTTP/1.1\r\nHost: localhost\r\n{shown}\r\n\r\n".encode())
        assert b" 200 " in stream.recv(65536)
        gone = [UserScramCredentialDeletion("alice", each) for each in MECHANISMS]
        for result in kafka.alter_user_scram_credentials(gone).values():
            result.result(60)
        left_by = time.monotonic() + 30
        while stream.recv(65536):
            assert time.monotonic() < left_by, "alice sees more after she was removed"
    assert ask(with_users, "/metrics", headers=alice).status == 401
