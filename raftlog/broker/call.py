"""One request on its way through the broker: who asks, what, and how to answer."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence

import trio

from raftlog.broker.backend import Backend
from raftlog.broker.complaints import Complaints
from raftlog.broker.origin import Origin
from raftlog.broker.outbox import Outbox, Slot
from raftlog.broker.traffic import Traffic
from raftlog.metadata.catalog import BrokerInfo
from raftlog.net.sending import Chunk
from raftlog.protocol.api import ApiKey
from raftlog.protocol.codec import RequestHeader, encode_response
from raftlog.protocol.encode import Fields

log = logging.getLogger("raftlog.broker")

_refusals = Complaints(log, "requests were refused something")


class Call:
    """A request that is being handled. It is answered once; later answers are ignored."""

    __slots__ = (
        "_begun",
        "_disconnect",
        "_outbox",
        "_slot",
        "_traffic",
        "api",
        "backend",
        "header",
        "origin",
        "version",
    )

    def __init__(
        self,
        backend: Backend,
        api: ApiKey,
        header: RequestHeader,
        origin: Origin,
        outbox: Outbox,
        slot: Slot,
        traffic: Traffic,
        disconnect: Callable[[str], None],
    ) -> None:
        self.backend = backend
        self.api = api
        self.header = header
        self.version = header.version
        self.origin = origin
        self._outbox = outbox
        self._slot = slot
        self._traffic = traffic
        self._begun = trio.current_time()
        self._disconnect = disconnect

    def __repr__(self) -> str:
        return f"<Call {self.api.name} v{self.version} #{self.header.correlation_id} of {self.origin.host}>"

    @property
    def client_id(self) -> str:
        """What the client calls itself; empty when it does not say."""
        return self.header.client_id or ""

    def address_of(self, broker: BrokerInfo) -> tuple[str, int]:
        """Where this client reaches a broker: by the listener that it came by."""
        return broker.address(self.origin.listener)

    @property
    def now(self) -> float:
        """The event loop's clock, seconds."""
        return trio.current_time()

    @property
    def now_ms(self) -> int:
        """The wall clock, milliseconds."""
        return time.time_ns() // 1_000_000

    def reply(self, fields: Fields) -> None:
        """Answer with the superset of fields; the version asked takes its own. Raises nothing: it may be
        the Raft driver or the group coordinator that calls."""
        try:
            chunks = encode_response(self.api, self.version, self.header.correlation_id, fields)
        except Exception:
            self.failed()
        else:
            self.reply_chunks(chunks)

    def reply_chunks(self, chunks: Sequence[Chunk]) -> None:
        """Answer with a whole frame that is encoded already."""
        if self._slot.chunks is None:
            traffic = self._traffic
            traffic.latency.add(trio.current_time() - self._begun)
            for chunk in chunks:
                traffic.response_bytes += len(chunk)
        self._outbox.complete(self._slot, chunks)

    def end_without_answer(self) -> None:
        """The request has no answer: acks=0."""
        self.reply_chunks(())

    def failed(self) -> None:
        """An exception of ours is being handled: log it. Only this client met it, and may try again."""
        self._traffic.failed += 1
        log.exception("%r failed", self)
        self._disconnect("its request met an error here")

    def refuse(self, what: str, why: str | None) -> None:
        """Log that something the client asked for was refused; the answer is the handler's to give."""
        self._traffic.refused += 1
        who = f"{self.client_id[:100]!r} of {self.origin.host}"
        _refusals.add(self.now, f"refused {self.api.name} {what[:260]!r} from {who}: {why}")

    def disconnect(self, reason: str) -> None:
        """Close the connection: the only error that acks=0 can be told."""
        self._disconnect(reason)

    def expect_answer_within(self, seconds: float, on_deadline: Callable[[], None]) -> None:
        """Call `on_deadline`, which should answer, when there is no answer by then (checked every second)."""
        self._slot.deadline = trio.current_time() + seconds
        self._slot.on_deadline = on_deadline
