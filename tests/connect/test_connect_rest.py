"""The REST interface of a worker: what consoles call, beside what Kafka Connect answered."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import trio

from raftlog.testing import EmbeddedCluster
from tests.connect.console_calls import RECORDED, Peer, form, play

SAID_OTHERWISE = {
    "config": "the options of the two file sources have other names",
    "validate nothing": "Kafka Connect calls it an error of its own, 500; ours is 404",
    "loggers": "as it was recorded, its library for logging has none to tell of",
    "set a logger": "the same",
}
"""Answers that differ from Kafka Connect's, and why."""


@contextmanager
def serving(
    cluster: EmbeddedCluster, folder: Path, name: str, *more: str, **environment: str
) -> Iterator[Peer]:
    """A worker as a process."""
    command = [sys.executable, "-m", "raftlog", "connect", "serve", "--listen", "127.0.0.1:0", *more]
    command += ["--bootstrap", cluster.bootstrap]
    command += ["--configs-topic", f"{name}-configs", "--offsets-topic", f"{name}-offsets"]
    with (folder / "connect.log").open("ab") as log:
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=log, text=True, env=os.environ | environment
        )
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line.startswith("ready connect="), (line, (folder / "connect.log").read_text()[-3000:])
        lines = folder / "in.log"
        lines.write_text("one\ntwo\n")
        topic = f"{name}-lines"
        yield Peer(
            line.split()[1].removeprefix("connect="),
            "file-source",
            {"connector.class": "file-source", "paths": str(lines), "topic": topic, "tasks.max": "1"},
            {"connector.class": "file-sink", "topics": topic, "path": str(folder / "out")},
            {"filename": str(lines)},
        )
    finally:
        process.terminate()
        assert process.wait(60) == 0, (folder / "connect.log").read_text()[-3000:]
        process.stdout.close()


@pytest.mark.slow
def test_scenario_67_answers_are_those_of_kafka_connect(cluster: EmbeddedCluster, tmp_path: Path) -> None:
    """67: status codes, names of fields and types of values, for each call that kafbat UI and AKHQ make."""
    recorded = json.loads(RECORDED.read_text())
    cluster.create_topic("consoles-lines")
    with serving(cluster, tmp_path, "consoles") as peer:
        answers = play(peer)
    assert answers.keys() == recorded.keys()
    differ = {}
    for name, answer in answers.items():
        ours, theirs = ((one["status"], form(one["answer"])) for one in (answer, recorded[name]))
        if ours != theirs and name not in SAID_OTHERWISE:
            differ[name] = {"ours": ours, "theirs": theirs}
    assert not differ, json.dumps(differ, indent=1)


def read(cluster: EmbeddedCluster, topic: str) -> list[bytes | None]:
    """The values that are there."""

    async def all_of_it() -> list[bytes | None]:
        async with cluster.client() as client:
            (end,) = (await client.admin.end_offsets(topic)).values()
            found: list[bytes | None] = []
            async with client.consumer(
                topic, auto_offset_reset="earliest", isolation_level="read_committed"
            ) as consumer:
                while next(iter(consumer.positions().values()), 0) < end:
                    found += [one.value for one in await consumer.poll(1000, max_wait_ms=100)]
            return found

    return trio.run(all_of_it)


def until(done: Any) -> Any:
    give_up = time.monotonic() + 60
    while not (found := done()):
        assert time.monotonic() < give_up
        time.sleep(0.1)
    return found


@pytest.mark.slow
def test_scenarios_65_and_66_configs_and_offsets_change_and_outlive_the_worker(
    cluster: EmbeddedCluster, tmp_path: Path
) -> None:
    """65, 66: tasks restart with new options and old offsets; wrong options are refused, the old run on."""
    for topic in ("outlive-lines", "outlive-more"):
        cluster.create_topic(topic)
    lines = tmp_path / "in.log"

    with serving(cluster, tmp_path, "outlive") as peer:
        assert peer.ask("PUT", "/connectors/src/config", peer.source)[0] == 201
        until(lambda: len(read(cluster, "outlive-lines")) >= 2)
        changed = {**peer.source, "topic": "outlive-more"}
        status, told = peer.ask("PUT", "/connectors/src/config", {**changed, "topics": "x"})
        assert (status, told["error_code"]) == (400, 400) and "no option 'topics'" in told["message"]
        assert peer.ask("GET", "/connectors/src/config")[1]["topic"] == "outlive-lines"
        assert peer.ask("PUT", "/connectors/src/config", changed)[0] == 200
        with lines.open("a") as file:
            file.write("three\n")
        until(lambda: len(read(cluster, "outlive-more")) >= 1)
        assert peer.ask("PATCH", "/connectors/src/offsets", {"offsets": []})[0] == 400
        assert peer.ask("PUT", "/connectors/src/stop")[0] == 204
    with serving(cluster, tmp_path, "outlive") as peer:
        assert peer.ask("GET", "/connectors/src/status")[1]["connector"]["state"] == "STOPPED"
        assert peer.ask("GET", "/connectors/src/config")[1]["topic"] == "outlive-more"
        moved = {"offsets": [{"partition": {"filename": str(lines)}, "offset": {"position": 4}}]}
        assert peer.ask("PATCH", "/connectors/src/offsets", moved)[0] == 200
        assert peer.ask("GET", "/connectors/src/offsets")[1] == moved
        assert peer.ask("PUT", "/connectors/src/resume")[0] == 202
        found = until(lambda: peer.ask("GET", "/connectors/src/topics")[1]["src"]["topics"])
        assert found == ["outlive-more"]
        until(lambda: peer.ask("GET", "/connectors/src/offsets")[1]["offsets"][0]["offset"]["position"] == 8)


