"""The first program of each client's tutorial, as a process: it writes a record, reads one, or writes one in
a transaction, and prints what it is told. It handles no error but by printing it.

    python -m tests.security.programs CLIENT GOAL SETTINGS

SETTINGS is `Way` as JSON. kcat and Kafka's Java tools are programs already: `command` has how they are
called.
"""

from __future__ import annotations

import asyncio
import json
import logging
import shutil
import sys
import warnings
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

GIVEN_UP_S: Final = 5
"""Each client is told to give up after so long, by its own settings."""
JAVA_GIVES_UP_S: Final = 15
"""Java's tools, which begin slowly on a busy machine."""
SECRET: Final = "secret"
"""The topic, the group and the transactional id that nobody but the admin may use."""
OPEN: Final = "open"
"""The topic that the user may write to and read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Way:
    """How a client is set up."""

    bootstrap: str
    protocol: str = "SASL_SSL"
    mechanism: str = "SCRAM-SHA-512"
    user: str = "app"
    password: str = ""
    authority: str = ""

    def librdkafka(self) -> dict[str, Any]:
        found: dict[str, Any] = {"bootstrap.servers": self.bootstrap, "security.protocol": self.protocol}
        if "SASL" in self.protocol:
            found |= {"sasl.mechanism": self.mechanism, "sasl.username": self.user}
            found |= {"sasl.password": self.password}
        if "SSL" in self.protocol:
            found |= {"ssl.ca.location": self.authority}
        return found

    def python(self) -> dict[str, Any]:
        found: dict[str, Any] = {"bootstrap_servers": self.bootstrap, "security_protocol": self.protocol}
        if "SASL" in self.protocol:
            found |= {"sasl_mechanism": self.mechanism, "sasl_plain_username": self.user}
            found |= {"sasl_plain_password": self.password}
        if "SSL" in self.protocol:
            found |= {"ssl_cafile": self.authority}
        return found

    def java(self) -> dict[str, str]:
        found = {"bootstrap.servers": self.bootstrap, "security.protocol": self.protocol}
        if "SASL" in self.protocol:
            module = "plain.PlainLoginModule" if self.mechanism == "PLAIN" else "scram.ScramLoginModule"
            found["sasl.mechanism"] = self.mechanism
            found["sasl.jaas.config"] = (
                f"org.apache.kafka.common.security.{module} required"
                f' username="{self.user}" password="{self.password}";'
            )
        if "SSL" in self.protocol:
            found |= {"ssl.truststore.type": "PEM", "ssl.truststore.location": self.authority}
        return found


# Confluent's


def confluent_write(way: Way, topic: str = OPEN, **more: Any) -> None:
    from confluent_kafka import Producer

    settings = {"message.timeout.ms": GIVEN_UP_S * 1000, "error_cb": _print_error, **way.librdkafka(), **more}
    producer = Producer(settings)
    if "transactional.id" in more:
        producer.init_transactions(GIVEN_UP_S)
    producer.produce(topic, b"x", on_delivery=lambda error, _: print(f"delivered: {error}", flush=True))
    producer.flush(2 * GIVEN_UP_S)


def confluent_read(way: Way) -> None:
    from confluent_kafka import Consumer

    settings = {"group.id": SECRET, "auto.offset.reset": "earliest", "error_cb": _print_error}
    consumer = Consumer(settings | way.librdkafka())
    consumer.subscribe([OPEN])
    message = consumer.poll(2 * GIVEN_UP_S)
    print(f"polled: {message and message.error()}", flush=True)
    consumer.close()


def _print_error(error: Any) -> None:
    print(error, flush=True)


# kafka-python


def kafka_python_write(way: Way, topic: str = OPEN, **more: Any) -> None:
    from kafka import KafkaProducer

    producer = KafkaProducer(**way.python(), **more, max_block_ms=GIVEN_UP_S * 1000)
    if "transactional_id" in more:
        producer.init_transactions()
    print("delivered:", producer.send(topic, b"x").get(GIVEN_UP_S), flush=True)


def kafka_python_read(way: Way) -> None:
    from kafka import KafkaConsumer

    consumer = KafkaConsumer(
        OPEN, group_id=SECRET, auto_offset_reset="earliest", consumer_timeout_ms=GIVEN_UP_S * 1000,
        **way.python(),
    )  # fmt: skip
    print("polled:", list(consumer), flush=True)


# aiokafka


def _aio(way: Way) -> dict[str, Any]:
    from aiokafka.helpers import create_ssl_context

    found = way.python()
    authority = found.pop("ssl_cafile", None)
    return found | ({"ssl_context": create_ssl_context(cafile=authority)} if authority else {})


def aiokafka_write(way: Way, topic: str = OPEN, **more: Any) -> None:
    from aiokafka import AIOKafkaProducer

    async def main() -> None:
        async with AIOKafkaProducer(**_aio(way), **more) as producer:
            if "transactional_id" in more:
                await producer.begin_transaction()
            print("delivered:", await producer.send_and_wait(topic, b"x"), flush=True)

    asyncio.run(main())


def aiokafka_read(way: Way) -> None:
    from aiokafka import AIOKafkaConsumer

    async def main() -> None:
        consumer = AIOKafkaConsumer(OPEN, group_id=SECRET, auto_offset_reset="earliest", **_aio(way))
        async with consumer:
            print("polled:", await consumer.getone(), flush=True)

    asyncio.run(main())


Program = Callable[[Way], None]
PROGRAMS: Final[dict[tuple[str, str], Program]] = {
    ("confluent-kafka", "write"): confluent_write,
    ("confluent-kafka", "write secret"): lambda way: confluent_write(way, SECRET),
    ("confluent-kafka", "read"): confluent_read,
    ("confluent-kafka", "transaction"): lambda way: confluent_write(way, **{"transactional.id": SECRET}),
    ("kafka-python", "write"): kafka_python_write,
    ("kafka-python", "write secret"): lambda way: kafka_python_write(way, SECRET),
    ("kafka-python", "read"): kafka_python_read,
    ("kafka-python", "transaction"): lambda way: kafka_python_write(way, transactional_id=SECRET),
    ("aiokafka", "write"): aiokafka_write,
    ("aiokafka", "write secret"): lambda way: aiokafka_write(way, SECRET),
    ("aiokafka", "read"): aiokafka_read,
    ("aiokafka", "transaction"): lambda way: aiokafka_write(way, transactional_id=SECRET),
}


def command(client: str, goal: str, way: Way, folder: Path) -> list[str] | None:
    """What to run; None where a client has no such program. A file of settings goes into the folder."""
    if (client, goal) in PROGRAMS:
        return [sys.executable, "-m", "tests.security.programs", client, goal, json.dumps(asdict(way))]
    if client == "kcat":
        return _kcat(goal, way)
    if client == "Java":
        return _java(goal, way, folder)
    return None


def _kcat(goal: str, way: Way) -> list[str] | None:
    found = shutil.which("kcat") or shutil.which("kafkacat")
    if found is None or goal == "transaction":
        return None
    settings = way.librdkafka()
    words = [found, "-b", settings.pop("bootstrap.servers")]
    words += [word for name, value in settings.items() for word in ("-X", f"{name}={value}")]
    if goal == "read":
        return [*words, "-G", SECRET, OPEN]
    topic = OPEN if goal == "write" else SECRET
    return [*words, "-X", f"message.timeout.ms={GIVEN_UP_S * 1000}", "-P", "-t", topic]


def _java(goal: str, way: Way, folder: Path) -> list[str] | None:
    from tests.foreign.commands import JavaTools

    limits = {
        "max.block.ms": str(JAVA_GIVES_UP_S * 1000),
        "request.timeout.ms": "5000",
        "delivery.timeout.ms": str(JAVA_GIVES_UP_S * 1000),
        "default.api.timeout.ms": str(JAVA_GIVES_UP_S * 1000),
        "linger.ms": "0",
    }
    if goal == "transaction":
        limits["transactional.id"] = SECRET
    file = folder / f"{way.protocol}-{goal.replace(' ', '-')}.properties"
    file.write_text("".join(f"{key}={value}\n" for key, value in (limits | way.java()).items()))
    tools = JavaTools()
    if goal == "read":
        more = (
            "--topic",
            OPEN,
            "--group",
            SECRET,
            "--consumer.config",
            file,
            "--timeout-ms",
            1000 * JAVA_GIVES_UP_S,
        )
        return tools.command("console-consumer", "--bootstrap-server", way.bootstrap, *more)
    if goal == "transaction":
        more = ("--topic", OPEN, "--num-records", 1, "--record-size", 1, "--throughput", -1)
        more = (*more, "--producer.config", file, "--transaction-duration-ms", 1000)
        return tools.command("ProducerPerformance", *more)
    topic = OPEN if goal == "write" else SECRET
    return tools.command(
        "ConsoleProducer", "--bootstrap-server", way.bootstrap, "--topic", topic, "--producer.config", file
    )


def main(client: str, goal: str, settings: str) -> int:
    warnings.simplefilter("ignore")
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s:%(name)s:%(message)s")
    try:
        PROGRAMS[client, goal](Way(**json.loads(settings)))
    except Exception as error:
        print(f"{type(error).__name__}: {error}", flush=True)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
