"""A group member that polls in a thread of its own, as an application does."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from tests.compat.clients.base import PATIENCE_S, Client, Consumer, Record


class Member:
    """Owns a consumer; everything that touches the consumer happens in its thread, since few clients
    allow anything else. What the thread met is raised by `close`."""

    def __init__(self, client: Client, topic: str, group: str, instance_id: str | None = None) -> None:
        self._client = client
        self._settings = (topic, group, instance_id)
        self._stopping = threading.Event()
        self._failure: BaseException | None = None
        self.assignment: frozenset[int] = frozenset()
        self.records: list[Record] = []
        self._thread = threading.Thread(target=self._run, name=f"member of {group}", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            topic, group, instance_id = self._settings
            consumer = self._client.consumer(topic, group=group, instance_id=instance_id)
            try:
                self._poll(consumer)
            finally:
                consumer.close()
        except BaseException as failure:
            self._failure = failure

    def _poll(self, consumer: Consumer) -> None:
        while not self._stopping.is_set():
            self.records += consumer.poll(0.1)
            self.assignment = consumer.assignment()

    def has(self, *values: bytes) -> bool:
        """Whether these values came; raises what the thread met."""
        if self._failure is not None:
            raise self._failure
        return {record.value for record in self.records} >= set(values)

    def close(self) -> None:
        """Leave the group."""
        self._stopping.set()
        self._thread.join(2 * PATIENCE_S)
        assert not self._thread.is_alive(), "the member hangs"
        if self._failure is not None:
            raise self._failure


@contextmanager
def member(client: Client, topic: str, group: str, instance_id: str | None = None) -> Iterator[Member]:
    joined = Member(client, topic, group, instance_id)
    try:
        yield joined
    finally:
        joined.close()
