"""The hello-world of the confluent-kafka tutorials: a keyed record, configured by client.properties."""

import os
import sys

from confluent_kafka import Consumer, Producer


def read_config(path: str) -> dict[str, str]:
    # reads the client configuration from client.properties and returns it as a key-value map
    config = {}
    with open(path) as fh:
        for line in fh:
            line = line.strip()
            if len(line) != 0 and line[0] != "#":
                parameter, value = line.strip().split("=", 1)
                config[parameter] = value.strip()
    return config


def produce(topic: str, config: dict[str, str]) -> None:
    producer = Producer(config)
    key = "sensor-001"
    value = '{"temperature": 21.5, "unit": "celsius"}'
    producer.produce(topic, key=key, value=value)
    print(f"Produced message to topic {topic}: key = {key:12} value = {value:12}")
    producer.flush()


def consume(topic: str, config: dict[str, str]) -> bool:
    config["group.id"] = "python-group-1"
    config["auto.offset.reset"] = "earliest"
    consumer = Consumer(config)
    consumer.subscribe([topic])
    try:
        for _ in range(20):
            msg = consumer.poll(1.0)
            if msg is not None and msg.error() is None:
                key = msg.key().decode("utf-8")
                value = msg.value().decode("utf-8")
                print(f"Consumed message from topic {topic}: key = {key:12} value = {value:12}")
                return key == "sensor-001"
    finally:
        consumer.close()
    return False


if __name__ == "__main__":
    properties = (
        sys.argv[1] if len(sys.argv) > 1 else os.environ.get("CLIENT_PROPERTIES", "client.properties")
    )
    produce("topic_weather", read_config(properties))
    raise SystemExit(0 if consume("topic_weather", read_config(properties)) else "nothing was consumed")
