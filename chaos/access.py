"""How clients reach the brokers of a run: where they listen, and how one logs in where they ask for that.

Every client of the suite is set up from here, so that a secured run is the same run with another Access. Who
logs in is no super user: rules let it do everything (`raftlog.testing.security`).
"""

from __future__ import annotations

import importlib.util
import ssl
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from functools import partial
from typing import Any

from chaos.faults.fault import CannotRun
from raftlog import Client, from_properties
from raftlog.testing.security import (
    USER,
    TestSecurity,
    client_properties,
    kafka_python_settings,
    librdkafka_settings,
)
from tests.badinput.requests import log_in
from tests.badinput.wire import Raw


def check_secured() -> None:
    """Raises CannotRun when certificates cannot be made here."""
    if importlib.util.find_spec("cryptography") is None:
        raise CannotRun("certificates are made by the package cryptography: pip install 'raftlog[security]'")


@dataclass(frozen=True, slots=True)
class Access:
    """To some brokers: in plain text, or with a login in TLS that checks their names."""

    bootstrap: str
    security: TestSecurity | None = None

    def librdkafka(self) -> dict[str, Any]:
        """Settings of confluent-kafka."""
        return dict(librdkafka_settings(self.bootstrap, self.security))

    def kafka_python(self) -> dict[str, Any]:
        """Keywords of kafka-python."""
        return dict(kafka_python_settings(self.bootstrap, self.security))

    def open_client(self, **options: Any) -> AbstractAsyncContextManager[Client]:
        """As `raftlog.open_client`."""
        return from_properties(client_properties(self.bootstrap, self.security), **options)

    def command_line(self) -> tuple[str, ...]:
        """Arguments of `raftlog …`."""
        login = () if self.security is None else ("--config", str(self.security.client_file))
        return ("--bootstrap", self.bootstrap, *login)

    def ways_in(self, address: str) -> list[Callable[[], Raw]]:
        """Connections to one broker for bytes by hand, each a step further: in plain text, in TLS, logged in.
        They raise OSError."""
        host, _, port = address.rpartition(":")
        plain = partial(Raw, (host, int(port)))
        if self.security is None:
            return [plain]
        in_tls = partial(plain, ssl.create_default_context(cafile=str(self.security.authority)))
        return [plain, in_tls, partial(_logged_in, in_tls, self.security.passwords[USER])]

    def connect(self, address: str) -> Raw:
        """One that the broker serves. Raises OSError."""
        return self.ways_in(address)[-1]()


def _logged_in(connect: Callable[[], Raw], password: str) -> Raw:
    raw = connect()
    try:
        log_in(raw, USER, password)
    except BaseException:
        raw.close()
        raise
    return raw
