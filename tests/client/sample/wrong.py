"""What a type checker must find: each line that is marked, and no other."""

import raftlog


async def main(client: raftlog.Client, by_name: raftlog.Producer[str, int]) -> None:
    async with client.producer() as producer:
        await producer.send("orders", "one apple")  # wrong
        await producer.send("orders", b"one apple", key="alice")  # wrong
    async with client.producer(value_serializer=str.encode) as text:
        await text.send("orders", "one apple", key=b"alice")
        await text.send("orders", b"one apple")  # wrong
    await by_name.send("orders", 1, key="alice")
    await by_name.send("orders", "1", key="alice")  # wrong
    async with client.consumer("orders", value_deserializer=int) as numbers:
        async for record in numbers:
            print((record.value or 0) + 1)
            print((record.value or 0).upper())  # wrong
    async with client.consumer("orders") as consumer:
        async for plain in consumer:
            print(plain.value.decode())  # wrong
    client.producer(linger="5")  # wrong
