"""Calls about connectors: what they are, how they do, where they are; and to change each of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from raftlog.connect.configs import Target
from raftlog.connect.herd import Herd, Member
from raftlog.connect.rest_calls import flat_of, route
from raftlog.errors import ConfigError
from raftlog.http.messages import Refusal, Request, Response
from raftlog.http.routes import Route
from raftlog.version import version


class ConnectorCalls:
    """What is answered."""

    def __init__(self, herd: Herd, worker_id: str) -> None:
        self._herd = herd
        self._worker_id = worker_id

    def routes(self) -> list[Route]:
        """The table of calls."""
        one = "/connectors/{}"
        table = (
            ("GET", "/connectors", self.connectors, "Names, or with `expand` what they are and how they do."),
            ("POST", "/connectors", self.create, "Make a connector."),
            ("GET", one, self.connector, "What a connector is."),
            ("DELETE", one, self.delete, "End it."),
            ("GET", one + "/config", self.config, "Its options."),
            ("PUT", one + "/config", self.put, "Set its options, or make it."),
            ("GET", one + "/status", self.status, "How it does."),
            ("PUT", one + "/pause", self.pause, "Have it pause."),
            ("PUT", one + "/resume", self.resume, "Have it run."),
            ("PUT", one + "/stop", self.stop, "Have it stop."),
            ("POST", one + "/restart", self.restart, "Run it anew."),
            ("GET", one + "/tasks", self.tasks, "Its task."),
            ("GET", one + "/tasks/{}/status", self.task, "How the task does."),
            ("POST", one + "/tasks/{}/restart", self.restart_task, "Run the task anew."),
            ("GET", one + "/topics", self.topics, "The topics that it wrote or read."),
            ("PUT", one + "/topics/reset", self.forget_topics, "Forget them."),
            ("GET", one + "/offsets", self.offsets, "Where it is."),
            ("PATCH", one + "/offsets", self.change_offsets, "Have a stopped one go on elsewhere."),
            ("DELETE", one + "/offsets", self.forget_offsets, "Have a stopped one begin anew."),
        )
        return [route(*each) for each in table]

    def _member(self, name: str, told: str = "Connector {} not found") -> Member:
        member = self._herd.listed().get(name)
        if member is None:
            raise Refusal(404, "NOT_FOUND", told.format(name))
        return member

    def _info(self, member: Member) -> dict[str, Any]:
        has_task = member.status.state != "STOPPED" and member.spec is not None
        return {
            "name": member.name,
            "config": self._config(member.name),
            "tasks": [{"connector": member.name, "task": 0}] if has_task else [],
            "type": member.kind,
        }

    def _config(self, name: str) -> dict[str, str]:
        return {**self._herd.configs.connectors[name], "name": name}

    def _status(self, member: Member) -> dict[str, Any]:
        status = member.status
        failed = {"trace": status.trace} if status.state == "FAILED" else {}
        place = {"state": status.state, "worker_id": self._worker_id, "version": version()}
        is_wrong = member.spec is None
        tasks = [] if status.state == "STOPPED" or is_wrong else [{"id": 0, **place, **failed}]
        connector = {**place, **failed} if is_wrong else {**place, "state": _of_connector(status.state)}
        return {"name": member.name, "connector": connector, "tasks": tasks, "type": member.kind}

    async def connectors(self, request: Request) -> Response:
        members = self._herd.listed().values()
        wanted = request.query.get("expand", "").split(",")
        if "expand" not in request.query:
            return Response.of([member.name for member in members])
        return Response.of(
            {
                member.name: {
                    **({"info": self._info(member)} if "info" in wanted else {}),
                    **({"status": self._status(member)} if "status" in wanted else {}),
                }
                for member in members
            }
        )

    async def create(self, request: Request) -> Response:
        given = request.json()
        name = str(given.get("name") or "").strip()
        config = flat_of(given.get("config"))
        _check_name(name, config)
        target = _target(given.get("initial_state"))
        with _options_judged():
            await self._herd.create(name, config, target)
        return self._made(name)

    async def put(self, request: Request, name: str) -> Response:
        config = flat_of(request.json())
        _check_name(name, config)
        with _options_judged():
            is_new = await self._herd.put(name, config)
        return self._made(name) if is_new else Response.of(self._info(self._member(name)))

    def _made(self, name: str) -> Response:
        told = {**self._info(self._member(name)), "tasks": []}  # which come when it runs
        return Response.of(told, 201, headers=(("Location", f"/connectors/{name}"),))

    async def connector(self, request: Request, name: str) -> Response:
        return Response.of(self._info(self._member(name)))

    async def config(self, request: Request, name: str) -> Response:
        self._member(name)
        return Response.of(self._config(name))

    async def status(self, request: Request, name: str) -> Response:
        return Response.of(self._status(self._member(name, "No status found for connector {}")))

    async def delete(self, request: Request, name: str) -> Response:
        self._member(name)
        await self._herd.delete(name)
        return Response(status=204)

    async def pause(self, request: Request, name: str) -> Response:
        self._member(name, "Unknown connector {}")
        await self._herd.aim(name, "PAUSED")
        return Response(status=202)

    async def resume(self, request: Request, name: str) -> Response:
        self._member(name, "Unknown connector {}")
        await self._herd.aim(name, "RUNNING")
        return Response(status=202)

    async def stop(self, request: Request, name: str) -> Response:
        self._member(name, "Unknown connector {}")
        await self._herd.aim(name, "STOPPED")
        return Response(status=204)

    async def restart(self, request: Request, name: str) -> Response:
        self._member(name, "Unknown connector: {}")
        with_tasks, only_failed = (
            request.query.get(one, "false").lower() == "true" for one in ("includeTasks", "onlyFailed")
        )
        await self._herd.restart(name, only_failed=only_failed)
        if not with_tasks and not only_failed:
            return Response(status=204)
        return Response.of(self._status(self._member(name)), 202)

    # -- tasks

    async def tasks(self, request: Request, name: str) -> Response:
        told = self._info(self._member(name))
        return Response.of([{"id": task, "config": told["config"]} for task in told["tasks"]])

    def _task(self, name: str, number: str, told: str) -> dict[str, Any]:
        found = [task for task in self._status(self._member(name))["tasks"] if str(task["id"]) == number]
        if not found:
            raise Refusal(404, "NOT_FOUND", f"{told} {name}-{number[:10]}")
        task: dict[str, Any] = found[0]
        return task

    async def task(self, request: Request, name: str, number: str) -> Response:
        return Response.of(self._task(name, number, "No status found for task"))

    async def restart_task(self, request: Request, name: str, number: str) -> Response:
        self._task(name, number, "Unknown task:")
        await self._herd.restart(name)
        return Response(status=204)

    # -- topics and offsets

    async def topics(self, request: Request, name: str) -> Response:
        return Response.of({name: {"topics": sorted(self._member(name).status.topics)}})

    async def forget_topics(self, request: Request, name: str) -> Response:
        self._member(name).status.topics.clear()
        return Response(status=202)

    async def offsets(self, request: Request, name: str) -> Response:
        self._member(name)
        return Response.of({"offsets": await self._herd.offsets(name)})

    async def change_offsets(self, request: Request, name: str) -> Response:
        self._member(name)
        given = request.json().get("offsets")
        if not isinstance(given, list) or not given:
            raise Refusal(
                400, "BAD_REQUEST", "Partitions / offsets need to be provided for an alter offsets request"
            )
        wanted = []
        for one in given:
            match one:
                case {"partition": dict(partition), "offset": dict() | None as offset}:
                    wanted.append((partition, offset))
                case _:
                    raise Refusal(400, "BAD_REQUEST", "each of offsets has a partition and an offset")
        await self._herd.change_offsets(name, wanted)
        return Response.of({"message": "The offsets for this connector have been altered successfully"})

    async def forget_offsets(self, request: Request, name: str) -> Response:
        self._member(name)
        await self._herd.forget_offsets(name)
        return Response.of({"message": "The offsets for this connector have been reset successfully"})


def _of_connector(state: str) -> str:
    """Of the connector itself, where its task has this: what fails is the task."""
    return "RUNNING" if state == "FAILED" else state


def _check_name(name: str, config: Mapping[str, str]) -> None:
    if config.get("name", name) != name:
        told = f"({config['name'][:100]}) doesn't match connector name in the URL ({name[:100]})"
        raise Refusal(400, "BAD_REQUEST", f"Connector name configuration {told}")


def _target(given: Any) -> Target | None:
    """What a new connector is to do at first (KIP-980); None where nothing is said. Raises Refusal."""
    match given.upper() if isinstance(given, str) else given:
        case None | "RUNNING" | "PAUSED" | "STOPPED" as target:
            return target
    raise Refusal(400, "BAD_REQUEST", "initial_state is RUNNING, PAUSED or STOPPED")


@contextmanager
def _options_judged() -> Iterator[None]:
    """What is wrong with options, as Kafka Connect tells it."""
    try:
        yield
    except ConfigError as error:
        raise Refusal(
            400,
            "BAD_REQUEST",
            f"Connector configuration is invalid and contains the following 1 error(s):\n{error}\n"
            "You can also find the above list of errors at the endpoint "
            "`/connector-plugins/{connectorType}/config/validate`",
        ) from error
