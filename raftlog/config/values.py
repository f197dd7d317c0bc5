"""Settings in force: a broker's, and a topic's on top of it."""

from __future__ import annotations

import builtins
import os
from collections.abc import Iterable, Iterator, Mapping
from difflib import get_close_matches
from types import MappingProxyType

from raftlog.config import per_listener
from raftlog.config.addresses import (
    ENCRYPTED,
    WITH_LOGIN,
    Listener,
    advertised_problem,
    host_problem,
    parse_connections,
    parse_host_port,
    parse_listener,
    parse_peer,
    parse_protocol,
    protocol_problem,
)
from raftlog.config.keys import BadValue, ConfigKey, Scope, Value
from raftlog.config.load import load_settings
from raftlog.config.table import BROKER_CONFIGS, KAFKAS_ALONE, TOPIC_CONFIGS
from raftlog.errors import ConfigError

FILES_OF_SECURITY = (
    "ssl.keystore.location",
    "ssl.truststore.location",
    "raftlog.peer.secret.file",
    "raftlog.bootstrap.users.file",
)

_TABLES: dict[Scope, dict[str, ConfigKey]] = {"broker": BROKER_CONFIGS, "topic": TOPIC_CONFIGS}
_OTHER_NAMES = {other: key.name for key in BROKER_CONFIGS.values() for other, _ in key.synonyms}


def parse_setting(name: str, text: str, scope: Scope = "broker") -> tuple[ConfigKey, Value]:
    """The key that `name` names and the typed value; raises ConfigError naming key, value and reason, or for
    a name that nobody knows the nearest good one."""
    table = _TABLES[scope]
    key = table.get(_OTHER_NAMES.get(name, name) if scope == "broker" else name)
    if key is None and scope == "broker" and per_listener.is_jaas(name):
        raise ConfigError(f"{name}: {per_listener.USERS_ARE_ELSEWHERE}")
    if key is None and scope == "broker" and name in KAFKAS_ALONE:
        raise ConfigError(f"{name}: {KAFKAS_ALONE[name]}")
    if key is None:
        # Without the value: it may be a password, behind a name that is misspelt.
        raise ConfigError(f"{name}: there is no such {scope} setting{_nearest(name, table)}")
    try:
        return key, key.parse(text)
    except BadValue as error:
        shown = "(hidden)" if key.sensitive else repr(text)
        raise ConfigError(f"{name} = {shown}: {error}") from None


def config_error(name: str, text: str, scope: Scope = "topic") -> str | None:
    """Why a setting is not taken, or None: what CreateTopics and AlterConfigs ask."""
    try:
        parse_setting(name, text, scope)
    except ConfigError as error:
        return str(error)
    return None


def _nearest(name: str, table: Mapping[str, ConfigKey]) -> str:
    near = get_close_matches(name[:100], table, n=1, cutoff=0.6)
    return f"; did you mean {near[0]}?" if near else ""


class _Typed:
    """Typed access by name. A name that is not in the table is a mistake of the caller's: KeyError."""

    __slots__ = ("_values",)

    _values: Mapping[str, Value]
    """Every key of the table."""

    def __getitem__(self, name: str) -> Value:
        return self._values[name]

    def int(self, name: builtins.str) -> builtins.int:
        value = self._values[name]
        assert isinstance(value, int) and not isinstance(value, bool), (name, value)
        return value

    def float(self, name: builtins.str) -> builtins.float:
        value = self._values[name]
        assert isinstance(value, float | int), (name, value)
        return value

    def bool(self, name: builtins.str) -> builtins.bool:
        value = self._values[name]
        assert isinstance(value, bool), (name, value)
        return value

    def str(self, name: builtins.str) -> builtins.str:
        """Empty when there is no value."""
        value = self._values[name]
        assert value is None or isinstance(value, str), (name, value)
        return value or ""

    def list(self, name: builtins.str) -> tuple[builtins.str, ...]:
        """Empty when there is no value."""
        value = self._values[name]
        assert value is None or isinstance(value, tuple), (name, value)
        return value or ()


