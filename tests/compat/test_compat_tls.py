"""A broker in TLS, and clients that others wrote: those who do right, and what is told to who errs."""

from __future__ import annotations

import contextlib
import hashlib
import os
import socket
import ssl
import threading
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Consumer, KafkaError, Producer
from confluent_kafka.admin import AdminClient, NewTopic

from raftlog.testing.processes import BrokerProcess, free_port
from tests.certificates import authority, client_context, write_authority, write_certificate

pytestmark = [pytest.mark.compat, pytest.mark.slow]

PATIENCE_S = 60.0


class Tls:
    """A broker with a listener in TLS, one that asks for certificates beside it, and the files."""

    def __init__(self, folder: Path, client_auth: str) -> None:
        self.port = free_port()
        self.keystore = write_certificate(folder, "localhost", "127.0.0.1")
        self.trusted = write_authority(folder)
        self.client = folder / "client.pem"
        issued = authority().issue_cert("alice.example", common_name="alice")
        issued.private_key_and_cert_chain_pem.write_to_path(self.client)
        options = {
            "listeners": f"SSL://127.0.0.1:{self.port}",
            "ssl.keystore.type": "PEM",
            "ssl.keystore.location": self.keystore,
            "ssl.truststore.type": "PEM",
            "ssl.truststore.location": self.trusted,
            "ssl.client.auth": client_auth,
        }
        self.broker = BrokerProcess(folder / "data", port=self.port, options=options)

    @property
    def bootstrap(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def librdkafka(self) -> dict[str, Any]:
        return {
            "bootstrap.servers": self.bootstrap,
            "security.protocol": "SSL",
            "ssl.ca.location": str(self.trusted),
        }

    @property
    def kafka_python(self) -> dict[str, Any]:
        return {
            "bootstrap_servers": self.bootstrap,
            "security_protocol": "SSL",
            "ssl_cafile": str(self.trusted),
        }

    def until_said(self, text: str) -> None:
        deadline = time.monotonic() + PATIENCE_S
        while text not in self.broker.log_tail(10_000):
            assert time.monotonic() < deadline, self.broker.log_tail()
            time.sleep(0.05)

    def topic(self) -> str:
        name = f"t-{uuid.uuid4().hex[:12]}"
        admin = AdminClient(self.librdkafka | self.certificate)
        admin.create_topics([NewTopic(name, 1, 1)])[name].result(PATIENCE_S)
        return name

    @property
    def certificate(self) -> dict[str, Any]:
        return {"ssl.certificate.location": str(self.client), "ssl.key.location": str(self.client)}


@contextlib.contextmanager
def serving(folder: Path, client_auth: str) -> Iterator[Tls]:
    tls = Tls(folder, client_auth)
    tls.broker.start()
    try:
        yield tls
    finally:
        tls.broker.kill()


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tls]:
    with serving(tmp_path_factory.mktemp("tls"), "none") as tls:
        yield tls


@pytest.fixture(scope="module")
def mutual(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tls]:
    with serving(tmp_path_factory.mktemp("mutual"), "required") as tls:
        yield tls


def test_librdkafka_writes_and_reads(tls: Tls) -> None:
    """Small records, and some of a megabyte: what comes back from segments goes out encrypted."""
    topic, sent = tls.topic(), []
    producer = Producer(tls.librdkafka | {"message.max.bytes": 2_000_000})
    for number in range(400):
        sent.append(os.urandom(900_000 if number % 100 == 0 else 1_000))
        producer.produce(topic, sent[-1])
    assert producer.flush(PATIENCE_S) == 0
    consumer = Consumer(tls.librdkafka | {"group.id": topic, "auto.offset.reset": "earliest"})
    consumer.subscribe([topic])
    with contextlib.closing(consumer):
        assert read(consumer, len(sent)) == sent


def read(consumer: Consumer, count: int) -> list[bytes]:
    values: list[bytes] = []
    deadline = time.monotonic() + PATIENCE_S
    while len(values) < count:
        assert time.monotonic() < deadline, len(values)
        for message in consumer.consume(500, timeout=0.2):
            assert message.error() is None, message.error()
            values.append(message.value())
    return values


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_kafka_python_writes_and_reads(tls: Tls) -> None:
    from kafka import KafkaConsumer, KafkaProducer  # it warns when it is imported

    topic, sent = tls.topic(), [os.urandom(2_000) for _ in range(200)]
    with contextlib.closing(KafkaProducer(**tls.kafka_python)) as producer:
        for value in sent:
            producer.send(topic, value)
        producer.flush(PATIENCE_S)
    consumer = KafkaConsumer(topic, **tls.kafka_python, auto_offset_reset="earliest")
    with contextlib.closing(consumer):
        assert [next(consumer).value for _ in sent] == sent


