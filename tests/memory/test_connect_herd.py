"""Connectors that are told to run and to stop, without a log."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Any

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from raftlog.connect import herd, positions
from raftlog.connect.configs import Configs
from raftlog.connect.errors import ConnectorFailed, NoConnector, PositionLost
from raftlog.connect.herd import Herd
from raftlog.connect.rest import ConnectApp
from raftlog.connect.rest_connectors import ConnectorCalls
from raftlog.errors import ConfigError
from raftlog.http.guard import Tokens
from raftlog.http.messages import Refusal, Request, parse_target
from raftlog.http.service import Access

GENERATOR = {"connector.class": "generator", "topic": "t"}


class InMemory(Configs):
    """Configurations that are written nowhere."""

    def __init__(self) -> None:
        super().__init__("configs", None)  # type: ignore[arg-type]

        self.written: list[dict[str, Any]] = []

    async def _write(self, values: Mapping[str, dict[str, Any] | None]) -> None:
        await trio.lowlevel.checkpoint()
        self.written.append(dict(values))


class Runs:
    """Stands for `run_one`: what runs now, and how it is to end."""

    def __init__(self) -> None:
        self.now: list[str] = []
        self.begun = 0
        self.error: Exception | None = None

    async def __call__(self, spec: Any, client: Any, topic: str, status: Any) -> None:
        self.begun += 1
        self.now.append(spec.name)
        status.state = "RUNNING"
        status.topics.add("t")
        try:
            if self.error is not None:
                raise self.error
            await trio.sleep_forever()
        finally:
            with trio.CancelScope(shield=True):
                await trio.sleep(1)  # its last flush
            self.now.remove(spec.name)


class Asked:
    """The calls about connectors, without a socket."""

    def __init__(self, worker: Herd) -> None:
        access = Access(
            what="worker", tokens=Tokens(admin=None, viewer=None), hosts=(), asks_nobody=True, closed=""
        )
        self._app = ConnectApp(ConnectorCalls(worker, "me").routes(), access)

    async def __call__(self, method: str, target: str, body: object = None) -> tuple[int, Any]:
        """Status and answer."""
        path, query = parse_target(target.encode())
        data = b"" if body is None else json.dumps(body).encode()
        request = Request(method=method, path=path, query=query, headers={}, peer="", body=data)
        try:
            answer = await self._app.handle(request)
        except Refusal as refusal:
            answer = self._app.refused(refusal)
        return answer.status, json.loads(answer.body or b"null")


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> Runs:
    found = Runs()
    monkeypatch.setattr(herd, "run_one", found)
    return found


async def test_a_connector_ends_before_it_begins_anew(autojump_clock: MockClock, runs: Runs) -> None:
    async with trio.open_nursery() as nursery:
        worker = Herd(None, nursery, InMemory(), "positions")  # type: ignore[arg-type]
        assert await worker.put("a", GENERATOR)
        await wait_all_tasks_blocked()
        for _ in range(3):
            async with trio.open_nursery() as several:
                several.start_soon(worker.restart, "a")
                several.start_soon(worker.put, "a", {**GENERATOR, "count": "5"})
            await wait_all_tasks_blocked()
            assert runs.now == ["a"]
        assert runs.begun == 7
        with pytest.raises(ConfigError):
            await worker.put("a", {**GENERATOR, "count": "many"})
        assert worker.configs.connectors["a"]["count"] == "5" and runs.begun == 7
        for target in ("PAUSED", "STOPPED"):
            await worker.aim("a", target)
            assert runs.now == [] and worker.members["a"].status.state == target
            assert worker.members["a"].status.topics == {"t"}
        await worker.aim("a", "RUNNING")
        await wait_all_tasks_blocked()
        await worker.delete("a")
        assert runs.now == [] and worker.members == {} and worker.configs.connectors == {}
        nursery.cancel_scope.cancel()


async def test_what_comes_after_a_deletion_is_refused(autojump_clock: MockClock, runs: Runs) -> None:
    """Two clients change one connector: none is left that has no options."""
    async with trio.open_nursery() as nursery:
        worker = Herd(None, nursery, InMemory(), "positions")  # type: ignore[arg-type]
        await worker.put("a", GENERATOR)
        await wait_all_tasks_blocked()
        refused = 0

        async def too_late(change: Callable[[], Awaitable[object]]) -> None:
            nonlocal refused
            await wait_all_tasks_blocked()
            with pytest.raises(NoConnector):
                await change()
            refused += 1

        async with trio.open_nursery() as several:
            several.start_soon(worker.delete, "a")
            several.start_soon(too_late, partial(worker.aim, "a", "PAUSED"))
            several.start_soon(too_late, partial(worker.restart, "a"))
            several.start_soon(too_late, partial(worker.delete, "a"))
            several.start_soon(too_late, partial(worker.change_offsets, "a", []))
        assert refused == 4 and worker.members == {} and runs.now == []
        nursery.cancel_scope.cancel()


async def test_a_deletion_is_one_step() -> None:
    """A worker that is killed leaves no target for the next connector of that name."""
    configs = InMemory()
    await configs.put("a", GENERATOR)
    await configs.aim("a", "STOPPED")
    configs.written.clear()
    await configs.delete("a")
    assert configs.written == [{"connector-a": None, "target-state-a": None}]


@pytest.mark.parametrize("error", [ConnectorFailed("a", "it is broken"), ValueError("it is broken")])
async def test_one_that_fails_leaves_the_others_alone(
    autojump_clock: MockClock, runs: Runs, error: Exception
) -> None:
    """Also by a mistake of its author."""
    async with trio.open_nursery() as nursery:
        worker = Herd(None, nursery, InMemory(), "positions")  # type: ignore[arg-type]
        await worker.put("good", GENERATOR)
        await wait_all_tasks_blocked()
        runs.error = error
        await worker.put("bad", GENERATOR)
        await trio.sleep(5)
        assert runs.now == ["good"]
        if isinstance(error, ValueError):
            assert worker.members["bad"].status.state == "FAILED"
            assert "it is broken" in worker.members["bad"].status.trace
        nursery.cancel_scope.cancel()


async def test_what_a_topic_says_that_is_wrong_is_a_failed_connector(
    autojump_clock: MockClock, runs: Runs
) -> None:
    """The worker starts all the same."""
    configs = InMemory()
    configs._take(b"connector-a", b'{"properties": {"connector.class": "generator"}}')
    configs._take(b"connector-b", b'{"properties": {"connector.class": "generator", "topic": "t"}}')
    configs._take(b"connector-c", b'{"properties": {"connector.class": "generator", "topic": "t"}}')
    configs._take(b"connector-d", b'{"properties": {"connector.class": "generator", "topic": "t"}}')
    configs._take(b"target-state-b", b'{"state": "PAUSED", "state.v2": "STOPPED"}')
    configs._take(b"target-state-c", b'{"state": "PAUSED"}')
    configs._take(b"connector-d", None)
    for odd in (b"no JSON", b"[]", b"{}", b'{"properties": 5}', b"[" * 200_000):
        configs._take(b"connector-x", odd)
        configs._take(b"target-state-b2", odd)
    configs._take(None, b"{}")
    async with trio.open_nursery() as nursery:
        worker = Herd(None, nursery, configs, "positions")  # type: ignore[arg-type]
        await worker.start()
        await wait_all_tasks_blocked()
        states = {name: member.status.state for name, member in worker.members.items()}
        assert states == {"a": "FAILED", "b": "STOPPED", "c": "PAUSED"}
        assert "needs topic" in worker.members["a"].status.trace
        nursery.cancel_scope.cancel()


def test_a_position_that_cannot_be_read_is_its_connectors_alone() -> None:
    """Also one that is nested without end; by `on_position_lost` it begins anew."""
    deep = b"[" * 200_000
    strict, lenient = (positions.Positions(None, "p", "a", on_lost) for on_lost in ("fail", "start"))  # type: ignore[arg-type]
    for each in (strict, lenient):
        each._take(b'["a", {"n": 1}]', b'{"at": 1}')
        each._take(deep, b"{}")
        each._take(b'["a", ' + deep, b"{}")
        each._take(b'["b", {"n": 1}]', deep)
        assert len(each.stored) == 1
    with pytest.raises(PositionLost, match="cannot be read"):
        strict._take(b'["a", {"n": 1}]', deep)
    lenient._take(b'["a", {"n": 1}]', deep)
    assert not lenient.stored


async def test_where_a_source_is_is_read_on_from_the_last_look(
    autojump_clock: MockClock, runs: Runs, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The topic has all connectors' positions. All is read again when it was made anew, and after a time."""
    told: list[Any] = []
    there = {b'["a", {"n": 1}]': b'{"at": 1}', b'["b", {"n": 1}]': b'{"at": 7}'}
    is_anew = False

    async def read_all(client: Any, topic: str, take: Any, since: Any = None) -> Any:
        await trio.lowlevel.checkpoint()
        told.append(since)
        if since is not None and is_anew:
            raise PositionLost("it is another")
        for key, value in there.items():
            take(key, value)
        return {"p": len(told)}

    monkeypatch.setattr(positions, "read_all", read_all)
    async with trio.open_nursery() as nursery:
        worker = Herd(None, nursery, InMemory(), "positions")  # type: ignore[arg-type]
        await worker.put("a", GENERATOR)
        assert await worker.offsets("a") == [{"partition": {"n": 1}, "offset": {"at": 1}}]
        there[b'["a", {"n": 1}]'] = b'{"at": 2}'
        assert await worker.offsets("a") == [{"partition": {"n": 1}, "offset": {"at": 2}}]
        assert told == [None, {"p": 1}]
        is_anew, there = True, {}
        assert await worker.offsets("a") == []
        assert told[2:] == [{"p": 2}, None]
        await trio.sleep(positions.DELETIONS_SECONDS + 1)
        assert await worker.offsets("a") == [] and told[4:] == [None]
        await worker.delete("a")
        await worker.put("a", GENERATOR)
        assert await worker.offsets("a") == [] and told[5:] == [None]
        nursery.cancel_scope.cancel()


