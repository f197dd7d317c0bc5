"""What the topic holds: registries side by side, after a restart, after a kill, and beside other programs."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
import trio

import raftlog
from raftlog.registry.reader import Reader
from raftlog.registry.records import Schema, Version, decode, encode
from raftlog.registry.registry import Registry
from raftlog.registry.topic import TopicUnfit, open_topic
from raftlog.testing.processes import BrokerProcess
from tests.registry.process import RegistryProcess, record, schema_body

pytestmark = pytest.mark.slow


def everything(registry: RegistryProcess) -> Any:
    return registry.ask("GET", "/schemas", deleted=True).json, registry.ask("GET", "/config").json


async def entries(broker: BrokerProcess, topic: str) -> list[tuple[bytes, bytes | None]]:
    """What a consumer of committed records finds."""
    found = []
    async with (
        raftlog.open_client(broker.bootstrap) as client,
        client.consumer(partitions=[(topic, 0)], isolation_level="read_committed") as consumer,
    ):
        (end,) = (await consumer.end_offsets()).values()
        consumer.seek_to_beginning()
        while await consumer.position(topic, 0) < end:
            found += [(one.key or b"", one.value) for one in await consumer.poll(max_wait_ms=100)]
    return found


def test_a_restart_keeps_all_and_a_second_sees_it(broker: BrokerProcess, log: Path, topic: str) -> None:
    arguments = (broker.bootstrap, log, "--topic", topic)
    with RegistryProcess(*arguments) as first, RegistryProcess(*arguments) as second:
        id = first.register("one", record("A", "x")).json["id"]
        assert second.ask("GET", f"/schemas/ids/{id}").status == 200, "no matter how soon it is asked"
        assert second.register("two", record("B", "x")).json["id"] == id + 1
        assert second.register("one", record("A", "x")).json["id"] == id
        assert first.ask("GET", "/subjects/two/versions").json == [1]
        first.ask("PUT", "/config", {"compatibility": "FULL"})
        gone = second.register("gone", record("C", "x")).json["id"]
        second.ask("DELETE", "/subjects/gone")
        second.ask("DELETE", "/subjects/gone", permanent=True)
        first.ask("DELETE", "/subjects/two")
        before = everything(first)
        second.stop(signal.SIGKILL)
    with RegistryProcess(*arguments) as third:
        assert everything(third) == before
        assert third.register("new", record("D", "x")).json["id"] > gone, (
            "an id that is gone is not given again"
        )


async def test_ids_are_given_once_however_many_write(broker: BrokerProcess, topic: str) -> None:
    """Three registries that know nothing of each other, and clients of each at once; half of the schemas are
    new to all, half are sent to all three."""
    reader, given = Reader(), dict[str, set[int]]()

    async def client_of(registry: Registry, name: str, texts: Iterable[str]) -> None:
        for text in texts:
            version = await registry.register(
                f"{name}-{text[-3:-1]}", Schema("AVRO", text), id=None, number=None, normalize=False
            )
            given.setdefault(version.schema.text, set()).add(version.id)

    def fixed(name: str, size: int) -> str:
        return f'{{"type":"fixed","name":"{name}","size":{size}}}'

    async with AsyncExitStack() as stack:
        topics = []
        for _ in range(3):
            client = await stack.enter_async_context(raftlog.open_client(broker.bootstrap))
            topics.append(await stack.enter_async_context(open_topic(client, topic, 1)))
        async with trio.open_nursery() as nursery:
            for number, one in enumerate(topics):
                registry = Registry(one, reader)
                nursery.start_soon(
                    client_of, registry, f"own{number}", [fixed(f"O{number}", size) for size in range(10, 18)]
                )
                nursery.start_soon(
                    client_of, registry, f"all{number}", [fixed("All", size) for size in range(10, 18)]
                )
        for one in topics:
            await one.catch_up()
        states = [[version.to_json() for version in one.state.all()] for one in topics]
    await reader.aclose()
    assert states[0] == states[1] == states[2]
    assert all(len(ids) == 1 for ids in given.values()), "the same schema has one id"
    assert len({id for ids in given.values() for id in ids}) == len(given) == 32, "and no other has it"
    assert all(one.state.conflicts == 0 for one in topics)
    assert max(id for ids in given.values() for id in ids) == 32, "none was left out"


async def test_what_is_read_is_what_confluent_writes(broker: BrokerProcess, topic: str) -> None:
    """Records as its registry has them, and some that no registry writes."""
    async with raftlog.open_client(broker.bootstrap) as client:
        await client.admin.create_topic(topic, partitions=1, configs={"cleanup.policy": "compact"})
        async with client.producer() as producer:
            for key, value in (
                ('{"keytype":"NOOP","magic":0}', None),
                ('{"keytype":"SCHEMA","subject":"s","version":1,"magic":1}',
                 '{"subject":"s","version":1,"id":41,"md5":"x","schema":"\\"string\\"","deleted":false}'),
                ('{"keytype":"CONFIG","subject":null,"magic":0}', '{"compatibilityLevel":"FULL"}'),
                ("{", "{"), ("[]", "{}"), ('{"keytype":"CONTEXT","context":".","magic":0}', "{}"),
                ('{"keytype":"SCHEMA","subject":"s","version":2,"magic":1}', '{"id":"x","schema":3}'),
                ('{"keytype":"SCHEMA","subject":"s","version":-1,"magic":1}', None),
                ("[" * 5000, "{"),
            ):  # fmt: skip
                await producer.send(topic, value and value.encode(), key=key.encode())
        async with open_topic(client, topic, 1) as opened:
            assert [one.to_json() for one in opened.state.all()] == [
                {"subject": "s", "version": 1, "id": 41, "schema": '"string"'}
            ]
            assert opened.state.level("s") == "FULL" and opened.passed_over == 6
            reader = Reader()
            made = await Registry(opened, reader).register(
                "t", Schema("AVRO", '"int"'), id=None, number=None, normalize=False
            )
            await reader.aclose()
            assert made.id == 42
    assert (await entries(broker, topic))[-1] == (
        b'{"keytype":"SCHEMA","subject":"t","version":1,"magic":1}',
        b'{"subject":"t","version":1,"id":42,"schema":"\\"int\\"","deleted":false}',
    )


@pytest.mark.parametrize(
    ("partitions", "policy", "words"),
    [(2, "compact", "2 partitions"), (1, "delete", "cleanup.policy=delete")],
)
async def test_a_topic_that_would_lose_schemas_is_not_taken(
    broker: BrokerProcess, topic: str, partitions: int, policy: str, words: str
) -> None:
    async with raftlog.open_client(broker.bootstrap) as client:
        await client.admin.create_topic(topic, partitions=partitions, configs={"cleanup.policy": policy})
        with pytest.RaisesGroup(TopicUnfit, allow_unwrapped=True, flatten_subgroups=True) as refused:
            async with open_topic(client, topic, 1):
                pass
        assert words in str(refused.value)


async def test_a_record_that_the_brokers_refuse_is_too_large(
    broker: BrokerProcess, log: Path, topic: str
) -> None:
    async with raftlog.open_client(broker.bootstrap) as client:
        configs = {"cleanup.policy": "compact", "max.message.bytes": "2000"}
        await client.admin.create_topic(topic, partitions=1, configs=configs)
    with RegistryProcess(broker.bootstrap, log, "--topic", topic) as registry:
        large = {**record("L"), "doc": "x" * 3000}
        assert registry.register("s", large).error == (413, 413)
        assert registry.register("s", record("L")).json == {"id": 1}, "and nothing is the worse for it"


def test_a_client_that_goes_away_costs_nothing(registry: RegistryProcess, subject: str) -> None:
    import socket

    body = json.dumps(schema_body(record("Away", "a"))).encode()
    head = (
        f"POST /subjects/{subject}/versions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    )
    whole = head.encode() + f"Content-Length: {len(body)}\r\n\r\n".encode() + body
    for size in (10, len(head), len(whole) - 1, len(whole)):
        for _ in range(5):
            with socket.create_connection(("127.0.0.1", registry.port)) as sock:
                sock.sendall(whole[:size])
    assert registry.register(f"{subject}-next", record("Away", "b")).status == 200
    assert registry.ask("GET", f"/subjects/{subject}/versions").status in (200, 404)


def test_a_schema_that_cannot_be_read_in_time_costs_its_sender_alone(
    registry: RegistryProcess, subject: str
) -> None:
    """A union of many records is compared each with each, and choices within choices likewise."""

    def choice(depth: int, kind: str) -> dict[str, object]:
        if not depth:
            return {"type": "integer", "minimum": 1} if kind == "old" else {"type": "integer", "minimum": 2}
        return {
            "oneOf": [{"type": "object", "properties": {str(n): choice(depth - 1, kind)}} for n in range(6)]
        }

    assert registry.register(subject, choice(4, "old"), "JSON").status == 200
    refused = registry.register(subject, choice(4, "new"), "JSON")
    assert refused.status in (409, 422), refused.body
    assert registry.register(f"{subject}-next", '"int"').status == 200


def test_entries_are_written_as_they_are_read() -> None:
    version = Version("s", 3, 7, Schema("JSON", "{}"), deleted=True)
    assert decode(*encode(version)) == version
