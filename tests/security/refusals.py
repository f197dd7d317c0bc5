"""What clients print when a broker does not let them, and what the broker's log says at that moment.

    python -m tests.security.refusals > docs/guides/refusals.md

makes each mistake with each client and prints that page. Of each client it is a line that names the cause, as
`Mistake.tells` has it; of a client that names it nowhere, the last line that names an error.
"""

from __future__ import annotations

import argparse
import datetime
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Final

from raftlog.security.kit import ADMIN, Place, make_kit
from raftlog.testing.processes import BrokerDidNotStart, BrokerProcess, free_port
from tests.certificates import authority, write_authority
from tests.kafka_peer.jars import VERSION as KAFKA
from tests.security.programs import GIVEN_UP_S, JAVA_GIVES_UP_S, OPEN, SECRET, Way, command

PATIENCE_S: Final = 60.0
PYTHON: Final = ("confluent-kafka", "kafka-python", "aiokafka")
CLIENTS: Final = (*PYTHON, "kcat", "Java")
USER: Final = "app"
EXPIRES_S: Final = 20.0
"""The certificate that has expired is good for so long at least, since a broker does not start with one that
has."""
CAPPED_S: Final = JAVA_GIVES_UP_S + 2 * GIVEN_UP_S
"""Who has not given up by then is ended: some clients try for ever."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Mistake:
    """`cure`: what to look at. `changed`: in the way that would work. `place`: where the client goes.
    `tells`: what a line says that names the cause. `logged`: what the broker's log says then."""

    name: str
    cure: str
    goal: str = "write"
    place: str = "login"
    changed: dict[str, str] = field(default_factory=dict)
    tells: str
    logged: str
    silent: tuple[str, ...] = ()
    """Clients that print nothing of the cause."""


MISTAKES: Final = (
    Mistake(
        name="wrong password",
        cure="`sasl.username`, `sasl.password`",
        changed={"password": "wrong"},
        tells="user or password is wrong",
        logged="a wrong password of user 'app'",
    ),
    Mistake(
        name="mechanism that is not offered",
        cure="`sasl.mechanism`; the broker offers those of `sasl.enabled.mechanisms`",
        changed={"mechanism": "PLAIN"},
        tells="SCRAM-SHA-512, *SCRAM-SHA-256|[Uu]nsupported ?S[Aa][Ss][Ll] ?[Mm]echanism",
        logged="UNSUPPORTED_SASL_MECHANISM; there are SCRAM-SHA-512, SCRAM-SHA-256",
    ),
    Mistake(
        name="TLS to a port in plain text",
        cure="`security.protocol`, or the port",
        place="plain",
        changed={"protocol": "SSL"},
        tells="PLAINTEXT broker listener|plaintext connection|wrong version number",
        logged="a TLS handshake: this listener is in plain text",
    ),
    Mistake(
        name="plain text to a port in TLS",
        cure="`security.protocol`, or the port",
        changed={"protocol": "PLAINTEXT"},
        tells="security.protocol",
        silent=("confluent-kafka", "kafka-python", "aiokafka", "Java"),
        logged="it speaks plain text to a listener in TLS",
    ),
    Mistake(
        name="no login where one is asked for",
        cure="`security.protocol=SASL_SSL`, and a user",
        changed={"protocol": "SSL"},
        tells="require SASL",
        silent=("confluent-kafka", "kafka-python", "aiokafka", "Java"),
        logged="before it has logged in",
    ),
    Mistake(
        name="a login where none is asked for",
        cure="`security.protocol` without SASL",
        place="plain",
        changed={"protocol": "SASL_PLAINTEXT"},
        tells="(?i)sasl ?state|asks for no login",
        logged="asks for no login",
    ),
    Mistake(
        name="wrong host name",
        cure="a certificate for the name that clients use (`raftlog security init --name …`)",
        place="elsewhere",
        tells="(?i)mismatch|not valid for|No subject alternative|certificate could not be verified",
        logged="ended the TLS handshake",
    ),
    Mistake(
        name="certificate of the broker expired",
        cure="a new file at `ssl.keystore.location`; brokers read it again by themselves",
        place="expired",
        tells="(?i)expired|certificate could not be verified",
        logged="ended the TLS handshake",
    ),
    Mistake(
        name="topic not allowed",
        cure="`raftlog acl add User:app Read Write --topic …`",
        goal="write secret",
        tells="(?i)topic.?authorization|not authorized to access topic",
        logged='"resource": "Topic", "name": "secret"',
    ),
    Mistake(
        name="group not allowed",
        cure="`raftlog acl add User:app Read --group …`",
        goal="read",
        tells="(?i)group.?authorization|may not|not authorized to access group",
        logged='"resource": "Group", "name": "secret"',
    ),
    Mistake(
        name="transactional id not allowed",
        cure="`raftlog acl add User:app Write --transactional-id …`",
        goal="transaction",
        tells="(?i)transactional.?id.?authorization|may not",
        logged='"resource": "TransactionalId", "name": "secret"',
    ),
)