async def test_one_that_is_being_deleted_is_no_trouble_for_who_asks(
    autojump_clock: MockClock, runs: Runs
) -> None:
    """It has no options any more, and ends after its last flush: the list has the others meanwhile."""
    async with trio.open_nursery() as nursery:
        worker = Herd(None, nursery, InMemory(), "positions")  # type: ignore[arg-type]
        ask = Asked(worker)
        for name in ("a", "b"):
            assert (await ask("PUT", f"/connectors/{name}/config", GENERATOR))[0] == 201
        await wait_all_tasks_blocked()
        nursery.start_soon(worker.delete, "a")
        await wait_all_tasks_blocked()
        assert runs.now == ["a", "b"], "it has not ended yet"
        assert await ask("GET", "/connectors") == (200, ["b"])
        for expand in ("info", "status"):
            status, told = await ask("GET", f"/connectors?expand={expand}")
            assert (status, list(told)) == (200, ["b"])
        for path in ("", "/config", "/status", "/tasks", "/tasks/0/status", "/topics", "/offsets"):
            assert (await ask("GET", f"/connectors/a{path}"))[0] == 404, path
        assert (await ask("DELETE", "/connectors/a"))[0] == 404
        assert (await ask("POST", "/connectors", {"name": "a", "config": GENERATOR}))[0] == 201
        await wait_all_tasks_blocked()
        assert runs.now == ["b", "a"] and await ask("GET", "/connectors") == (200, ["b", "a"])
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize(
    ("wanted", "state", "tasks"),
    [("RUNNING", "RUNNING", 1), ("PAUSED", "PAUSED", 1), ("stopped", "STOPPED", 0), (None, "RUNNING", 1)],
)
async def test_a_connector_begins_as_it_is_asked_for(
    autojump_clock: MockClock, runs: Runs, wanted: str | None, state: str, tasks: int
) -> None:
    """By `initial_state` (KIP-980): options and target are one step, so that none runs that was not to."""
    configs = InMemory()
    async with trio.open_nursery() as nursery:
        worker = Herd(None, nursery, configs, "positions")  # type: ignore[arg-type]
        ask = Asked(worker)
        asked = {"name": "a", "config": GENERATOR}
        status, told = await ask("POST", "/connectors", {**asked, "initial_state": "ASLEEP"})
        assert (status, told["error_code"]) == (400, 400) and "initial_state" in told["message"]
        assert worker.members == {}
        given = asked if wanted is None else {**asked, "initial_state": wanted}
        assert (await ask("POST", "/connectors", given))[0] == 201
        await wait_all_tasks_blocked()
        _, told = await ask("GET", "/connectors/a/status")
        assert (told["connector"]["state"], len(told["tasks"])) == (state, tasks)
        assert runs.begun == (1 if state == "RUNNING" else 0) and len(configs.written) == 1
        again = InMemory()
        for key, value in configs.written[0].items():
            again._take(key.encode(), json.dumps(value).encode())
        assert again.targets == ({} if wanted is None else {"a": state})
        assert again.connectors == {"a": GENERATOR}
        nursery.cancel_scope.cancel()


