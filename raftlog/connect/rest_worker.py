"""Calls about the worker: what it is, the kinds of connectors that it has, what it logs."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any, Final

from raftlog.connect import flat
from raftlog.connect.contract import Source
from raftlog.connect.options import HIDDEN, Described, describe
from raftlog.connect.pipeline import Errors, SinkSettings, SourceSettings
from raftlog.connect.plugins import Connector, find, installed
from raftlog.connect.rest_calls import flat_of, route, text
from raftlog.errors import ConfigError
from raftlog.http.guard import Need
from raftlog.http.messages import Refusal, Request, Response
from raftlog.http.routes import Route
from raftlog.version import commit, version

log: Final = logging.getLogger("raftlog.connect")

KINDS: Final = {
    "a whole number": "LONG",
    "a number": "DOUBLE",
    "true or false": "BOOLEAN",
    "a list of texts": "LIST",
}
LEVELS: Final = {
    "TRACE": logging.DEBUG,
    "DEBUG": logging.DEBUG,
    "INFO": logging.INFO,
    "WARN": logging.WARNING,
    "ERROR": logging.ERROR,
    "FATAL": logging.CRITICAL,
    "OFF": logging.CRITICAL + 1,
}


class WorkerCalls:
    """What is answered."""

    def __init__(self, cluster_id: str | None) -> None:
        self._cluster_id = cluster_id

    def routes(self) -> list[Route]:
        """The table of calls."""
        table = (
            ("GET", "/", self.root, "The worker's version."),
            ("GET", "/connector-plugins", self.plugins, "The kinds of connectors."),
            ("PUT", "/connector-plugins/{}/config/validate", self.validate, "Options of one, judged."),
            ("GET", "/admin/loggers", self.loggers, "What is logged."),
            ("PUT", "/admin/loggers/{}", self.set_logger, "Log more or less."),
        )
        probe = Route(
            method="GET", path="/health", need=Need.PROBE, handle=self.health, doc="It serves.", body_max=0
        )
        return [probe, *(route(*each) for each in table)]

    async def root(self, request: Request) -> Response:
        return Response.of({"version": version(), "commit": commit(), "kafka_cluster_id": self._cluster_id})

    async def health(self, request: Request) -> Response:
        return Response.of(
            {"status": "healthy", "message": "Worker has completed startup and is ready to handle requests."}
        )

    async def loggers(self, request: Request) -> Response:
        level = logging.getLevelName(logging.getLogger().level)
        return Response.of({"root": {"level": level.replace("WARNING", "WARN"), "last_modified": None}})

    async def set_logger(self, request: Request, name: str) -> Response:
        level = str(request.json().get("level", "")).upper()
        if level not in LEVELS:
            raise Refusal(404, "NOT_FOUND", f"invalid log level '{level[:40]}'.")
        logging.getLogger(None if name == "root" else name).setLevel(LEVELS[level])
        return Response.of([name])

    async def plugins(self, request: Request) -> Response:
        found, broken = installed()
        for error in broken.values():
            log.warning("%s", error)
        return Response.of(
            [{"class": name, "type": _kind(one), "version": version()} for name, one in found.items()]
        )

    async def validate(self, request: Request, name: str) -> Response:
        config = flat_of(request.json())
        try:
            connector = find(name)
        except ConfigError as error:
            raise Refusal(404, "NOT_FOUND", str(error)) from error
        options = _options(connector)
        wrong = {}
        if "name" not in config:
            wrong["name"] = 'Missing required configuration "name" which has no default value.'
        if (mistake := flat.mistake(config.get("name", ""), {**config, flat.CLASS: name})) is not None:
            is_known = any(option.name == mistake[0] for _, option in options)
            wrong.setdefault(mistake[0] if is_known else flat.CLASS, mistake[1])
        configs = [_judged(group, option, config.get(option.name), wrong) for group, option in options]
        groups = sorted({one["definition"]["group"] for one in configs})
        return Response.of({"name": name, "error_count": len(wrong), "groups": groups, "configs": configs})


def _kind(connector: Connector) -> str:
    return "source" if issubclass(connector, Source) else "sink"


def _options(connector: Connector) -> list[tuple[str, Described]]:
    """All that a connector takes, each with its group."""
    shared = SourceSettings if issubclass(connector, Source) else SinkSettings
    named = [
        Described("name", "a text", True, None, "The connector's name.", (), False),
        Described(flat.CLASS, "a text", True, None, "The kind of connector.", (), False),
    ]
    errors = [
        Described(f"errors.{one.name}", one.kind, one.required, one.default, one.doc, one.choices, one.secret)
        for one in describe(Errors)
    ]
    return [
        *(("Common", one) for one in (*named, *describe(shared))),
        *((connector.__name__, one) for one in describe(connector.Config)),
        *(("Error Handling", one) for one in errors),
    ]


def _judged(group: str, one: Described, given: str | None, wrong: Mapping[str, str]) -> dict[str, Any]:
    errors = [wrong[one.name]] if one.name in wrong else []
    default = None if one.default is None or one.required else text(one.default)
    shown = given if given is not None else default
    return {
        "definition": {
            "name": one.name,
            "type": "PASSWORD" if one.secret else KINDS.get(one.kind, "STRING"),
            "required": one.required,
            "default_value": default,
            "importance": "HIGH" if one.required else "MEDIUM",
            "documentation": one.doc,
            "group": group,
            "width": "MEDIUM",
            "display_name": one.name,
            "dependents": [],
            "order": 0,
        },
        "value": {
            "name": one.name,
            "value": HIDDEN if one.secret and shown else shown,
            "recommended_values": [str(choice) for choice in one.choices],
            "errors": errors,
            "visible": True,
        },
    }
