"""Queries over HTTP of a worker's stores, on an embedded broker."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

import pytest
import trio
from click.testing import CliRunner

from raftlog import streams as rs
from raftlog.cli import main
from raftlog.testing import EmbeddedCluster
from tests.http.raw import Answer, ask

PATIENCE_S = 60
PAGE = "<!doctype html><title>ours</title><script>fetch('/stores')</script>"


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory):
    with EmbeddedCluster(1, data_dir=tmp_path_factory.mktemp("queries")) as cluster:
        yield cluster


def counting(name: str) -> rs.App:
    app = rs.App(name, commit_ms=100)
    app.stream(f"{name}-in", value=rs.TEXT).count("counts")
    return app


def listening() -> tuple[socket.socket, str]:
    found = socket.create_server(("127.0.0.1", 0))
    found.setblocking(False)
    host, port = found.getsockname()
    return found, f"{host}:{port}"


async def get(address: str, path: str, **more: Any) -> Answer:
    return await trio.to_thread.run_sync(lambda: ask(address, path, **more))


async def until(address: str, path: str, status: int) -> Answer:
    with trio.fail_after(PATIENCE_S):
        while (answer := await get(address, path)).status != status:  # noqa: ASYNC110 - it is the worker's state
            await trio.sleep(0.05)
    return answer


async def test_a_worker_answers_for_its_own_partitions(broker: EmbeddedCluster, tmp_path: Path):
    topic = broker.create_topic("asked-in", partitions=2)
    ours, other = listening(), listening()
    async with broker.client() as client, trio.open_nursery() as nursery:

        async def work(name: str, http: rs.Http) -> None:
            await rs.run(counting("asked"), broker.bootstrap, state=str(tmp_path), name=name, http=http)

        nursery.start_soon(work, "a", rs.Http(listen=[ours[0]], page=PAGE))
        async with client.producer() as producer:
            for key in (b"0", b"1", b"2", b"a/b"):
                await producer.send(topic, b"", key=key)
        address = ours[1]
        for key in ("0", "1", "2"):
            assert (await until(address, f"/stores/counts/{key}", 200)).json()["value"] == 1
        assert (await until(address, "/stores/counts/a%2Fb", 200)).json()["key"] == "a/b"
        assert (await get(address, "/stores/counts/none")).status == 404
        assert (await get(address, "/stores/none")).status == 404
        assert len((await get(address, "/stores/counts")).json()["rows"]) == 4
        assert (await get(address, "/stores/counts?limit=2")).json()["complete"] is False
        assert (await get(address, "/stores/counts?limit=1001")).status == 400
        assert (await get(address, "/stores/counts", method="DELETE")).status == 405
        assert (await get(address, "/health")).json() == {"app": "asked", "running": 2, "restoring": 0}
        page = await get(address, "/")
        assert page.body.decode() == PAGE and "script-src" in page.headers["content-security-policy"]
        assert (await get(address, "/", headers={"Host": "evil.example"})).status == 200  # tells nothing
        assert (await get(address, "/stores", headers={"Host": "evil.example"})).status == 421

        nursery.start_soon(work, "b", rs.Http(listen=[other[0]]))
        answers = {}
        with trio.fail_after(PATIENCE_S):
            while sorted(answers.values()) != [200, 421]:
                await trio.sleep(0.05)
                answers = {each: (await get(each, "/stores/counts/0")).status for each in (address, other[1])}
        nursery.cancel_scope.cancel()


async def test_with_a_token_nobody_else_is_answered(broker: EmbeddedCluster, tmp_path: Path):
    broker.create_topic("secret-in")
    sock, address = listening()
    async with trio.open_nursery() as nursery:
        http = rs.Http(listen=[sock], token=b"0123456789abcdef")
        nursery.start_soon(
            lambda: rs.run(counting("secret"), broker.bootstrap, state=str(tmp_path), http=http)
        )
        await until(address, "/health", 200)
        assert (await get(address, "/stores")).status == 401
        known = {"Authorization": "Bearer 0123456789abcdef"}
        assert (await get(address, "/stores", headers=known)).json()[0]["name"] == "counts"
        nursery.cancel_scope.cancel()


async def test_a_port_that_is_taken_is_told(broker: EmbeddedCluster, tmp_path: Path):
    sock, address = listening()
    with sock, pytest.raises(OSError, match="in use"):
        await rs.run(counting("taken"), broker.bootstrap, state=str(tmp_path), http=rs.Http(listen=address))


def test_two_workers_do_not_listen_at_one_place(tmp_path: Path):
    file = tmp_path / "app.py"
    file.write_text("from raftlog import streams as rs\napp = rs.App('a')\napp.stream('in').to('out')\n")
    command = ["streams", "run", f"{file}:app", "--workers", "2", "--listen", "127.0.0.1:0"]
    result = CliRunner().invoke(main, command)
    assert result.exit_code == 2 and "--listen is one worker's" in result.output
