"""Every client reads what every other has written, with every codec."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import pytest

from tests.compat.clients.base import CAN, Message, sent_and_closed
from tests.compat.stage import Stage, adapter

CODECS: Final = ("none", "gzip", "snappy", "lz4", "zstd")
WRITERS: Final = ("kafka-python", "confluent-kafka", "aiokafka")
"""kcat as a writer is confluent-kafka's library under another name."""


def _messages(writer: str) -> list[Message]:
    """The same partition for every writer, so that batches of all of them lie back to back."""
    return [
        Message(f"{writer} {n}".encode() * 20, f"key {n}".encode(), (("writer", writer.encode()),))
        for n in range(10)
    ]


@pytest.fixture(scope="module")
def written(bootstrap: str, _admin: object) -> str:
    """A topic with a batch of every writer in every codec."""
    topic = ""
    for writer in WRITERS:
        client = adapter(writer)(bootstrap)
        topic = topic or Stage(client, bootstrap, _admin).topic()  # type: ignore[arg-type]
        for codec in CODECS:
            sent_and_closed(client.producer(codec=codec, linger_ms=5), topic, _messages(writer))
        client.close()
    return topic


def _expected() -> Iterator[tuple[object, ...]]:
    for writer in WRITERS:
        for _ in CODECS:
            yield from ((m.key, m.value, m.headers) for m in _messages(writer))


@pytest.mark.parametrize("client_name", list(CAN))
def test_reads_what_all_have_written(client_name: str, written: str, stage: Stage) -> None:
    expected = list(_expected())
    records = stage.read(written, len(expected))
    assert [record.offset for record in records] == list(range(len(expected)))
    assert [record.content for record in records] == expected
