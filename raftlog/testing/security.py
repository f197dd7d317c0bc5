"""What a test's brokers and clients need for logins in TLS: made for one test run, in a folder of its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final, Literal, TypeAlias

import trio

from raftlog.config.table import STANDARD_AUTHORIZER
from raftlog.security.kit import ADMIN as ADMIN
from raftlog.security.kit import Place, client_files, make_kit

USER: Final = "test"
MECHANISMS: Final = "SCRAM-SHA-512,SCRAM-SHA-256,PLAIN"
AUTHORIZED: Final[Mapping[str, str]] = {
    "authorizer.class.name": STANDARD_AUTHORIZER,
    "super.users": f"User:{ADMIN}",
}
"""Of brokers that ask who may do what: at first nobody but `ADMIN`."""


class TestSecurity:
    """A certificate for this machine, a secret, and two users whose passwords are made up: `USER`, and
    `ADMIN` for where there is an authorizer."""

    __test__ = False

    def __init__(self, folder: Path, hosts: Sequence[str] = ()) -> None:
        """Write the files, for brokers at these hosts and at 127.0.0.1; some 10 ms, and once half a second to
        import what makes certificates. Raises ConfigError when that is not installed."""
        place = Place(number=1, host="127.0.0.1", port=1, peer_port=1, http_port=0)
        kit = make_kit(folder, (place,), [USER], hosts)
        own = kit.broker_folder(place)
        self.authority = folder / "ca.pem"
        """Who issued the brokers' certificate, for `ssl_cafile` and the like."""
        self.client_file = folder / f"{USER}.properties"
        """How `USER` logs in, for the command line: give it the address beside it."""
        self.passwords: Mapping[str, str] = kit.passwords
        """By user."""
        self.settings: Mapping[str, str] = {
            "ssl.keystore.location": str(own / "server.pem"),
            "raftlog.bootstrap.users.file": str(own / "users.bootstrap"),
            "raftlog.peer.secret.file": str(own / "peer.secret"),
            "sasl.enabled.mechanisms": MECHANISMS,
        }
        """Of each broker, beside a listener that asks for logins."""

    def listener(self, address: str) -> str:
        """The `listeners` of a broker at an address."""
        return f"SASL_SSL://{address}"


Security: TypeAlias = TestSecurity | Literal["sasl_ssl"]
"""One that clusters share, or one of each cluster's own."""


def client_properties(bootstrap: str, security: TestSecurity | None, user: str = USER) -> dict[str, str]:
    """The settings of a client, as Java and `raftlog.from_properties` take them."""
    if security is None:
        return {"bootstrap.servers": bootstrap}
    text = client_files(bootstrap, security.authority, user, security.passwords[user])[".properties"]
    return dict(line.split("=", 1) for line in text.splitlines() if not line.startswith("#"))


def librdkafka_settings(bootstrap: str, security: TestSecurity | None, user: str = USER) -> dict[str, str]:
    """The same for confluent-kafka, and whatever else is made of librdkafka."""
    found = {"bootstrap.servers": bootstrap}
    if security is not None:
        found |= {
            "security.protocol": "SASL_SSL",
            "sasl.mechanism": "SCRAM-SHA-512",
            "sasl.username": user,
            "sasl.password": security.passwords[user],
            "ssl.ca.location": str(security.authority),
        }
    return found


def kafka_python_settings(bootstrap: str, security: TestSecurity | None, user: str = USER) -> dict[str, str]:
    """The same as keywords of kafka-python."""
    found = {"bootstrap_servers": bootstrap}
    if security is not None:
        found |= {
            "security_protocol": "SASL_SSL",
            "sasl_mechanism": "SCRAM-SHA-512",
            "sasl_plain_username": user,
            "sasl_plain_password": security.passwords[user],
            "ssl_cafile": str(security.authority),
        }
    return found


def allow_everything(bootstrap: str, security: TestSecurity) -> None:
    """Let `USER` do everything that brokers with an authorizer are asked for: by one rule each for topics,
    groups, transactional ids and the cluster, so that every request is looked up. Blocking, within an event
    loop as well. Raises ClientError."""
    with ThreadPoolExecutor(1) as thread:
        thread.submit(trio.run, _allow_everything, bootstrap, security).result()


async def _allow_everything(bootstrap: str, security: TestSecurity) -> None:
    from raftlog.client.acls import Acl
    from raftlog.client.client import from_properties
    from raftlog.rights import CLUSTER_NAME, EVERY_NAME, Operation, ResourceKind

    names = {
        ResourceKind.TOPIC: EVERY_NAME,
        ResourceKind.GROUP: EVERY_NAME,
        ResourceKind.TRANSACTIONAL_ID: EVERY_NAME,
        ResourceKind.CLUSTER: CLUSTER_NAME,
    }
    rules = [
        Acl(kind=kind, name=name, principal=f"User:{USER}", operation=Operation.ALL)
        for kind, name in names.items()
    ]
    async with from_properties(client_properties(bootstrap, security, ADMIN)) as client:
        await client.admin.operations.acls.create(rules)