class BrokerConfig(_Typed):
    """A broker's settings: what its files and options say. Immutable."""

    __slots__ = ("of_listeners", "origins", "static")

    def __init__(
        self,
        static: Mapping[str, Value] | None = None,
        origins: Mapping[str, str] | None = None,
        of_listeners: Mapping[str, Mapping[str, Value]] | None = None,
    ) -> None:
        """Typed values of keys that are in the table; `load` and `of` take text."""
        self.static: Mapping[str, Value] = MappingProxyType(dict(static or {}))
        self.origins: Mapping[str, str] = MappingProxyType(dict(origins or {}))
        """Where each was given, for people, by the name of its key."""
        self.of_listeners: Mapping[str, Mapping[str, Value]] = MappingProxyType(dict(of_listeners or {}))
        """What single listeners have of their own, by their names."""
        defaults = {name: key.default for name, key in BROKER_CONFIGS.items()}
        self._values = defaults | self.static

    def __repr__(self) -> str:
        shown = (
            f"{name}={BROKER_CONFIGS[name].format(self[name])}"
            for name in sorted(self.static)
            if not BROKER_CONFIGS[name].sensitive
        )
        return f"<BrokerConfig {' '.join(shown)}>"

    @classmethod
    def load(
        cls,
        file: str | os.PathLike[str] | None = None,
        environ: Mapping[str, str] | None = None,
        overrides: Iterable[str] = (),
    ) -> BrokerConfig:
        """What a broker starts with: the file, over it the environment, over it `key=value` options.

        Raises ConfigError for anything that is not understood, an OSError's reason included.
        """
        loaded = load_settings(file, environ or {}, overrides, BROKER_CONFIGS)
        return cls.of(loaded, loaded.origins)

    @classmethod
    def of(cls, settings: Mapping[str, str], origins: Mapping[str, str] | None = None) -> BrokerConfig:
        """Settings as text, checked one by one and against each other. Raises ConfigError that says all that
        is wrong, and where it was given, as far as `origins` says."""
        origins = origins or {}
        static: dict[str, Value] = {}
        named: dict[str, str] = {}
        problems: list[str] = []
        of_listeners: dict[str, dict[str, Value]] = {}
        for name, text in settings.items():
            try:
                if (prefixed := per_listener.split(name)) is not None:
                    listener, setting = prefixed
                    of_listeners.setdefault(listener, {}).update(_of_listener(name, setting, text))
                    continue
                key, value = parse_setting(name, text)
            except ConfigError as error:
                problems.append(f"{error}{_given(name, origins)}")
                continue
            if key.name in named:
                problems.append(f"{name}: the same is set as {named[key.name]}{_given(name, origins)}")
            named[key.name] = name
            static[key.name] = value
        known = {key: origins[name] for key, name in named.items() if name in origins}
        config = cls(static, known, of_listeners)
        if not problems:
            problems += config._conflicts()
        if problems:
            raise ConfigError(_joined(problems))
        return config

    def with_files_in(self, folder: builtins.str) -> BrokerConfig:
        """The same settings with the files of security, where they are named without a place, in a folder."""

        def moved(settings: Mapping[str, Value]) -> dict[str, Value]:
            files = {name: settings.get(name) for name in FILES_OF_SECURITY}
            return {
                **settings,
                **{name: os.path.join(folder, str(file)) for name, file in files.items() if file},
            }

        of_listeners = {name: moved(own) for name, own in self.of_listeners.items()}
        return BrokerConfig(moved(self.static), of_listeners=of_listeners)

    def for_listener(self, name: builtins.str) -> BrokerConfig:
        """The settings that hold for a listener: its own, and the broker's. A client's certificate is only
        asked for by a listener with logins if that listener says so (KIP-684)."""
        own = self.of_listeners.get(name, {})
        if self.asks_for_login(name):
            own = {"ssl.client.auth": "none", **own}
        return BrokerConfig({**self.static, **own}, self.origins, self.of_listeners) if own else self

    def is_set(self, name: str) -> bool:
        """Whether the value is somebody's choice and not the default."""
        return name in self.static

    @property
    def listeners(self) -> tuple[Listener, ...]:
        return tuple(map(parse_listener, self.list("listeners")))

    def protocol_of(self, listener: builtins.str) -> builtins.str | None:
        """The security protocol of a listener, by its name."""
        return dict(map(parse_protocol, self.list("listener.security.protocol.map"))).get(listener)

    def is_encrypted(self, listener: builtins.str) -> builtins.bool:
        """Whether a listener, by its name, is in TLS."""
        return self.protocol_of(listener) in ENCRYPTED

    def asks_for_login(self, listener: builtins.str) -> builtins.bool:
        """Whether clients of a listener have to log in first (SASL)."""
        return self.protocol_of(listener) in WITH_LOGIN

    @property
    def advertised_listeners(self) -> tuple[Listener, ...]:
        """What clients of each of `listeners` are told, in their order: without a setting what they are."""
        told = {each.name: each for each in map(parse_listener, self.list("advertised.listeners"))}
        return tuple(told.get(each.name, each) for each in self.listeners)

    @property
    def connections_per_ip(self) -> dict[builtins.str, builtins.int]:
        """Address to connections, where `max.connections.per.ip` does not count."""
        return dict(map(parse_connections, self.list("max.connections.per.ip.overrides")))

    def replication_factor(self, usable_brokers: builtins.int) -> builtins.int:
        """`default.replication.factor`, its -1 resolved."""
        factor = self.int("default.replication.factor")
        return max(1, min(3, usable_brokers)) if factor == -1 else factor

    @property
    def peer_listen(self) -> tuple[str, int]:
        return parse_host_port(self.str("raftlog.peer.listen"))

    @property
    def peer_advertised(self) -> tuple[str, int]:
        """The address that other brokers are told."""
        return parse_host_port(self.str("raftlog.peer.advertise") or self.str("raftlog.peer.listen"))

    @property
    def http_listen(self) -> tuple[str, int] | None:
        """None: HTTP is not served."""
        listen = self.str("raftlog.http.listen")
        return parse_host_port(listen) if listen else None

    @property
    def peers(self) -> dict[int, tuple[str, int]]:
        """Broker id to peer address of those that found the cluster."""
        parsed = map(parse_peer, self.list("raftlog.peers"))
        return {number: (host, port) for number, host, port in parsed}

    @property
    def join(self) -> dict[int, tuple[str, int]]:
        """Broker id to peer address of brokers of the cluster that this one is added to."""
        parsed = map(parse_peer, self.list("raftlog.join"))
        return {number: (host, port) for number, host, port in parsed}

    def _conflicts(self) -> Iterator[str]:
        """Which settings do not go together."""
        low, high = self.int("group.min.session.timeout.ms"), self.int("group.max.session.timeout.ms")
        if low > high:
            yield f"group.min.session.timeout.ms = {low}: it is above group.max.session.timeout.ms = {high}"
        election = self.int("raftlog.election.timeout.ms")
        heartbeat = self.int("raftlog.heartbeat.interval.ms")
        if election < 4 * heartbeat:
            yield (
                f"raftlog.election.timeout.ms = {election}: it must be at least four times"
                f" raftlog.heartbeat.interval.ms = {heartbeat}, or a late heartbeat ends a leadership"
            )
        yield from self._listener_problems()
        node_id, peers = self.int("node.id"), self.peers
        if peers and self.join:
            yield "raftlog.join and raftlog.peers: a broker founds a cluster or joins one"
        if node_id in self.join:
            yield f"raftlog.join names this broker, node.id = {node_id}"
        if peers and node_id not in peers:
            yield (
                f"raftlog.peers = {','.join(self.list('raftlog.peers'))!r}: it does not name this broker,"
                f" node.id = {node_id}"
            )

    def _listener_problems(self) -> Iterator[str]:
        said = f"listeners = {','.join(self.list('listeners'))!r}"
        protocols = dict(map(parse_protocol, self.list("listener.security.protocol.map")))
        told = tuple(map(parse_listener, self.list("advertised.listeners")))
        problem = protocol_problem(self.listeners, protocols) or advertised_problem(self.listeners, told)
        if problem is not None:
            yield f"{said}: {problem}"
            return
        unknown = self.of_listeners.keys() - {each.name for each in self.listeners}
        for name in sorted(unknown):
            yield f"{per_listener.PREFIX}{name.lower()[:60]}: there is no such listener; {said}"
        for each in self.advertised_listeners:
            if (problem := host_problem(each.host)) is not None:
                yield f"{said}: clients are told to connect to it, and {problem}; set advertised.listeners"