async def test_of_two_who_make_one_connector_one_does(autojump_clock: MockClock, runs: Runs) -> None:
    """The other's options do not replace the first's."""
    async with trio.open_nursery() as nursery:
        worker = Herd(None, nursery, InMemory(), "positions")  # type: ignore[arg-type]
        ask = Asked(worker)
        statuses: list[int] = []

        async def make(count: str) -> None:
            asked = {"name": "a", "config": {**GENERATOR, "count": count}}
            status, _ = await ask("POST", "/connectors", asked)
            statuses.append(status)
            if status == 201:
                assert worker.configs.connectors["a"]["count"] == count

        async with trio.open_nursery() as several:
            several.start_soon(make, "1")
            several.start_soon(make, "2")
        await wait_all_tasks_blocked()
        assert sorted(statuses) == [201, 409] and runs.begun == 1
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("method", ["PATCH", "DELETE"])
async def test_offsets_of_one_that_runs_again_do_not_change(
    autojump_clock: MockClock, runs: Runs, method: str
) -> None:
    """It was stopped when somebody asked, and has begun when it is their turn."""
    async with trio.open_nursery() as nursery:
        worker = Herd(None, nursery, InMemory(), "positions")  # type: ignore[arg-type]
        ask = Asked(worker)
        await worker.put("a", GENERATOR)
        await worker.aim("a", "STOPPED")
        answers: list[tuple[int, Any]] = []

        async def change() -> None:
            body = {"offsets": [{"partition": {"n": 1}, "offset": None}]} if method == "PATCH" else None
            answers.append(await ask(method, "/connectors/a/offsets", body))

        async with trio.open_nursery() as several, worker._lock:
            several.start_soon(worker.aim, "a", "RUNNING")
            await wait_all_tasks_blocked()
            several.start_soon(change)
            await wait_all_tasks_blocked()
        ((status, told),) = answers
        assert status == 400 and "must be in the STOPPED state" in told["message"]
        nursery.cancel_scope.cancel()
