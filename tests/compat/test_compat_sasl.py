"""Logins by clients that others wrote: those who do right, and what is told to who errs."""

from __future__ import annotations

import asyncio
import contextlib
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Consumer, KafkaError, Producer
from confluent_kafka.admin import (
    AdminClient,
    NewTopic,
    ScramCredentialInfo,
    ScramMechanism,
    UserScramCredentialUpsertion,
)

from raftlog.testing.processes import BrokerProcess, free_port
from tests.certificates import write_authority, write_certificate

pytestmark = [pytest.mark.compat, pytest.mark.slow, pytest.mark.filterwarnings("ignore::DeprecationWarning")]

PATIENCE_S = 60.0
MECHANISMS = ("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512")
USER = 'a=2Cb,ü "x"'
"""Scenario 22: what a name has that a mechanism might mistake."""
UNESCAPED = 'ü "x"'
"""For kafka-python, which does not escape names in SCRAM."""


class Secured:
    """A broker with a listener that asks for logins within TLS, and a plain one for who sets it up."""

    def __init__(self, folder: Path) -> None:
        self.port, self.plain_port = free_port(), free_port()
        self.trusted = write_authority(folder)
        options = {
            "listeners": f"SASL_SSL://127.0.0.1:{self.port},LOCAL://127.0.0.1:{self.plain_port}",
            "listener.security.protocol.map": "SASL_SSL:SASL_SSL,LOCAL:PLAINTEXT",
            "ssl.keystore.location": write_certificate(folder, "localhost", "127.0.0.1"),
            "sasl.enabled.mechanisms": ",".join(MECHANISMS),
        }
        self.broker = BrokerProcess(folder / "data", port=self.port, options=options)

        self.admin = AdminClient({"bootstrap.servers": f"127.0.0.1:{self.plain_port}"})

    def set_password(self, user: str, password: str) -> None:
        both = (ScramMechanism.SCRAM_SHA_256, ScramMechanism.SCRAM_SHA_512)
        put = [
            UserScramCredentialUpsertion(user, ScramCredentialInfo(each, 4096), password.encode())
            for each in both
        ]
        for future in self.admin.alter_user_scram_credentials(put).values():
            future.result(PATIENCE_S)

    def topic(self) -> str:
        name = f"t-{uuid.uuid4().hex[:12]}"
        self.admin.create_topics([NewTopic(name, 1, 1)])[name].result(PATIENCE_S)
        return name

    def librdkafka(self, mechanism: str, user: str = USER, password: str = "secret") -> dict[str, Any]:
        return {
            "bootstrap.servers": f"127.0.0.1:{self.port}",
            "security.protocol": "SASL_SSL",
            "ssl.ca.location": str(self.trusted),
            "sasl.mechanism": mechanism,
            "sasl.username": user,
            "sasl.password": password,
        }

    def kafka_python(self, mechanism: str, user: str = UNESCAPED, password: str = "secret") -> dict[str, Any]:
        return {
            "bootstrap_servers": f"127.0.0.1:{self.port}",
            "security_protocol": "SASL_SSL",
            "ssl_cafile": str(self.trusted),
            "sasl_mechanism": mechanism,
            "sasl_plain_username": user,
            "sasl_plain_password": password,
        }

    def until_said(self, text: str) -> None:
        deadline = time.monotonic() + PATIENCE_S
        while text not in self.broker.log_tail(10_000):
            assert time.monotonic() < deadline, self.broker.log_tail()
            time.sleep(0.05)


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secured]:
    secured = Secured(tmp_path_factory.mktemp("sasl"))
    secured.broker.start()
    try:
        secured.set_password(USER, "secret")
        secured.set_password(UNESCAPED, "secret")
        yield secured
    finally:
        secured.broker.kill()


@pytest.mark.parametrize("mechanism", MECHANISMS)
def test_librdkafka_logs_in(secured: Secured, mechanism: str) -> None:
    topic = secured.topic()
    producer = Producer(secured.librdkafka(mechanism))
    producer.produce(topic, b"by librdkafka")
    assert producer.flush(PATIENCE_S) == 0
    consumer = Consumer(secured.librdkafka(mechanism) | {"group.id": topic, "auto.offset.reset": "earliest"})
    consumer.subscribe([topic])
    with contextlib.closing(consumer):
        message = consumer.poll(PATIENCE_S)
        assert message is not None and message.value() == b"by librdkafka"


@pytest.mark.parametrize("mechanism", MECHANISMS)
def test_kafka_python_logs_in(secured: Secured, mechanism: str) -> None:
    from kafka import KafkaProducer  # it warns when it is imported

    with contextlib.closing(KafkaProducer(**secured.kafka_python(mechanism))) as producer:
        assert producer.send(secured.topic(), b"by kafka-python").get(PATIENCE_S).offset == 0


@pytest.mark.parametrize("mechanism", MECHANISMS)
def test_aiokafka_logs_in(secured: Secured, mechanism: str) -> None:
    from aiokafka import AIOKafkaProducer
    from aiokafka.helpers import create_ssl_context

    settings = secured.kafka_python(mechanism, USER)
    settings["ssl_context"] = create_ssl_context(cafile=settings.pop("ssl_cafile"))
    topic = secured.topic()

    async def main() -> int:
        async with AIOKafkaProducer(**settings) as producer:
            return (await producer.send_and_wait(topic, b"by aiokafka")).offset

    assert asyncio.run(main()) == 0


@pytest.mark.parametrize("mechanism", MECHANISMS)
def test_librdkafka_is_told_that_the_password_is_wrong(secured: Secured, mechanism: str) -> None:
    told: list[KafkaError] = []
    producer = Producer(secured.librdkafka(mechanism, password="wrong") | {"error_cb": told.append})
    deadline = time.monotonic() + PATIENCE_S
    while not any("user or password is wrong" in error.str() for error in told):
        assert time.monotonic() < deadline, told
        producer.poll(0.1)
    assert told[0].code() == KafkaError._AUTHENTICATION
    secured.until_said(f"a wrong password of user {USER!r} ({mechanism})")
    assert "secret" not in secured.broker.log_tail(10_000)


def test_a_new_password_ends_the_connections_of_the_old_one(secured: Secured) -> None:
    """Scenario 60: nothing that was made with it is served after the call."""
    secured.set_password("bob", "old")
    topic, told = secured.topic(), list[KafkaError]()
    settings = secured.librdkafka("SCRAM-SHA-256", "bob", "old") | {"message.timeout.ms": 8000}
    producer = Producer(settings | {"error_cb": told.append})
    results: list[KafkaError | None] = []
    producer.produce(topic, b"before", on_delivery=lambda error, _: results.append(error))
    assert producer.flush(PATIENCE_S) == 0 and results == [None]
    secured.set_password("bob", "new")
    producer.produce(topic, b"after", on_delivery=lambda error, _: results.append(error))
    producer.flush(PATIENCE_S)
    assert results[1] is not None
    assert any(error.code() == KafkaError._AUTHENTICATION for error in told)
    secured.until_said("the password of User:bob was changed")
    renewed = Producer(secured.librdkafka("SCRAM-SHA-256", "bob", "new"))
    renewed.produce(topic, b"again")
    assert renewed.flush(PATIENCE_S) == 0
