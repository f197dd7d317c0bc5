"""The files of a secured cluster: a folder for each broker, and for each user what clients are set up with.

    DIR/broker-N/   broker.toml, server.pem, ca.pem, peer.secret, users.bootstrap: for the machine of broker N
    DIR/ca.key      the authority's key, which no broker needs
    DIR/USER.properties, USER.conf, USER.py: for Java and raftlog, for librdkafka, for Python

Nothing is overwritten. Files are their owner's alone.
"""

from __future__ import annotations

import base64
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from raftlog.cluster.first_users import write_first_user
from raftlog.config.addresses import host_problem, join_host_port
from raftlog.config.table import STANDARD_AUTHORIZER
from raftlog.errors import ConfigError
from raftlog.net.hosts import is_this_machine
from raftlog.security.certificates import Authority
from raftlog.security.credentials import credentials_of, new_password

ADMIN: Final = "admin"
KAFKA_PORT: Final = 9092
PEER_PORT: Final = 9192
HTTP_PORT: Final = 9644
SECRET_BYTES: Final = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a broker is."""

    number: int
    host: str
    port: int
    peer_port: int
    http_port: int

    @property
    def is_local(self) -> bool:
        """Whether nobody but its own machine reaches it."""
        return is_this_machine(self.host)

    @property
    def interface(self) -> str:
        return "127.0.0.1" if self.is_local else "0.0.0.0"


@dataclass(frozen=True, slots=True, kw_only=True)
class Kit:
    """What was made."""

    folder: Path
    places: tuple[Place, ...]
    passwords: dict[str, str]

    def broker_folder(self, place: Place) -> Path:
        return self.folder / f"broker-{place.number}"


def places_of(hosts: Sequence[str], brokers: int) -> tuple[Place, ...]:
    """Brokers on as many hosts, or all on one, at ports of their own. Raises ConfigError."""
    if len(hosts) not in (1, brokers):
        raise ConfigError(f"{len(hosts)} hosts for {brokers} brokers: name one host, or as many as brokers")
    for host in hosts:
        if (problem := host_problem(host)) is not None:
            raise ConfigError(problem)
    if len(set(hosts)) < len(hosts):
        raise ConfigError("a host is named twice")
    step = 1 if len(hosts) == 1 else 0
    return tuple(
        Place(
            number=number,
            host=hosts[(number - 1) % len(hosts)],
            port=KAFKA_PORT + step * (number - 1),
            peer_port=PEER_PORT + step * (number - 1),
            http_port=HTTP_PORT + step * (number - 1),
        )
        for number in range(1, brokers + 1)
    )


def make_kit(folder: Path, places: tuple[Place, ...], users: Sequence[str], names: Sequence[str] = ()) -> Kit:
    """Write it. `names` are more hosts that the brokers' certificates are for. Raises ConfigError, and
    FileExistsError for a folder that is there and not empty."""
    if folder.exists() and any(folder.iterdir()):
        raise ConfigError(f"{folder} is there, and not empty: nothing is overwritten")
    authority = Authority.make()
    passwords = {user: new_password() for user in dict.fromkeys((ADMIN, *users))}
    lines = [
        write_first_user(one)
        for user, password in passwords.items()
        for one in credentials_of(user, password)
    ]
    secret = base64.b64encode(os.urandom(SECRET_BYTES))
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    kit = Kit(folder=folder, places=places, passwords=passwords)
    for place in places:
        own = kit.broker_folder(place)
        own.mkdir(mode=0o700)
        hosts = dict.fromkeys((place.host, *names, "localhost", "127.0.0.1"))
        _write(own / "server.pem", authority.issue(*hosts))
        _write(own / "ca.pem", authority.pem)
        _write(own / "peer.secret", secret + b"\n")
        _write(own / "users.bootstrap", "\n".join((*lines, "")).encode())
        _write(own / "broker.toml", _settings(place, places).encode())
    _write(folder / "ca.key", authority.key_pem)
    _write(folder / "ca.pem", authority.pem)
    bootstrap = ",".join(join_host_port(place.host, place.port) for place in places)
    for user, password in passwords.items():
        for suffix, text in client_files(bootstrap, (folder / "ca.pem").resolve(), user, password).items():
            _write(folder / f"{user}{suffix}", text.encode())
    return kit


def client_files(bootstrap: str, authority: Path, user: str, password: str) -> dict[str, str]:
    """What clients are set up with, by the end of the file's name."""
    return {
        ".properties": f"""\
# Java, Kafka's tools, raftlog --config
bootstrap.servers={bootstrap}
security.protocol=SASL_SSL
sasl.mechanism=SCRAM-SHA-512
sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required \
username="{user}" password="{password}";
ssl.truststore.type=PEM
ssl.truststore.location={authority}
""",
        ".conf": f"""\
# librdkafka, kcat -F
bootstrap.servers={bootstrap}
security.protocol=SASL_SSL
sasl.mechanism=SCRAM-SHA-512
sasl.username={user}
sasl.password={password}
ssl.ca.location={authority}
""",
        ".py": f"""\
# kafka-python: KafkaProducer(**settings). aiokafka takes ssl_context in place of ssl_cafile.
settings = {{
    "bootstrap_servers": {bootstrap.split(",")!r},
    "security_protocol": "SASL_SSL",
    "sasl_mechanism": "SCRAM-SHA-512",
    "sasl_plain_username": {user!r},
    "sasl_plain_password": {password!r},
    "ssl_cafile": {str(authority)!r},
}}
""",
    }


def _settings(place: Place, places: tuple[Place, ...]) -> str:
    """A broker.toml. File names are those beside it: `raftlog serve --security DIR` finds them there."""
    lines = {
        "node.id": place.number,
        "listeners": f"SASL_SSL://{place.interface}:{place.port}",
        "advertised.listeners": f"SASL_SSL://{join_host_port(place.host, place.port)}",
        "raftlog.http.listen": f"127.0.0.1:{place.http_port}",
        "ssl.keystore.location": "server.pem",
        "raftlog.bootstrap.users.file": "users.bootstrap",
        "sasl.enabled.mechanisms": "SCRAM-SHA-512,SCRAM-SHA-256",
        "authorizer.class.name": STANDARD_AUTHORIZER,
        "super.users": f"User:{ADMIN}",
        "log.dirs": f"raftlog-data/broker-{place.number}",
    }
    if len(places) > 1:
        peers = (f"{each.number}@{join_host_port(each.host, each.peer_port)}" for each in places)
        lines |= {
            "raftlog.peer.listen": f"{place.interface}:{place.peer_port}",
            "raftlog.peer.advertise": join_host_port(place.host, place.peer_port),
            "raftlog.peers": ",".join(peers),
            "raftlog.peer.secret.file": "peer.secret",
        }
    return "".join(f"{name} = {value!r}\n".replace("'", '"') for name, value in lines.items())


def _write(path: Path, data: bytes) -> None:
    """A new file, its owner's alone."""
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        os.write(file, data)
    finally:
        os.close(file)
