"""The hello-world of the kafka-python tutorials: ten JSON messages, read back by a group consumer."""

import json
import os
import time

from kafka import KafkaConsumer, KafkaProducer

BOOTSTRAP = os.environ.get("BOOTSTRAP", "localhost:9092")


def produce() -> None:
    producer = KafkaProducer(
        bootstrap_servers=[BOOTSTRAP],
        value_serializer=lambda v: json.dumps(v).encode("utf-8"),
    )
    for i in range(10):
        message = {"user_id": i, "action": "click", "timestamp": time.time()}
        producer.send("user-activity", value=message)
        print(f"Sent: {message}")
    producer.flush()
    producer.close()


def consume() -> int:
    consumer = KafkaConsumer(
        "user-activity",
        bootstrap_servers=[BOOTSTRAP],
        auto_offset_reset="earliest",
        enable_auto_commit=True,
        group_id="user-activity-group",
        value_deserializer=lambda x: json.loads(x.decode("utf-8")),
        consumer_timeout_ms=10_000,
    )
    received = 0
    for message in consumer:
        print(f"Received: {message.value}")
        received += 1
        if received == 10:
            break
    consumer.close()
    return received


if __name__ == "__main__":
    produce()
    count = consume()
    raise SystemExit(0 if count == 10 else f"expected 10 messages, received {count}")
