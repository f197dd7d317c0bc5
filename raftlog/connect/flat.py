"""A connector as Kafka Connect's REST has it: a flat map of texts, `errors.dlq` and `transforms.NAME.type`
among them. Here it becomes what a pipeline file says, and its mistakes are told by field."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from raftlog.connect.pipeline import Spec, spec
from raftlog.errors import ConfigError

CLASS: Final = "connector.class"
PASSED_OVER: Final = ("name", "tasks.max")
"""What Kafka Connect asks for and has no meaning here: a connector is one task."""
ALIASES: Final = {"errors.deadletterqueue.topic.name": "errors.dlq"}


def parse(name: str, config: Mapping[str, str]) -> Spec:
    """A connector of a flat map. Raises ConfigError."""
    return spec(name, nested(config), f"connector {name}")


def nested(config: Mapping[str, str]) -> dict[str, Any]:
    """As a pipeline file would say it."""
    found: dict[str, Any] = {}
    errors: dict[str, str] = {}
    transforms = {
        one.strip(): dict[str, str]() for one in config.get("transforms", "").split(",") if one.strip()
    }
    for given, value in config.items():
        key = ALIASES.get(given, given)
        head, _, rest = key.partition(".")
        if key == CLASS:
            found["class"] = value
        elif head == "errors" and rest:
            errors[rest] = value
        elif head == "transforms" and rest:
            name, _, option = rest.partition(".")
            if name not in transforms:
                raise ConfigError(f"{given} is of a transform that transforms does not name")
            transforms[name][option] = value
        elif key != "transforms" and key not in PASSED_OVER:
            found[key] = value
    if errors:
        found["errors"] = errors
    if transforms:
        found["transform"] = list(transforms.values())
    return found


def mistake(name: str, config: Mapping[str, str]) -> tuple[str, str] | None:
    """What is wrong first: the field, and why; None when nothing is."""
    try:
        parse(name or "connector", config)
    except ConfigError as error:
        told = str(error).removeprefix(f"connector {name or 'connector'}").lstrip(": ")
        inner = told.removeprefix("errors").lstrip(": ")
        match = re.search(r"no option '([\w.]+)'|needs ([\w.]+)|^([\w.]+) (?:=|is)", inner)
        field = next(filter(None, match.groups()), CLASS) if match else CLASS
        prefix = "errors." if inner != told else ""
        return (CLASS if field in ("class", "there") else prefix + field), str(error)
    return None
