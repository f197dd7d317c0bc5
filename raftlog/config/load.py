"""Where settings come from: a TOML or .properties file, the environment, `-o key=value`. As text: what
a value means is decided in `values`.
"""

from __future__ import annotations

import logging
import os
import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from typing import Final

from raftlog.config.kafka_environment import read_kafka_environment
from raftlog.errors import ConfigError

log = logging.getLogger("raftlog.config")

FILE_BYTES_MAX: Final = 1024 * 1024
"""A settings file is a few kilobytes; a larger one is some other file named by mistake."""

ENV_PREFIX: Final = "RAFTLOG_"

COMPAT: Final = "RAFTLOG_ENV_COMPAT"
"""Set to `kafka`, the variables of Kafka's images are settings, too."""

_NOT_SETTINGS: Final = ("RAFTLOG_BOOTSTRAP", "RAFTLOG_COMPILE", "RAFTLOG_CONFIG", "RAFTLOG_PORT", COMPAT)
_NOT_SETTING_PREFIXES: Final = ("RAFTLOG_SERVICE_", "RAFTLOG_PORT_", "RAFTLOG_TEST_")
"""What Kubernetes puts into every container beside a Service named raftlog, and our own tests."""


class Loaded(dict[str, str]):
    """Settings by dotted name; `origins` says where each was given, for people."""

    def __init__(self) -> None:
        super().__init__()
        self.origins: dict[str, str] = {}

    def take(self, settings: Mapping[str, str], origins: Mapping[str, str]) -> None:
        """These win over what is there."""
        self.update(settings)
        self.origins.update(origins)


def load_settings(
    file: str | os.PathLike[str] | None = None,
    environ: Mapping[str, str] | None = None,
    overrides: Iterable[str] = (),
    known: Mapping[str, object] | None = None,
) -> Loaded:
    """Settings by dotted name, later sources win; raises ConfigError for what cannot be read. `known` are the
    settings that there are."""
    loaded = Loaded()
    if file is not None:
        settings, lines = read_file(file), lines_of(file)
        path = os.fspath(file)
        loaded.take(
            settings, {name: f"{path} line {lines[name]}" if name in lines else path for name in settings}
        )
    if environ and environ.get(COMPAT) == "kafka":
        of_kafka, ignored = read_kafka_environment(environ, known or {})
        loaded.take(of_kafka, dict.fromkeys(of_kafka, "the KAFKA_ variables"))
        if ignored:
            log.info("without effect here: %s", ", ".join(ignored))
    variables = [one for one in sorted(environ or {}) if _is_setting(one)]
    loaded.take(read_environment(environ or {}), {_setting_name(one): one for one in variables})
    given = dict(map(parse_override, overrides))
    loaded.take(given, dict.fromkeys(given, "command line"))
    return loaded


def parse_override(text: str) -> tuple[str, str]:
    """`key=value` as a pair; raises ConfigError without a key or an equals sign."""
    name, equals, value = text.partition("=")
    if not equals or not name.strip():
        key = re.split(r"[\s:=]", text.strip())[0]
        raise ConfigError(f"{key!r} is not key=value")
    return name.strip(), value.strip()


def read_environment(environ: Mapping[str, str]) -> dict[str, str]:
    """The `RAFTLOG_…` variables as settings, by the rule of Kafka's container images: `_` is a dot, `__`
    an underscore, `___` a dash. RAFTLOG_LOG_RETENTION_MS is log.retention.ms; raftlog's own keys begin
    with the prefix twice, RAFTLOG_RAFTLOG_DURABILITY."""
    return {
        _setting_name(variable): value for variable, value in sorted(environ.items()) if _is_setting(variable)
    }


def _is_setting(variable: str) -> bool:
    return (
        variable.startswith(ENV_PREFIX)
        and variable not in _NOT_SETTINGS
        and not variable.startswith(_NOT_SETTING_PREFIXES)
    )


def _setting_name(variable: str) -> str:
    name = variable[len(ENV_PREFIX) :].lower()
    # The longest run first; "\0" cannot be in a variable, so it can stand for what is done already.
    return name.replace("___", "-").replace("__", "\0").replace("_", ".").replace("\0", "_")


