"""Settings from a client.properties file, or from Kafka's dotted keys."""

from __future__ import annotations

import dataclasses
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, get_origin, get_type_hints

from raftlog.client.foreign_properties import translated
from raftlog.client.settings import (
    ALL,
    ClientSettings,
    ConsumerSettings,
    ProducerSettings,
    dotted,
    make_settings,
    nearest,
    not_yet,
)
from raftlog.errors import ConfigError

_FUNCTIONS: Final = frozenset(
    {
        "partitioner",
        "key_serializer",
        "value_serializer",
        "key_deserializer",
        "value_deserializer",
        "sasl_token_provider",
    }
)
_JAVA_ONLY: Final = re.compile(
    r"(key|value)\.(de)?serializer|partitioner\.class|interceptor\.classes|metric(s|\..*|\.reporters)"
)
_JAVA_ASSIGNORS: Final = {
    "org.apache.kafka.clients.consumer.RangeAssignor": "range",
    "org.apache.kafka.clients.consumer.RoundRobinAssignor": "roundrobin",
    "org.apache.kafka.clients.consumer.CooperativeStickyAssignor": "cooperative-sticky",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Properties:
    """Settings read from Kafka's dotted keys, as keywords of the three classes."""

    client: Mapping[str, Any]
    producer: Mapping[str, Any]
    consumer: Mapping[str, Any]


def read_properties(source: str | os.PathLike[str] | Mapping[str, Any]) -> Properties:
    """Settings from a client.properties file, or from a dict with Kafka's dotted keys.

    One file may hold keys of producer and consumer; each takes its own. Raises ConfigError for a key that
    nothing here knows, naming the nearest, and for a value that is not of its type.
    """
    pairs = source if isinstance(source, Mapping) else _parse(Path(source).read_text(encoding="utf-8"))
    pairs = translated(pairs)
    found: dict[type[Any], dict[str, Any]] = {cls: {} for cls in ALL}
    fields = {dotted(f.name): (cls, f) for cls in ALL for f in dataclasses.fields(cls)}
    for key, value in pairs.items():
        function = callable(value) and key.replace(".", "_") in _FUNCTIONS
        if _JAVA_ONLY.fullmatch(key) and not function:
            raise ConfigError(f"{key}: names Java code; pass a Python function where one is needed")
        if key not in fields:
            raise ConfigError(f"unknown key {key!r}{not_yet(key) or nearest(key, fields)}")
        cls, field = fields[key]
        hint = get_type_hints(cls)[field.name]
        found[cls][field.name] = value if function else _convert(key, value, hint)
    make_settings(ClientSettings, found[ClientSettings])
    make_settings(ProducerSettings, found[ProducerSettings])
    make_settings(ConsumerSettings, found[ConsumerSettings])
    return Properties(
        client=found[ClientSettings], producer=found[ProducerSettings], consumer=found[ConsumerSettings]
    )


def _convert(key: str, value: Any, hint: Any) -> Any:
    """A value of a properties file as its setting's type: text says all of them."""
    if get_origin(hint) is tuple:
        names = value.split(",") if isinstance(value, str) else value
        return tuple(_JAVA_ASSIGNORS.get(name.strip(), name.strip()) for name in names)
    if not isinstance(value, str):
        return value
    text = value.strip()
    if hint is bool:
        return {"true": True, "false": False}.get(text.lower(), value)
    if hint is int or hint is float or (key == "acks" and text != "all"):
        try:
            return int(text) if hint is not float else float(text)
        except ValueError:
            return value
    return text


def _parse(text: str) -> dict[str, str]:
    """A .properties file: `key=value` or `key: value`, # and ! comments, backslash continues a line."""
    joined = re.sub(r"\\\r?\n[ \t]*", "", text)
    pairs = {}
    for number, line in enumerate(joined.splitlines(), 1):
        line = line.strip()
        if not line or line[0] in "#!":
            continue
        match = re.match(r"([^=:\s]+)\s*[=:\s]\s*(.*)", line)
        if match is None:
            raise ConfigError(f"line {number} is not key=value")
        pairs[match[1]] = match[2]
    return pairs