def _of_listener(name: str, setting: str, text: str) -> dict[str, Value]:
    """A setting of one listener, or nothing for what has no effect. Raises ConfigError."""
    if per_listener.is_jaas(setting):
        reason = per_listener.jaas_problem(text)
        if reason is not None:
            raise ConfigError(f"{name}: {reason}")
        return {}
    if (reason := per_listener.problem(setting)) is not None:
        raise ConfigError(f"{name}: {reason}")
    try:
        key, value = parse_setting(setting, text)
    except ConfigError as error:
        raise ConfigError(f"{per_listener.PREFIX}…{error}") from None
    return {key.name: value}


def _given(name: str, origins: Mapping[str, str]) -> str:
    return f" ({origins[name]})" if name in origins else ""


def _joined(problems: list[str]) -> str:
    """One as it is, several each on its line."""
    if len(problems) == 1:
        return problems[0]
    return "\n  ".join([f"{len(problems)} settings are wrong:", *problems])


class TopicConfig(_Typed):
    """A topic's settings: its own, then the broker's, then the defaults."""

    __slots__ = ("broker", "own")

    def __init__(self, own: Mapping[str, str], broker: BrokerConfig) -> None:
        """`own` as the catalog has it. What this build does not know or take is left out: it was checked
        by the broker that it was asked of."""
        self.broker = broker
        self.own: Mapping[str, Value] = MappingProxyType(
            {
                name: TOPIC_CONFIGS[name].parse(text)
                for name, text in own.items()
                if not config_error(name, text)
            }
        )
        inherited = {key.name: inherited_value(key, broker) for key in TOPIC_CONFIGS.values()}
        self._values = inherited | self.own

    @property
    def conflict(self) -> builtins.str | None:
        """Which two settings do not go together."""
        low, high = self.int("min.compaction.lag.ms"), self.int("max.compaction.lag.ms")
        if low > high:
            return f"max.compaction.lag.ms = {high}: it is below min.compaction.lag.ms = {low}"
        return None

    @staticmethod
    def check(own: Mapping[builtins.str, builtins.str]) -> None:
        """Raises ConfigError for the first setting that is not taken."""
        for name, text in own.items():
            parse_setting(name, text, "topic")


def inherited_value(key: ConfigKey, broker: BrokerConfig) -> Value:
    """A topic key's value where the topic itself says nothing: of the broker keys that it comes from, the
    first that is set (log.retention.ms before .minutes before .hours), else the default."""
    for name, unit in key.synonyms:
        value = broker[name]
        if broker.is_set(name) and value is not None:
            return in_unit(value, unit)
    return key.default


def in_unit(value: Value, unit: int) -> Value:
    """A duration in the topic key's unit; negative is "never" in every unit."""
    if unit == 1 or not isinstance(value, int) or value < 0:
        return value
    return value * unit