class World:
    """A broker of `raftlog security init` with a port in plain text beside it, one whose certificate is for
    another name than clients use, and one whose certificate ends soon. A context manager."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        place = Place(number=1, host="localhost", port=free_port(), peer_port=0, http_port=0)
        plain_port = free_port()
        self.kit = make_kit(folder / "sec", (place,), [USER])
        self.secured = BrokerProcess(
            folder / "secured",
            port=place.port,
            arguments=("--security", str(self.kit.broker_folder(place))),
            options={
                "listeners": f"SASL_SSL://127.0.0.1:{place.port},LOCAL://127.0.0.1:{plain_port}",
                "advertised.listeners": f"SASL_SSL://localhost:{place.port},LOCAL://localhost:{plain_port}",
                "listener.security.protocol.map": "SASL_SSL:SASL_SSL,LOCAL:PLAINTEXT",
            },
        )
        self.trusted = write_authority(folder)
        self.elsewhere = self._in_tls("elsewhere")
        self.expired = self._in_tls("expired")
        self.expires_at = self._renew(self.expired, EXPIRES_S)
        self.good = Way(
            bootstrap=f"localhost:{place.port}",
            password=self.kit.passwords[USER],
            authority=str(self.kit.folder / "ca.pem"),
        )
        trusting = replace(self.good, protocol="SSL", authority=str(self.trusted))
        self.ways = {
            "login": self.good,
            "plain": replace(self.good, bootstrap=f"localhost:{plain_port}"),
            "elsewhere": replace(trusting, bootstrap=f"127.0.0.1:{self.elsewhere.port}"),
            "expired": replace(trusting, bootstrap=f"localhost:{self.expired.port}"),
        }

    def _in_tls(self, name: str) -> BrokerProcess:
        port = free_port()
        options = {
            "listeners": f"SSL://127.0.0.1:{port}",
            "advertised.listeners": f"SSL://localhost:{port}",
            "ssl.keystore.location": self.folder / f"{name}.pem",
        }
        broker = BrokerProcess(self.folder / name, port=port, options=options)
        self._renew(broker, 3600)
        return broker

    def _renew(self, broker: BrokerProcess, seconds: float) -> datetime.datetime:
        """A certificate for localhost, and until when."""
        until = datetime.datetime.now(datetime.UTC) + datetime.timedelta(seconds=seconds)
        keystore = Path(str(broker.options["ssl.keystore.location"]))
        issued = authority().issue_cert("localhost", not_after=until)
        issued.private_key_and_cert_chain_pem.write_to_path(keystore)
        keystore.chmod(0o600)
        return until

    def _start_expired(self) -> None:
        """A busy machine may take longer than the certificate is good for."""
        seconds = EXPIRES_S
        while True:
            try:
                self.expired.start()
            except BrokerDidNotStart:
                if "certificate has expired" not in self.expired.log_tail():
                    raise
                seconds *= 2
                self.expires_at = self._renew(self.expired, seconds)
            else:
                return

    @property
    def brokers(self) -> tuple[BrokerProcess, ...]:
        return self.secured, self.elsewhere, self.expired

    def __enter__(self) -> World:
        try:
            self.secured.launch()
            self.elsewhere.launch()
            self._start_expired()
            self.secured.wait_ready()
            self.elsewhere.wait_ready()
            self._allow()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *exc: object) -> None:
        for broker in self.brokers:
            if broker.is_running:
                broker.kill()

    def _allow(self) -> None:
        """The user may write to a topic and read it; the other is the admin's."""
        from confluent_kafka.admin import (
            AclBinding,
            AclOperation,
            AclPermissionType,
            AdminClient,
            NewTopic,
            ResourcePatternType,
            ResourceType,
        )

        way = replace(self.good, user=ADMIN, password=self.kit.passwords[ADMIN])
        admin = AdminClient(way.librdkafka())
        made = list(admin.create_topics([NewTopic(OPEN, 1), NewTopic(SECRET, 1)]).values())
        about = (ResourceType.TOPIC, OPEN, ResourcePatternType.LITERAL, f"User:{USER}", "*")
        rules = [
            AclBinding(*about, operation, AclPermissionType.ALLOW)
            for operation in (AclOperation.READ, AclOperation.WRITE)
        ]
        for future in (*made, *admin.create_acls(rules).values()):
            future.result(PATIENCE_S)

    def way(self, mistake: Mistake) -> Way:
        return replace(self.ways[mistake.place], **mistake.changed)

    def log_of(self, mistake: Mistake) -> str:
        """All that the broker of this mistake has logged."""
        broker = {"elsewhere": self.elsewhere, "expired": self.expired}.get(mistake.place, self.secured)
        return broker.log_tail(100_000)

    def wait_for_expiry(self) -> None:
        left = self.expires_at - datetime.datetime.now(datetime.UTC)
        time.sleep(max(0.0, left.total_seconds() + 1))