def test_a_client_with_a_certificate_is_served(mutual: Tls) -> None:
    topic = mutual.topic()
    producer = Producer(mutual.librdkafka | mutual.certificate)
    producer.produce(topic, b"by alice")
    assert producer.flush(PATIENCE_S) == 0


@pytest.mark.parametrize("shown", ["nothing", "of others"])
def test_a_client_without_a_certificate_of_ours_is_refused(mutual: Tls, shown: str, tmp_path: Path) -> None:
    """Scenario 6: before any request is looked at."""
    context = client_context()
    if shown == "of others":
        path = write_certificate(tmp_path, "mallory.example", name="theirs")
        context.load_cert_chain(path)
    plain = socket.create_connection(("127.0.0.1", mutual.port), timeout=30)
    with (
        pytest.raises((ssl.SSLError, ConnectionError)),
        context.wrap_socket(plain, server_hostname="127.0.0.1") as encrypted,
    ):
        encrypted.sendall(b"\0\0\0\x0a\0\x12\0\0\0\0\0\1\0\0")
        if not encrypted.recv(100):
            raise ConnectionAbortedError
    if shown == "nothing":
        mutual.until_said("peer did not return a certificate")
    else:
        mutual.until_said("the certificate of the other side is not taken")


def test_plain_text_to_tls_is_told_nothing_and_the_log_says_what_it_was(tls: Tls) -> None:
    """Scenario 1: an alert of TLS would be a length to a Java client."""
    with socket.create_connection(("127.0.0.1", tls.port), timeout=30) as plain:
        plain.sendall(b"\0\0\0\x0a\0\x12\0\0\0\0\0\1\0\0")
        try:
            assert plain.recv(100) == b""
        except ConnectionResetError:
            pass
    tls.until_said(
        "to SSL: it speaks plain text to a listener in TLS: set the client's security.protocol to SSL"
    )


def test_who_says_half_of_a_hello_is_given_up_and_others_do_not_notice(tls: Tls) -> None:
    """Scenarios 3 and 4: within ten seconds."""
    silent = [socket.create_connection(("127.0.0.1", tls.port), timeout=30) for _ in range(100)]
    for connection in silent:
        connection.sendall(b"\x16\x03\x01\x02\x00\x01")
    begun = time.monotonic()
    producer = Producer(tls.librdkafka)
    producer.produce(tls.topic(), b"meanwhile")
    assert producer.flush(PATIENCE_S) == 0
    for connection in silent:
        with contextlib.closing(connection), contextlib.suppress(ConnectionResetError):
            assert connection.recv(100) == b""
    assert 5 < time.monotonic() - begun < PATIENCE_S
    tls.until_said("the TLS handshake was not over in time")


def test_a_client_that_trusts_others_is_told_so(tls: Tls, tmp_path: Path) -> None:
    told: list[KafkaError] = []
    wrong = {"ssl.ca.location": str(write_authority(tmp_path, "theirs")), "error_cb": told.append}
    producer = Producer(tls.librdkafka | wrong)
    deadline = time.monotonic() + PATIENCE_S
    while not any("certificate" in error.str() for error in told):
        assert time.monotonic() < deadline, told
        producer.poll(0.1)
    tls.until_said("the other side ended the TLS handshake")


@pytest.mark.long
def test_a_certificate_is_renewed_while_clients_go_on(tmp_path: Path) -> None:
    """Scenario 8: first a file that is no good, and then a good one."""
    with serving(tmp_path, "none") as tls:
        topic = tls.topic()
        producer = Producer(tls.librdkafka)
        ended = threading.Event()
        delivered: list[int] = []

        def produce() -> None:
            while not ended.is_set():
                producer.produce(topic, b"x", on_delivery=lambda error, _: delivered.append(bool(error)))
                producer.poll(0.01)

        thread = threading.Thread(target=produce)
        thread.start()
        try:
            before = shown(tls.port)
            good = tls.keystore.read_bytes()
            tls.keystore.write_bytes(b"no key")
            tls.until_said("the certificate is not changed, the one before stays in use")
            assert shown(tls.port) == before
            (tmp_path / "other").mkdir()
            os.replace(write_certificate(tmp_path / "other", "localhost", "127.0.0.1"), tls.keystore)
            tls.until_said("the certificate was read again")
            assert shown(tls.port) != before
            assert good != tls.keystore.read_bytes()
        finally:
            ended.set()
            thread.join()
        assert producer.flush(PATIENCE_S) == 0
        assert delivered and not any(delivered)


def shown(port: int) -> str:
    """The digest of the certificate that a new connection gets."""
    plain = socket.create_connection(("127.0.0.1", port), timeout=30)
    with client_context().wrap_socket(plain, server_hostname="127.0.0.1") as encrypted:
        certificate = encrypted.getpeercert(binary_form=True)
    assert certificate is not None
    return hashlib.sha256(certificate).hexdigest()
