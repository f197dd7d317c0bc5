"""A worker that copies a topic exactly once, to be killed.

Arguments: client.properties, source, target, group, transactional id.
"""

import sys

import trio

import raftlog


async def main(*arguments: str) -> None:
    properties, source, target, group, transactional_id = arguments
    async with (
        raftlog.from_properties(properties) as client,
        client.consumer(
            source,
            group=group,
            auto_offset_reset="earliest",
            enable_auto_commit=False,
            isolation_level="read_committed",
            session_timeout_ms=6000,
            heartbeat_interval_ms=500,
        ) as consumer,
        client.producer(transactional_id=transactional_id) as producer,
    ):
        async for batch in raftlog.exactly_once(consumer, producer, max_records=10, max_wait_ms=100):
            async with batch as records:
                for record in records:
                    await producer.send_soon(target, record.value, key=record.value)
                await trio.sleep(0.05)


trio.run(main, *sys.argv[1:])
