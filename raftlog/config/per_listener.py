"""Settings of one listener, as Kafka has them: `listener.name.<listener>.<setting>` (KIP-103, KIP-684).

What a listener does not have of its own is the broker's. A setting that cannot differ between listeners is
refused with this prefix: Kafka takes and forgets some, and who set them believes that they hold.
"""

from __future__ import annotations

import re
from typing import Final

PREFIX: Final = "listener.name."

TAKEN: Final = frozenset(
    {
        "connections.max.reauth.ms",
        "max.connection.creation.rate",
        "max.connections",
        "sasl.enabled.mechanisms",
        *(f"ssl.{name}" for name in ("client.auth", "enabled.protocols", "key.password")),
        *(f"ssl.{store}.{what}" for store in ("keystore", "truststore") for what in ("location", "type")),
    }
)
"""What a listener may have of its own."""

JAAS: Final = "sasl.jaas.config"
USERS_ARE_ELSEWHERE: Final = (
    "users are kept in the cluster's metadata, and made by `raftlog user add`: leave this setting out"
)
_SCRAM_WITHOUT_USER: Final = re.compile(r"\s*(?:[A-Za-z0-9_]+\.)*ScramLoginModule\s+required\s*;?\s*")


def split(name: str) -> tuple[str, str] | None:
    """`listener.name.external.ssl.client.auth` as ("EXTERNAL", "ssl.client.auth"); None for any other."""
    if not name.startswith(PREFIX):
        return None
    listener, _, setting = name.removeprefix(PREFIX).partition(".")
    return listener.upper(), setting


def problem(setting: str) -> str | None:
    """Why a listener cannot have a setting of its own, or None."""
    if setting in TAKEN:
        return None
    return f"a listener has no {setting[:100] or 'such setting'} of its own, only {', '.join(sorted(TAKEN))}"


def is_jaas(setting: str) -> bool:
    """Whether it is where Kafka has the users of a mechanism, `scram-sha-512.sasl.jaas.config`."""
    return setting == JAAS or setting.endswith(f".{JAAS}")


def jaas_problem(text: str) -> str | None:
    """Kafka wants the line for SCRAM too, where it says nothing: it has no effect. Others hold users."""
    return None if _SCRAM_WITHOUT_USER.fullmatch(text) else USERS_ARE_ELSEWHERE
