"""Compare-and-append: producers that each expect an offset for their next record, on the same few partitions,
and one that expects none between them. Of each offset one wins, and the others are told the end."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import ClassVar, Final

from chaos.history import Outcome
from chaos.workloads.consumers import TrioReader
from chaos.workloads.producers import GIVE_UP_MS, TRIO, ConfluentProducer
from chaos.workloads.worker import Sender, Target, TrioWorker, Worker
from chaos.workloads.workload import Site, Workload
from raftlog import DeliveryError, OffsetMismatch

TOPIC: Final = "appends"
BESIDE_SHARE: Final = 0.1
"""Of the rate, what comes in between from who expects nothing."""


class ComparingProducer(TrioWorker):
    """raftlog's own client, one record at a time. It expects the end that it was told last."""

    def __init__(self, name: str, target: Target, rate: float) -> None:
        super().__init__(name, target.history)
        self.sender = Sender(name, target, rate)

    async def run(self) -> None:
        target, ends = self.sender.target, Counter[int]()
        async with (
            target.access.open_client(client_id=self.name, **TRIO) as client,
            client.producer(delivery_timeout_ms=GIVE_UP_MS) as producer,
        ):
            async for send, value in self.sender.until(self.stopping):
                expected = send.expected = ends[send.partition]
                try:
                    written = await producer.send(
                        target.topic,
                        value,
                        key=self.name.encode(),
                        partition=send.partition,
                        expected_offset=expected,
                    )
                except DeliveryError as error:
                    outcome, why = Outcome.FAILED, f"{error}: {error.__cause__!r}"
                    if isinstance(error, OffsetMismatch):
                        ends[send.partition], why = error.end, "another was faster"
                    if error.may_be_written:
                        outcome = Outcome.UNKNOWN
                    self.sender.ended(send, outcome, why=why)
                else:
                    self.sender.ended(send, Outcome.OK, written.offset)
                    ends[send.partition] = written.offset + 1


class AppendWorkload(Workload):
    topics: ClassVar = {TOPIC: 3}
    producers: ClassVar = {"one": True, "other": True, "third": True, "beside": True}

    def make_producers(self, site: Site) -> Sequence[Worker]:
        target, share = site.target(TOPIC), site.rate * (1 - BESIDE_SHARE) / 3
        return (
            *(ComparingProducer(name, target, share) for name in ("one", "other", "third")),
            ConfluentProducer("beside", target, site.rate * BESIDE_SHARE),
        )

    def make_others(self, site: Site) -> Sequence[Worker]:
        return (TrioReader("trio-reader", site.target(TOPIC)),)
