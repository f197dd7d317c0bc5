"""Keys of security as other clients write them: Java's, with its login modules, and librdkafka's.

A file that was written for one of them is good for this client, as far as both can do the same.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from raftlog.errors import ConfigError

_OTHER_NAMES: Final = {
    "ssl.ca.location": "ssl.truststore.location",
    "sasl.mechanisms": "sasl.mechanism",
}
_PEM_ONLY: Final = tuple(f"ssl.{store}.type" for store in ("truststore", "keystore"))
_PEM_HINT: Final = "only PEM is read; `openssl pkcs12 -nodes` makes it of another"

_JAAS: Final = "sasl.jaas.config"
_MODULES: Final = {
    "org.apache.kafka.common.security.plain.PlainLoginModule": ("PLAIN",),
    "org.apache.kafka.common.security.scram.ScramLoginModule": ("SCRAM-SHA-512", "SCRAM-SHA-256"),
}
_ENTRY: Final = re.compile(r"\s*([\w.]+)\s+required\b(.*?);\s*", re.DOTALL)
_OPTION: Final = re.compile(r"""\s*([\w.]+)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|'((?:[^'\\]|\\.)*)'|([^\s"';]+))""")


def translated(pairs: Mapping[str, Any]) -> dict[str, Any]:
    """The same settings by this client's keys. Raises ConfigError, never with a password."""
    found: dict[str, Any] = {}
    for key, value in pairs.items():
        if key in _PEM_ONLY:
            if value != "PEM":
                raise ConfigError(f"{key} = {value!r}: {_PEM_HINT}")
        elif key == _JAAS:
            found |= _login(str(value))
        else:
            found[_OTHER_NAMES.get(key, key)] = value
    return found


def _login(text: str) -> dict[str, str]:
    """User and password of a `sasl.jaas.config`."""
    entry = _ENTRY.fullmatch(text)
    if entry is None or entry[1] not in _MODULES:
        known = " or ".join(name.rpartition(".")[2] for name in _MODULES)
        raise ConfigError(f'{_JAAS}: it is `MODULE required username="…" password="…";`, with {known}')
    options = {
        name: re.sub(r"\\(.)", r"\1", double or single or bare)
        for name, double, single, bare in _OPTION.findall(entry[2])
    }
    if "username" not in options or "password" not in options:
        raise ConfigError(f"{_JAAS}: it names no username and no password")
    return {"sasl.username": options["username"], "sasl.password": options["password"]}
