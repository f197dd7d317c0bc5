"""Brokers with an authorizer, and clients that are somebody: by their certificates."""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from raftlog.broker.principals import principal_of
from raftlog.config.table import STANDARD_AUTHORIZER
from raftlog.testing.processes import ClusterProcesses, free_port
from tests.certificates import authority, write_authority, write_certificate


class Person:
    """Somebody with a certificate."""

    def __init__(self, folder: Path, name: str) -> None:
        self.name = name
        self.pem = folder / f"{name}.client.pem"
        issued = authority().issue_cert(
            f"{name}.example", common_name=name, organization_name="people", organization_unit_name="here"
        )
        issued.private_key_and_cert_chain_pem.write_to_path(self.pem)
        self.pem.chmod(0o600)
        first = folder / f"{name}.first.pem"
        issued.cert_chain_pems[0].write_to_path(first)
        decoded: dict[str, Any] = ssl._ssl._test_decode_cert(str(first))  # type: ignore[attr-defined]
        self.principal = principal_of(decoded)


class AuthorizedBrokers(ClusterProcesses):
    """Each broker has a listener in TLS that asks for certificates, and one in plain text for nobody in
    particular. `admin` is the super user."""

    def __init__(
        self,
        root: Path,
        nodes: int = 3,
        *,
        options: Mapping[str, object] | None = None,
        programs: Mapping[int, tuple[str, ...]] | None = None,
    ) -> None:
        root.mkdir(parents=True, exist_ok=True)
        self.trusted = write_authority(root)
        self.admin = Person(root, "admin")
        keystore = write_certificate(root, "localhost", "127.0.0.1")
        given: dict[str, object] = {
            "authorizer.class.name": STANDARD_AUTHORIZER,
            "super.users": self.admin.principal,
            "ssl.keystore.location": keystore,
            "ssl.truststore.location": self.trusted,
            "ssl.client.auth": "required",
            "group.initial.rebalance.delay.ms": 0,
        }
        super().__init__(root, nodes, options=given | dict(options or {}), programs=programs)
        self.plain: dict[int, int] = {}
        """The ports in plain text."""
        for broker in self.brokers.values():
            self.plain[broker.node_id] = free_port()
            broker.options["listeners"] = (
                f"SSL://127.0.0.1:{broker.port},PLAINTEXT://127.0.0.1:{self.plain[broker.node_id]}"
            )

    def person(self, name: str) -> Person:
        return Person(self.root if isinstance(self.root, Path) else Path(self.root), name)

    def librdkafka(self, who: Person) -> dict[str, Any]:
        return {
            "bootstrap.servers": self.bootstrap,
            "security.protocol": "SSL",
            "ssl.ca.location": str(self.trusted),
            "ssl.certificate.location": str(who.pem),
            "ssl.key.location": str(who.pem),
            "log_level": 0,
        }

    def kafka_python(self, who: Person) -> dict[str, Any]:
        return {
            "bootstrap_servers": self.bootstrap.split(","),
            "security_protocol": "SSL",
            "ssl_cafile": str(self.trusted),
            "ssl_certfile": str(who.pem),
            "ssl_keyfile": str(who.pem),
        }

    def own_client(self, who: Person) -> dict[str, Any]:
        return {
            "security_protocol": "SSL",
            "ssl_truststore_location": str(self.trusted),
            "ssl_keystore_location": str(who.pem),
        }

    def properties(self, who: Person) -> Path:
        """A client.properties file, as the command line takes it."""
        path = Path(self.root) / f"{who.name}.properties"
        lines = {
            "bootstrap.servers": self.bootstrap,
            "security.protocol": "SSL",
            "ssl.truststore.location": self.trusted,
            "ssl.keystore.location": who.pem,
        }
        path.write_text("".join(f"{key}={value}\n" for key, value in lines.items()))
        return path
