"""Confluent's REST API: what each call answers, and the codes of what is refused."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import pytest

from raftlog.http.messages import Head
from raftlog.registry import api
from raftlog.testing.processes import BrokerProcess
from tests.registry.process import RegistryProcess, record, schema_body

pytestmark = pytest.mark.slow

PROTO = 'syntax = "proto3"; package p; message A { int64 x = 1; map<string, A> more = 2; }'


def test_a_schema_is_registered_once_and_found_by_everything(registry: RegistryProcess, subject: str) -> None:
    schema = record("Found", "a")
    first = registry.register(subject, schema)
    assert first.status == 200 and first.headers["Content-Type"] == "application/vnd.schemaregistry.v1+json"
    id = first.json["id"]
    spaced = json.dumps(schema, indent=4)
    assert registry.register(subject, spaced).json == {"id": id}
    assert registry.register(f"{subject}-other", schema).json == {"id": id}, "one id under two subjects"
    text = json.dumps(schema, separators=(",", ":"))
    whole = {"subject": subject, "version": 1, "id": id, "schema": text}
    for path in ("1", "latest", "-1"):
        assert registry.ask("GET", f"/subjects/{subject}/versions/{path}").json == whole
    assert (
        registry.ask("POST", f"/subjects/{subject}", {"schema": spaced}, normalize=False, deleted=False).json
        == whole
    )
    assert registry.ask("GET", f"/subjects/{subject}/versions").json == [1]
    assert registry.ask("GET", f"/subjects/{subject}/versions/1/schema").json == schema
    assert registry.ask("GET", f"/schemas/ids/{id}", subject=subject).json == {"schema": text}
    assert registry.ask("GET", f"/schemas/ids/{id}", fetchMaxId=True).json["maxId"] >= id
    assert registry.ask("GET", f"/schemas/ids/{id}/schema").json == schema
    assert registry.ask("GET", f"/schemas/ids/{id}/subjects").json == [subject, f"{subject}-other"]
    assert registry.ask("GET", f"/schemas/ids/{id}/versions").json[0] == {"subject": subject, "version": 1}
    assert subject in registry.ask("GET", "/subjects").json
    assert registry.ask("GET", "/subjects", subjectPrefix=subject, limit=1).json == [subject]
    assert registry.ask("GET", "/schemas", subjectPrefix=f"{subject}-").json[0]["id"] == id
    assert registry.ask("GET", "/schemas/types").json == ["JSON", "PROTOBUF", "AVRO"]
    assert registry.ask("GET", "/").json == {}
    head = registry.ask("HEAD", "/subjects")
    assert head.status == 200 and head.body == b""


@pytest.mark.parametrize(
    ("method", "path", "body", "error"),
    [
        ("GET", "/subjects/nobody/versions", None, (404, 40401)),
        ("GET", "/subjects/nobody/versions/1", None, (404, 40401)),
        ("GET", "/subjects/known/versions/7", None, (404, 40402)),
        ("GET", "/subjects/known/versions/0", None, (422, 42202)),
        ("GET", "/subjects/known/versions/one", None, (422, 42202)),
        ("GET", "/subjects/known/versions/99999999999", None, (422, 42202)),
        ("GET", "/schemas/ids/2147483647", None, (404, 40403)),
        ("GET", "/schemas/ids/x", None, (404, 404)),
        ("POST", "/subjects/nobody", schema_body('"int"'), (404, 40401)),
        ("POST", "/subjects/known", schema_body('"int"'), (404, 40403)),
        ("POST", "/subjects/known", schema_body("{"), (422, 42201)),
        ("POST", "/subjects/bad/versions", schema_body('{"type": "unheard"}'), (422, 42201)),
        ("POST", "/subjects/bad/versions", schema_body("[NaN]", "JSON"), (422, 42201)),
        ("POST", "/subjects/bad/versions", schema_body('{"type": 5}', "JSON"), (422, 42201)),
        (
            "POST",
            "/subjects/bad/versions",
            schema_body('{"$ref": "http://127.0.0.1:1/x"}', "JSON"),
            (422, 42201),
        ),
        ("POST", "/subjects/bad/versions", schema_body("message {", "PROTOBUF"), (422, 42201)),
        ("POST", "/subjects/bad/versions", schema_body('"int"', "XML"), (422, 42201)),
        ("POST", "/subjects/bad/versions", {"schema": 5}, (422, 42201)),
        ("POST", "/subjects/bad/versions", {}, (422, 42201)),
        ("POST", "/subjects/bad/versions", b"{", (400, 400)),
        ("POST", "/subjects/bad/versions", b"[" * 100_000, (400, 400)),
        ("POST", "/subjects/bad/versions", schema_body("[" * 100_000), (422, 42201)),
        ("POST", "/subjects/bad/versions", schema_body('"\ud800"'), (422, 42201)),
        (
            "POST",
            "/subjects/bad/versions",
            {**schema_body('"int"'), "ruleSet": {"domainRules": []}},
            (422, 42201),
        ),
        ("POST", "/subjects/bad/versions", {**schema_body('"int"'), "id": 7}, (422, 42205)),
        (
            "POST",
            "/subjects/bad/versions",
            {**schema_body('"int"'), "references": [{"name": "x", "subject": "nobody", "version": 1}]},
            (422, 42201),
        ),
        (
            "POST",
            "/subjects/known/versions",
            {**schema_body('"int"'), "references": [{"name": "\ud800", "subject": "known", "version": 1}]},
            (422, 42201),
        ),
        ("DELETE", "/subjects/", None, (405, 405)),
        ("POST", "/subjects/__GLOBAL/versions", schema_body('"int"'), (422, 42208)),
        ("POST", "/subjects/%0a/versions", schema_body('"int"'), (422, 42208)),
        ("POST", "/subjects/bad/versions", b'{"schema":"' + b"x" * (1 << 20) + b'"}', (413, 413)),
        ("DELETE", "/subjects/nobody", None, (404, 40401)),
        ("DELETE", "/subjects/known/versions/9", None, (404, 40402)),
        ("GET", "/config/nobody", None, (404, 40408)),
        ("PUT", "/config/known", {"compatibility": "SOME"}, (422, 42203)),
        ("PUT", "/config", {}, (422, 42203)),
        ("GET", "/mode/nobody", None, (404, 40409)),
        ("PUT", "/mode", {"mode": "SOME"}, (422, 42204)),
        ("PUT", "/mode", {"mode": "IMPORT"}, (422, 42205)),
        (
            "GET",
            "/associations/resources/-/orders?resourceType=topic&associationType=value",
            None,
            (404, 404),
        ),
        ("GET", "/subjects/a/b/c/d", None, (404, 404)),
        ("PATCH", "/subjects", None, (405, 405)),
    ],
)
def test_what_is_refused_has_a_code(
    registry: RegistryProcess, method: str, path: str, body: object, error: tuple[int, int]
) -> None:
    registry.register("known", '"string"')
    answer = registry.ask(method, path, body)
    assert answer.error == error, answer.body
    assert isinstance(answer.json["message"], str)


def test_a_slash_at_the_end_says_nothing(registry: RegistryProcess, subject: str) -> None:
    assert registry.ask("POST", f"/subjects/{subject}/versions/", schema_body('"int"')).status == 200
    assert subject in registry.ask("GET", "/subjects/").json
    assert registry.ask("GET", f"/subjects/{subject}/versions/").json == [1]


def test_a_subject_without_versions_takes_any_schema(registry: RegistryProcess, subject: str) -> None:
    """As a build asks before the first is registered."""
    test = f"/compatibility/subjects/{subject}/versions"
    for path in (test, f"{test}/latest"):
        assert registry.ask("POST", path, schema_body('"int"')).json == {"is_compatible": True}
        assert registry.ask("POST", path, schema_body("{")).error == (422, 42201)
    assert registry.ask("POST", f"{test}/1", schema_body('"int"')).status == 404


def test_a_list_has_an_end_whatever_limit_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(api, "LIST_MAX", 3)
    for limit, size in (("-1", 3), ("2", 2), ("2147483647", 3)):
        head = Head(method="GET", path=(), query={"limit": limit}, headers={}, peer="")
        assert len(api._page(head, range(10))) == size


def test_levels_decide_what_is_compatible(registry: RegistryProcess, subject: str) -> None:
    grown = record("R", "a", b=0)
    assert registry.register(subject, record("R", "a")).status == 200
    refused = registry.register(subject, record("R", "a", "b"))
    assert refused.error == (409, 409) and "reader_field_missing_default_value" in refused.json["message"]
    test = f"/compatibility/subjects/{subject}/versions"
    assert registry.ask("POST", f"{test}/latest", schema_body(grown)).json == {"is_compatible": True}
    said = registry.ask("POST", f"{test}/1", schema_body(record("R", "a", "b")), verbose=True).json
    assert said["is_compatible"] is False and said["messages"]
    assert registry.ask("POST", f"{test}/9", schema_body(grown)).error == (404, 40402)
    assert registry.ask("POST", test, schema_body(grown)).json == {"is_compatible": True}
    assert registry.ask("POST", "/compatibility/subjects/nobody/versions", schema_body(grown)).json[
        "is_compatible"
    ]

    config = f"/config/{subject}"
    assert registry.ask("GET", config, defaultToGlobal=True).json == {"compatibilityLevel": "BACKWARD"}
    assert registry.ask("PUT", config, {"compatibility": "forward"}).json == {"compatibility": "FORWARD"}
    assert registry.ask("GET", config).json == {"compatibilityLevel": "FORWARD"}
    assert registry.register(subject, record("R", "a", "b")).status == 200, (
        "old readers pass over what is new"
    )
    assert registry.register(subject, record("R")).error == (409, 409)
    assert registry.ask("PUT", config, {"compatibility": "NONE"}).status == 200
    assert registry.register(subject, '"string"').status == 200
    assert registry.register(subject, {"type": "object"}, "JSON").status == 200, "of another type, even"
    assert registry.ask("DELETE", config).json == {"compatibilityLevel": "NONE"}
    assert registry.ask("DELETE", config).error == (404, 40408)
    assert registry.ask("GET", f"/subjects/{subject}/versions").json == [1, 2, 3, 4]


def test_transitive_levels_look_at_every_version(registry: RegistryProcess, subject: str) -> None:
    for schema in (record("T", "a"), record("T"), record("T", a=0)):
        assert registry.register(subject, schema).status == 200
    registry.ask("PUT", f"/config/{subject}", {"compatibility": "BACKWARD"})
    text = {"type": "record", "name": "T", "fields": [{"name": "a", "type": "string", "default": ""}]}
    bare = record("T", z=0)
    assert registry.register(subject, bare).status == 200
    test = f"/compatibility/subjects/{subject}/versions"
    assert registry.ask("POST", test, schema_body(text)).json["is_compatible"] is True
    registry.ask("PUT", f"/config/{subject}", {"compatibility": "BACKWARD_TRANSITIVE"})
    assert registry.ask("POST", test, schema_body(text)).json["is_compatible"] is False
    assert registry.register(subject, text).error == (409, 409)


def test_soft_and_hard_deletion(registry: RegistryProcess, subject: str) -> None:
    path = f"/subjects/{subject}"
    ids = [
        registry.register(subject, schema).json["id"] for schema in (record("D", "a"), record("D", "a", b=0))
    ]
    assert registry.ask("DELETE", f"{path}/versions/1", permanent=True).error == (404, 40407)
    assert registry.ask("DELETE", f"{path}/versions/1").json == 1
    assert registry.ask("DELETE", f"{path}/versions/1").error == (404, 40406)
    assert registry.ask("GET", f"{path}/versions").json == [2]
    assert registry.ask("GET", f"{path}/versions", deleted=True).json == [1, 2]
    assert registry.ask("GET", f"{path}/versions", deletedOnly=True).json == [1]
    assert registry.ask("GET", f"{path}/versions/1").error == (404, 40402)
    assert registry.ask("GET", f"{path}/versions/1", deleted=True).json["id"] == ids[0]
    assert registry.ask("GET", f"/schemas/ids/{ids[0]}").status == 200, "records that have it are still read"
    assert registry.ask("POST", path, schema_body(record("D", "a"))).error == (404, 40403)
    assert registry.ask("POST", path, schema_body(record("D", "a")), deleted=True).json["version"] == 1
    assert registry.ask("DELETE", path, permanent=True).error == (404, 40405)
    assert registry.ask("DELETE", path).json == [2]
    assert registry.ask("DELETE", path).error == (404, 40404)
    assert subject not in registry.ask("GET", "/subjects").json
    assert subject in registry.ask("GET", "/subjects", deleted=True).json
    assert subject in registry.ask("GET", "/subjects", deletedOnly=True).json
    assert registry.register(subject, record("D", "a")).json["id"] == ids[0], "the same schema, the same id"
    assert registry.ask("GET", f"{path}/versions").json == [3], "numbers go on"
    registry.ask("DELETE", path)
    assert registry.ask("DELETE", path, permanent=True).json == [1, 2, 3]
    assert registry.ask("GET", f"/schemas/ids/{ids[1]}").error == (404, 40403)
    again = registry.register(subject, record("D", "a", b=0)).json["id"]
    assert again > max(ids), "an id that is gone means nothing else later"
    assert registry.ask("GET", f"{path}/versions").json == [1]


def test_modes(registry: RegistryProcess, subject: str) -> None:
    mode = f"/mode/{subject}"
    assert registry.ask("GET", "/mode").json == {"mode": "READWRITE"}
    assert registry.ask("PUT", mode, {"mode": "READONLY"}).json == {"mode": "READONLY"}
    assert registry.register(subject, '"int"').error == (422, 42205)
    assert registry.ask("PUT", mode, {"mode": "IMPORT"}).status == 200
    assert registry.register(subject, '"int"').error == (422, 42205)
    imported = {**schema_body('{"type":"fixed","name":"F","size":3}'), "id": 70_000, "version": 5}
    assert registry.ask("POST", f"/subjects/{subject}/versions", imported).json == {"id": 70_000}
    other = {**schema_body('{"type":"fixed","name":"F","size":4}'), "id": 70_000, "version": 6}
    assert registry.ask("POST", f"/subjects/{subject}/versions", other).error == (422, 42205)
    assert registry.ask("DELETE", mode).json == {"mode": "IMPORT"}
    assert registry.ask("GET", mode, defaultToGlobal=True).json == {"mode": "READWRITE"}
    assert registry.ask("GET", f"/subjects/{subject}/versions").json == [5]
    assert registry.register(f"{subject}-b", record("New", "q")).json["id"] > 70_000


def test_normalize_makes_one_of_two(registry: RegistryProcess, subject: str) -> None:
    one = '{"type":"record","name":"N","namespace":"a.b","fields":[],"z":1,"y":2}'
    two = '{"y":2,"z":1,"fields":[],"name":"a.b.N","type":"record"}'
    first = registry.register(subject, one, normalize=True).json["id"]
    assert registry.register(subject, two, normalize=True).json["id"] == first
    assert registry.ask("POST", f"/subjects/{subject}", schema_body(two), normalize=True).json["id"] == first
    assert registry.ask("POST", f"/subjects/{subject}", schema_body(one)).error == (404, 40403)
    registry.ask("PUT", f"/config/{subject}", {"normalize": True})
    assert registry.ask("GET", f"/config/{subject}").json == {
        "compatibilityLevel": "BACKWARD",
        "normalize": True,
    }
    assert registry.ask("POST", f"/subjects/{subject}", schema_body(one)).json["id"] == first


def test_references_hold_what_they_refer_to(registry: RegistryProcess, subject: str) -> None:
    base = f"{subject}%2Fbase.proto"  # as clients name a file in a folder
    file = 'syntax = "proto3"; package r; message Money { int64 cents = 1; }'
    assert registry.register(base, file, "PROTOBUF").status == 200
    order = 'syntax = "proto3"; package r; import "r/money.proto"; message Order { Money price = 1; }'
    body = {
        **schema_body(order, "PROTOBUF"),
        "references": [{"name": "r/money.proto", "subject": f"{subject}/base.proto", "version": 1}],
    }
    made = registry.ask("POST", f"/subjects/{subject}/versions", body)
    assert made.status == 200, made.body
    assert registry.ask("GET", f"/subjects/{base}/versions/1/referencedby").json == [made.json["id"]]
    assert registry.ask("GET", f"/schemas/ids/{made.json['id']}").json["references"] == body["references"]
    assert registry.ask("DELETE", f"/subjects/{base}/versions/1").error == (422, 42206)
    assert registry.ask("DELETE", f"/subjects/{base}").error == (422, 42206)
    registry.ask("DELETE", f"/subjects/{subject}")
    assert registry.ask("DELETE", f"/subjects/{base}").json == [1]
    assert registry.ask("POST", f"/subjects/{subject}-late/versions", body).error == (422, 42201)
    gone = registry.ask("DELETE", f"/subjects/{base}", permanent=True)
    assert gone.error == (422, 42206), "records of a schema that was deleted softly are still read"
    shown = registry.ask("GET", f"/schemas/ids/{made.json['id']}", format="serialized")
    assert shown.status == 200, shown.body
    assert registry.ask("DELETE", f"/subjects/{subject}", permanent=True).json == [1]
    assert registry.ask("DELETE", f"/subjects/{base}", permanent=True).json == [1]


def test_a_version_may_be_referred_to_by_its_own_subject(registry: RegistryProcess, subject: str) -> None:
    path = f"/subjects/{subject}"
    registry.ask("PUT", f"/config/{subject}", {"compatibility": "NONE"})
    assert registry.register(subject, record("Inner", "a")).status == 200
    outer = {"type": "record", "name": "Outer", "fields": [{"name": "inner", "type": "Inner"}]}
    body = {
        **schema_body(outer),
        "references": [{"name": "Inner", "subject": subject, "version": 1}],
    }
    assert registry.ask("POST", f"{path}/versions", body).status == 200
    assert registry.ask("DELETE", f"{path}/versions/1").error == (422, 42206)
    assert registry.ask("DELETE", path).json == [1, 2], "all of them at once leave nobody behind"
    assert registry.ask("DELETE", f"{path}/versions/1", permanent=True).error == (422, 42206)
    assert registry.ask("DELETE", path, permanent=True).json == [1, 2]


def test_protobuf_is_one_schema_in_both_forms(registry: RegistryProcess, subject: str) -> None:
    id = registry.register(subject, PROTO, "PROTOBUF").json["id"]
    shown = registry.ask("GET", f"/schemas/ids/{id}").json
    assert shown["schemaType"] == "PROTOBUF" and "map<string, .p.A> more = 2;" in shown["schema"]
    serialized = registry.ask("GET", f"/schemas/ids/{id}", format="serialized").json["schema"]
    assert b"more" in base64.b64decode(serialized)
    assert registry.register(subject, serialized, "PROTOBUF").json["id"] == id
    assert registry.register(subject, shown["schema"], "PROTOBUF").json["id"] == id
    broken = registry.register(subject, PROTO.replace("int64", "Unheard"), "PROTOBUF")
    assert (
        broken.error == (422, 42201)
        and "Unheard" in broken.json["message"]
        and "/" not in broken.json["message"]
    )
    changed = PROTO.replace("int64 x", "string x")
    assert registry.register(subject, changed, "PROTOBUF").error == (409, 409)


def test_a_stranger_needs_a_token(broker: BrokerProcess, log: Path, tmp_path: Path, topic: str) -> None:
    admin, viewer = tmp_path / "admin", tmp_path / "viewer"
    admin.write_text("a" * 32)
    viewer.write_text("v" * 32)
    arguments = ("--topic", topic, "--token-file", str(admin), "--viewer-token-file", str(viewer))
    with RegistryProcess(broker.bootstrap, log, *arguments, host="0.0.0.0") as guarded:
        path, body = "/subjects/s/versions", schema_body('"int"')
        assert guarded.ask("GET", "/livez").status == 200
        assert guarded.ask("GET", "/subjects").error == (401, 401)
        assert guarded.ask("POST", path, body, headers={"Authorization": "Bearer guess"}).error == (401, 401)
        as_viewer, as_admin = ({"Authorization": f"Bearer {letter * 32}"} for letter in "va")
        assert guarded.ask("POST", path, body, headers=as_viewer).error == (403, 403)
        assert guarded.ask("POST", path, body, headers=as_admin).json == {"id": 1}
        assert guarded.ask("POST", "/subjects/s", body, headers=as_viewer).json["version"] == 1
        assert guarded.ask("GET", "/subjects", headers=as_viewer).json == ["s"]
        for method, one in (
            ("PUT", "/config"),
            ("DELETE", "/subjects/s"),
            ("PUT", "/mode"),
            ("DELETE", "/config"),
        ):
            assert guarded.ask(method, one, {}, headers=as_viewer).error == (403, 403)


def test_others_are_served_probes_alone_without_a_token(broker: BrokerProcess, log: Path, topic: str) -> None:
    with RegistryProcess(broker.bootstrap, log, "--topic", topic, host="0.0.0.0") as open_to_all:
        assert open_to_all.ask("GET", "/readyz").status == 200
        refused = open_to_all.ask("GET", "/subjects")
        assert refused.error == (403, 403) and "--token-file" in refused.json["message"]


def test_others_are_served_everything_when_they_may(broker: BrokerProcess, log: Path, topic: str) -> None:
    """As in a compose file; who asks by a name that is not the registry's is a page of the web, still."""
    arguments = ("--topic", topic, "--insecure")
    with RegistryProcess(broker.bootstrap, log, *arguments, host="0.0.0.0") as open_to_all:
        assert open_to_all.register("s", '"int"').json == {"id": 1}
        answer = open_to_all.ask("GET", "/subjects", headers={"Host": "evil.example:8081"})
        assert answer.error == (421, 421)


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Content-Type": "text/plain"}, 415),
        ({"Origin": "http://evil.example"}, 403),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Host": "evil.example:8081"}, 421),
    ],
)
def test_a_page_of_another_site_changes_nothing(
    registry: RegistryProcess, subject: str, headers: dict[str, str], status: int
) -> None:
    answer = registry.ask("POST", f"/subjects/{subject}/versions", schema_body('"int"'), headers=headers)
    assert answer.error == (status, status)
    assert registry.ask("GET", f"/subjects/{subject}/versions").error == (404, 40401)
