"""Who leads which partition, as a client is told, all along the run."""

from __future__ import annotations

from typing import Final

import trio

from chaos.access import Access
from chaos.history import History, Led, Outcome
from chaos.workloads.producers import TRIO
from chaos.workloads.worker import TrioWorker
from raftlog import ClientError

EVERY_S: Final = 0.2
ASK_MS: Final = 2_000


class LeaderWatch(TrioWorker):
    """Enters who leads whenever that has changed."""

    def __init__(self, history: History, access: Access, topics: list[str]) -> None:
        super().__init__("watch", history)
        self._access, self._topics = access, topics
        self._seen: dict[tuple[str, int], tuple[int, int]] = {}

    async def run(self) -> None:
        options = {**TRIO, "default_api_timeout_ms": ASK_MS}
        async with self._access.open_client(client_id=self.name, **options) as client:
            while not self.stopping.is_set():
                try:
                    described = await client.admin.describe_topics(self._topics)
                except ClientError:
                    described = {}
                for topic in described.values():
                    for partition in topic.partitions:
                        leader = -1 if partition.leader is None else partition.leader
                        self._enter(topic.name, partition.partition, leader, partition.leader_epoch)
                await trio.sleep(EVERY_S)

    def _enter(self, topic: str, partition: int, leader: int, epoch: int) -> None:
        before, known_epoch = self._seen.get((topic, partition), (-2, -2))
        if (leader, epoch) == (before, known_epoch) or epoch < known_epoch:
            return  # whoever said so has not heard of the new leader yet
        self._seen[topic, partition] = leader, epoch
        led = Led(client=self.name, log=topic, partition=partition, broker=leader, epoch=epoch)
        self.history.end(self.history.begin(led), Outcome.OK)