def play(world: World, mistake: Mistake, client: str) -> str | None:
    """What the client printed; None for a client that has no such program."""
    words = command(client, mistake.goal, world.way(mistake), world.folder)
    if words is None:
        return None
    process = subprocess.Popen(
        words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    try:
        return process.communicate("x\n", timeout=CAPPED_S)[0]
    except subprocess.TimeoutExpired:
        process.kill()
        return process.communicate()[0]


def named(mistake: Mistake, printed: str) -> tuple[str, bool]:
    """The line that says most of it, and whether it names the cause."""
    lines = [line.strip() for line in printed.splitlines() if line.strip()]
    told = [line for line in lines if re.search(mistake.tells, line)]
    failed = [line for line in lines if re.search("Error|Exception", line)] or lines or [""]
    return _short(min(told, key=len) if told else failed[-1]), bool(told)


def said(mistake: Mistake, log: str) -> str:
    """The broker's line: one of the audit log, which is JSON, where there is no other."""
    lines = [line for line in log.splitlines() if mistake.logged in line]
    line = min(lines, key=lambda line: "raftlog.audit" in line, default="")
    return _short(re.sub(r'^\S+ \S+ +(WARNING|INFO|ERROR) +\S+:? |"time": "[^"]*", ', "", line))


def _short(line: str) -> str:
    """Without what differs from one run to the next."""
    line = re.sub(r"127\.0\.0\.1:\d{4,5}|localhost:\d{4,5}|localhost/127\S+:\d+", "BROKER", line)
    line = re.sub(r" \(after \d+ms in state \w+\)|<-\d+(?=\])", "", line)
    line = re.sub(r"(?<=port)([= ])\d{4,5}|(?<='localhost', )()\d{4,5}", r"\1\2PORT", line)
    return line.replace("|", "\\|")


def sections(world: World, clients: Sequence[str], mistakes: Sequence[Mistake]) -> Iterator[str]:
    """One mistake after the other, each by all clients at once."""
    for mistake in mistakes:
        if mistake.place == "expired":
            world.wait_for_expiry()
        before = len(world.log_of(mistake))
        with ThreadPoolExecutor(len(clients)) as pool:
            printed = list(pool.map(partial(play, world, mistake), clients))
        yield f"\n## {mistake.name[0].upper()}{mistake.name[1:]}\n\nLook at: {mistake.cure}.\n"
        yield "| who | what it prints |\n|---|---|"
        for client, text in zip(clients, printed, strict=True):
            if text is not None:
                line, is_told = named(mistake, text)
                yield f"| {client} | `{line}`{'' if is_told else ' and no word of the cause'} |"
        yield f"| **the broker's log** | `{said(mistake, world.log_of(mistake)[before:])}` |"


PAGE: Final = """\
# What a refusal looks like

Something is wrong with how a client is set up, or with its rights: what does it print, and where is the
cause? Each mistake was made with each client, against a broker of `raftlog security init`. This page is
what `python -m tests.security.refusals` saw then, with BROKER and PORT for addresses.

* **The broker's log has a line for each of them**: what was asked, by whom, and mostly what to set. Lines
  in JSON are of the logger `raftlog.audit`. Of a certificate that a client does not take it knows no more
  than the alert that the client sent.
* **Some clients print nothing of the cause.** They are marked. Plain text to a port in TLS, and no login
  where one is asked for, look to them like a connection that closes, or like no answer.
* **librdkafka has the same words for a wrong host name and for a certificate that has expired.**
* **Who is not allowed is told what is missing** where the protocol has room for it, and librdkafka prints
  that: for a group and a transactional id. For a topic there is a code and no more.

`raftlog security check --config client.properties` goes the client's way with the client's settings, and
names the setting or the certificate at fault, also where the client prints nothing.

Versions: confluent-kafka {confluent} (librdkafka {librdkafka}), kafka-python {python}, aiokafka {aio}, kcat
{kcat}, Kafka's Java tools {java}. Java prints a stack trace besides; here is the line of it that says most.
"""


def page() -> str:
    import confluent_kafka

    kcat = subprocess.run(["kcat", "-V"], capture_output=True, text=True).stdout
    return PAGE.format(
        confluent=version("confluent-kafka"),
        librdkafka=confluent_kafka.libversion()[0],
        python=version("kafka-python"),
        aio=version("aiokafka"),
        kcat=" (librdkafka ".join(re.findall(r"(?:Version|librdkafka) (\d[\d.]*\d)", kcat)) + ")",
        java=KAFKA,
    )


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.security.refusals", description=__doc__)
    parser.add_argument("--client", action="append", choices=CLIENTS, help="only this one; several times")
    parser.add_argument("--only", default="", metavar="WORDS", help="mistakes with these words in their name")
    arguments = parser.parse_args()
    mistakes = [each for each in MISTAKES if arguments.only in each.name]
    print(page(), end="")
    with tempfile.TemporaryDirectory(prefix="raftlog-refusals-") as folder, World(Path(folder)) as world:
        for line in sections(world, arguments.client or CLIENTS, mistakes):
            print(line, flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