def read_file(path: str | os.PathLike[str]) -> dict[str, str]:
    """The settings in a file: .properties by its name, TOML otherwise; raises ConfigError."""
    text = _text_of(path)
    try:
        return parse_properties(text) if _is_properties(path) else parse_toml(text)
    except ConfigError as error:
        raise ConfigError(f"{os.fspath(path)}: {error}") from error


def lines_of(path: str | os.PathLike[str]) -> dict[str, int]:
    """In which line of a file each setting is, as far as the lines tell: what they say is `read_file`'s to
    find out."""
    lines: dict[str, int] = {}
    table = ""
    for number, line in _logical_lines(_text_of(path)):
        header = re.match(r"\[\s*([^\[\]]+?)\s*\]", line)
        if header is not None and not _is_properties(path):
            table = f"{_bare(header[1])}."
            continue
        key = re.match(r"""((?:"[^"]*"|'[^']*'|[^=:\s"'])+)\s*[=:\s]""", line)
        if key is not None:
            lines[table + _bare(key[1])] = number
    return lines


def _bare(name: str) -> str:
    """A TOML key without its quotes."""
    return re.sub(r"[\s\"']", "", name)


def _is_properties(path: str | os.PathLike[str]) -> bool:
    return os.fspath(path).endswith(".properties")


def _text_of(path: str | os.PathLike[str]) -> str:
    try:
        with open(path, "rb") as file:
            data = file.read(FILE_BYTES_MAX + 1)
        if len(data) > FILE_BYTES_MAX:
            raise ConfigError(f"{os.fspath(path)}: larger than {FILE_BYTES_MAX} bytes, not a settings file")
        return data.decode("utf-8-sig")
    except OSError as error:
        raise ConfigError(f"{os.fspath(path)}: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{os.fspath(path)}: not UTF-8 text: {error}") from error


def parse_toml(text: str) -> dict[str, str]:
    """TOML as settings: tables nest into dotted names, arrays become comma-separated lists."""
    try:
        tables = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"not TOML: {error}") from error
    settings: dict[str, str] = {}
    for name, value in _flat("", tables):
        if name in settings:
            raise ConfigError(f"{name}: it is set twice")
        settings[name] = value
    return settings


def _flat(prefix: str, table: Mapping[str, object]) -> Iterator[tuple[str, str]]:
    for key, value in table.items():
        name = f"{prefix}{key}"
        if isinstance(value, dict):
            yield from _flat(f"{name}.", value)
        elif isinstance(value, list):
            yield name, ",".join(_scalar(name, item) for item in value)
        else:
            yield name, _scalar(name, value)


def _scalar(name: str, value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str | int | float):
        return str(value)
    raise ConfigError(f"{name}: a {type(value).__name__} is not a setting")


def parse_properties(text: str) -> dict[str, str]:
    """Java's .properties: `key=value`, `key: value` or `key value`, `#` and `!` comments, a backslash
    at the end of a line continues it. As there, the last one wins."""
    settings: dict[str, str] = {}
    for number, line in _logical_lines(text):
        end = next((i for i, char in enumerate(line) if char in "=: \t"), None)
        if end is None:
            raise ConfigError(f"line {number} is not key=value")
        name, rest = line[:end], line[end:].lstrip()
        if rest[:1] in ("=", ":"):
            rest = rest[1:].lstrip()
        if not name:
            raise ConfigError(f"line {number} has no key")
        settings[name] = rest.rstrip()
    return settings


def _logical_lines(text: str) -> Iterator[tuple[int, str]]:
    start, joined = 0, ""
    for number, raw in enumerate(text.splitlines(), 1):
        line = raw.strip()
        if not joined and (not line or line[0] in "#!"):
            continue
        start = start if joined else number
        if line.endswith("\\") and not line.endswith("\\\\"):
            joined += line[:-1]
            continue
        yield start, joined + line
        joined = ""
    if joined:
        yield start, joined
