"""How the suites reach their brokers: in plain text, or with RAFTLOG_TEST_SECURITY=sasl_ssl in TLS, with a
login and ACLs, and brokers that know each other by a secret.

What is here says nothing to a test: each is the same for both. Brokers come from this module, and so does
what clients are set up with; without the switch it is what `raftlog.testing` has. Who logs in is no super
user: one rule each lets it do everything to topics, groups, transactional ids and the cluster, so that every
request is looked up in the rules.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import os
import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any, Final

import trio

from raftlog import Client, from_properties
from raftlog.testing import EmbeddedCluster, embedded_cluster, processes, running_cluster
from raftlog.testing.security import (
    ADMIN,
    AUTHORIZED,
    TestSecurity,
    allow_everything,
    client_properties,
    kafka_python_settings,
    librdkafka_settings,
)

SECURITY: Final = os.environ.get("RAFTLOG_TEST_SECURITY", "")
assert SECURITY in ("", "sasl_ssl"), SECURITY


@functools.cache
def security() -> TestSecurity | None:
    """Of this process's brokers: made once, and gone with the process."""
    if not SECURITY:
        return None
    folder = Path(tempfile.mkdtemp(prefix="raftlog-secured-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    made = TestSecurity(folder / "security")
    _token_file(made).write_text(made.passwords[ADMIN])
    return made


def options() -> dict[str, object]:
    """Of each broker, beside its security."""
    made = security()
    if made is None:
        return {}
    return {**AUTHORIZED, "raftlog.http.token.file": _token_file(made)}


def _token_file(made: TestSecurity) -> Path:
    return made.authority.with_name("http.token")


def allow(bootstrap: str) -> None:
    """Let who logs in do everything, by rules of the brokers there. Blocking."""
    if (made := security()) is not None:
        allow_everything(bootstrap, made)


# Brokers


class BrokerProcess(processes.BrokerProcess):
    """As that of `raftlog.testing`."""

    def __init__(self, data_dir: Path | str, **keywords: Any) -> None:
        own = options() | dict(keywords.pop("options", None) or {})
        super().__init__(data_dir, options=own, security=security(), **keywords)
        self._allows = bool(SECURITY)

    def start(self) -> BrokerProcess:
        super().start()
        if self._allows:
            allow(self.bootstrap)
            self._allows = False
        return self


class ClusterProcesses(processes.ClusterProcesses):
    """As that of `raftlog.testing`."""

    def __init__(self, root: Path | str, nodes: int = 3, **keywords: Any) -> None:
        own = options() | dict(keywords.pop("options", None) or {})
        super().__init__(root, nodes, options=own, security=security(), **keywords)
        self._allows = bool(SECURITY)

    def __enter__(self) -> ClusterProcesses:
        return self

    def start(self) -> ClusterProcesses:
        super().start()
        if self._allows:
            allow(self.bootstrap)
            self._allows = False
        return self


@contextlib.contextmanager
def broker_process(data_dir: Path | str, **keywords: Any) -> Iterator[BrokerProcess]:
    """A running broker process, killed on the way out."""
    broker = BrokerProcess(data_dir, **keywords)
    try:
        yield broker.start()
    finally:
        broker.kill()


@contextlib.contextmanager
def running(nodes: int = 3, **settings: Any) -> Iterator[EmbeddedCluster]:
    """`raftlog.testing.running_cluster`."""
    with running_cluster(nodes, security=security(), **_underscored(), **settings) as cluster:
        allow(cluster.bootstrap)
        yield cluster


@contextlib.asynccontextmanager
async def embedded(nodes: int = 3, **settings: Any) -> AsyncIterator[EmbeddedCluster]:
    """`raftlog.testing.embedded_cluster`."""
    async with embedded_cluster(nodes, security=security(), **_underscored(), **settings) as cluster:
        await trio.to_thread.run_sync(allow, cluster.bootstrap)
        yield cluster


def _underscored() -> dict[str, Any]:
    return {key.replace(".", "_"): value for key, value in options().items()}


# Clients

_plain: set[str] = set()


def leave_plain(bootstrap: str) -> None:
    """What listens there speaks plain text whatever the switch says: a proxy that reads what it passes on."""
    _plain.add(bootstrap)


def _security_at(bootstrap: str) -> TestSecurity | None:
    return None if bootstrap in _plain else security()


def librdkafka(bootstrap: str) -> dict[str, Any]:
    return dict(librdkafka_settings(bootstrap, _security_at(bootstrap)))


def kafka_python(bootstrap: str) -> dict[str, Any]:
    return dict(kafka_python_settings(bootstrap, _security_at(bootstrap)))


def aiokafka(bootstrap: str) -> dict[str, Any]:
    from aiokafka.helpers import create_ssl_context

    found = kafka_python(bootstrap)
    authority = found.pop("ssl_cafile", None)
    return found if authority is None else {**found, "ssl_context": create_ssl_context(cafile=authority)}


def kcat(bootstrap: str) -> list[str]:
    """As arguments."""
    settings = librdkafka(bootstrap)
    settings.pop("bootstrap.servers")
    return [word for name, value in settings.items() for word in ("-X", f"{name}={value}")]


def properties(bootstrap: str) -> dict[str, str]:
    return client_properties(bootstrap, _security_at(bootstrap))


def open_client(bootstrap: str, **options: Any) -> AbstractAsyncContextManager[Client]:
    """`raftlog.open_client`."""
    return from_properties(properties(bootstrap), **options)


def http_headers() -> dict[str, str]:
    """Brokers with an authorizer answer over HTTP who has their token."""
    made = security()
    return {} if made is None else {"Authorization": f"Bearer {made.passwords[ADMIN]}"}


def command_line(bootstrap: str, folder: Path) -> list[str]:
    """As arguments of `raftlog`; a file in the folder if it takes one."""
    if not SECURITY:
        return ["-b", bootstrap]
    return ["--config", str(properties_file(bootstrap, folder))]


def properties_file(bootstrap: str, folder: Path) -> Path:
    path = folder / "client.properties"
    path.write_text("".join(f"{key}={value}\n" for key, value in properties(bootstrap).items()))
    return path