@pytest.mark.slow
def test_a_connector_that_fails_says_why_and_leaves_the_others_alone(
    cluster: EmbeddedCluster, tmp_path: Path
) -> None:
    topic = cluster.create_topic("fails-lines")
    with serving(cluster, tmp_path, "fails") as peer:
        peer.ask("PUT", "/connectors/src/config", peer.source)
        sink = {"connector.class": "sqlite-sink", "topics": topic, "path": str(tmp_path / "w.db")}
        peer.ask("PUT", "/connectors/out/config", sink)

        def failed() -> Any:
            (task,) = peer.ask("GET", "/connectors/out/status")[1]["tasks"]
            return task if task["state"] == "FAILED" else None

        assert "is no JSON" in until(failed)["trace"]
        assert peer.ask("GET", "/connectors/src/status")[1]["tasks"][0]["state"] == "RUNNING"
        good = {**sink, "errors.deadletterqueue.topic.name": cluster.create_topic("fails-dead")}
        assert peer.ask("PUT", "/connectors/out/config", good)[0] == 200
        until(lambda: len(read(cluster, "fails-dead")) == 2)
        assert failed() is None


@pytest.mark.slow
def test_a_connector_of_whatever_name_leaves_the_worker_its_own(
    cluster: EmbeddedCluster, tmp_path: Path
) -> None:
    """A source's producer must not fence that of the configurations. And a package that does not load is no
    reason not to show the others."""
    cluster.create_topic("names-lines")
    (tmp_path / "theirs-1.dist-info").mkdir()
    (tmp_path / "theirs-1.dist-info" / "entry_points.txt").write_text(
        "[raftlog.connectors]\nbroken = no.where:X\n"
    )
    (tmp_path / "theirs-1.dist-info" / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: theirs\nVersion: 1\n"
    )
    path = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    with serving(cluster, tmp_path, "names", PYTHONPATH=path) as peer:
        name = "configs-names-configs"
        assert peer.ask("PUT", f"/connectors/{name}/config", peer.source)[0] == 201
        until(lambda: len(read(cluster, "names-lines")) >= 2)
        assert peer.ask("PUT", f"/connectors/{name}/stop")[0] == 204
        status, plugins = peer.ask("GET", "/connector-plugins")
        assert status == 200 and {"file-source", "s3-sink"} <= {each["class"] for each in plugins}
        assert "broken" not in {each["class"] for each in plugins}
        assert peer.ask("PUT", "/connector-plugins/broken/config/validate", {})[0] == 404


@pytest.mark.slow
def test_who_may_ask(cluster: EmbeddedCluster, tmp_path: Path) -> None:
    """As with the registry: a token, where there is one; never a page of another site."""
    import urllib.request
    from urllib.error import HTTPError

    tokens = {name: tmp_path / name for name in ("admin", "viewer")}
    for name, path in tokens.items():
        path.write_text(f"{name}-token-0123456789")

    def status(url: str, method: str = "GET", **headers: str) -> int:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        request = urllib.request.Request(url, method=method, headers=named)
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return int(answer.status)
        except HTTPError as error:
            with error:
                return error.code

    more = ("--token-file", str(tokens["admin"]), "--viewer-token-file", str(tokens["viewer"]))
    with serving(cluster, tmp_path, "who", *more) as peer:
        viewer, admin = ({"Authorization": f"Bearer {name}-token-0123456789"} for name in ("viewer", "admin"))
        assert status(peer.url + "/health") == 200
        assert status(peer.url + "/connectors") == 401
        assert status(peer.url + "/connectors", **viewer) == 200
        assert status(peer.url + "/connectors/x/stop", "PUT", **viewer) == 403
        assert status(peer.url + "/connectors/x/stop", "PUT", **admin) == 404
        other = {"Origin": "http://evil.example", **admin}
        assert status(peer.url + "/connectors/x/stop", "PUT", **other) == 403
        assert status(peer.url + "/connectors", Host="evil.example", **admin) == 421
