"""Settings as they are shown: DescribeConfigs' entries, and the reference in docs/."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum

from raftlog.config.keys import ConfigKey, ConfigType, Value
from raftlog.config.table import BROKER_CONFIGS, TOPIC_CONFIGS
from raftlog.config.values import BrokerConfig, TopicConfig


class ConfigSource(Enum):
    """Where a value comes from; the values are DescribeConfigs' numbers (KIP-226)."""

    DYNAMIC_TOPIC = 1
    DYNAMIC_BROKER = 2
    DYNAMIC_DEFAULT_BROKER = 3
    STATIC_BROKER = 4
    DEFAULT = 5


@dataclass(frozen=True, slots=True)
class Synonym:
    """A setting that the value could have come from, and what it says."""

    name: str
    value: str | None
    source: ConfigSource


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfigEntry:
    """A setting in force. The value of a sensitive one is None."""

    name: str
    value: str | None
    source: ConfigSource
    type: ConfigType
    read_only: bool
    sensitive: bool
    doc: str
    synonyms: tuple[Synonym, ...]
    """Every place that says something, the one that wins first."""


def describe_broker(
    config: BrokerConfig, names: Iterable[str] | None = None, *, usable_brokers: int = 1
) -> list[ConfigEntry]:
    """The broker's settings, or those of them that are named; unknown names are passed over, as by Kafka. All
    are given to a broker at its start, and none changes while it runs.
    `default.replication.factor` is shown as what it comes to with so many brokers."""
    in_force = {"default.replication.factor": config.replication_factor(usable_brokers)}
    return [
        _entry(
            key,
            in_force.get(key.name, config[key.name]),
            _broker_synonyms(key.name, config),
            read_only=True,
        )
        for key in _chosen(BROKER_CONFIGS, names)
    ]


def describe_topic(config: TopicConfig, names: Iterable[str] | None = None) -> list[ConfigEntry]:
    """The topic's settings, or those of them that are named."""
    return [
        _entry(key, config[key.name], _topic_synonyms(key, config), read_only=False)
        for key in _chosen(TOPIC_CONFIGS, names)
    ]


def markdown(table: dict[str, ConfigKey]) -> str:
    """The reference of a table of settings, for docs/."""
    lines = ["| Setting | Type | Default | Values | Meaning |", "|---|---|---|---|---|"]
    for key in table.values():
        cells = [
            f"`{key.name}`",
            key.type.name.lower(),
            f"`{key.format(key.default)}`" if key.default not in (None, ()) else "",
            key.valid_values,
            f"No effect. {key.doc}" if key.ignored else key.doc,
        ]
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(lines) + "\n"


def _chosen(table: dict[str, ConfigKey], names: Iterable[str] | None) -> list[ConfigKey]:
    if names is None:
        return list(table.values())
    wanted = set(names)
    return [key for key in table.values() if key.name in wanted]


def _entry(key: ConfigKey, value: Value, synonyms: list[Synonym], *, read_only: bool) -> ConfigEntry:
    return ConfigEntry(
        name=key.name,
        value=None if key.sensitive else key.format(value),
        source=synonyms[0].source if synonyms else ConfigSource.DEFAULT,
        type=key.type,
        read_only=read_only,
        sensitive=key.sensitive,
        doc=key.doc,
        synonyms=tuple(synonyms),
    )


def _topic_synonyms(key: ConfigKey, config: TopicConfig) -> list[Synonym]:
    """The topic's own value, the broker keys that are set in order of precedence, then the defaults."""
    found = []
    if key.name in config.own:
        found.append(Synonym(key.name, key.format(config.own[key.name]), ConfigSource.DYNAMIC_TOPIC))
    inherited = [entry for name, _ in key.synonyms for entry in _broker_synonyms(name, config.broker)]
    found += [entry for entry in inherited if entry.source is not ConfigSource.DEFAULT]
    found += [entry for entry in inherited if entry.source is ConfigSource.DEFAULT]
    if not key.synonyms:
        found.append(Synonym(key.name, key.format(key.default), ConfigSource.DEFAULT))
    return found


def _broker_synonyms(name: str, config: BrokerConfig) -> list[Synonym]:
    key = BROKER_CONFIGS[name]
    found = []
    if name in config.static:
        value = None if key.sensitive else key.format(config.static[name])
        found.append(Synonym(name, value, ConfigSource.STATIC_BROKER))
    if key.default is not None:
        found.append(Synonym(name, key.format(key.default), ConfigSource.DEFAULT))
    return found
