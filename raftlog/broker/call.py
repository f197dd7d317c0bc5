"""One request on its way through the broker: who asks, what, and how to answer."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Final

import trio

from raftlog.broker.backend import Backend
from raftlog.broker.origin import Origin
from raftlog.broker.outbox import Outbox, Slot
from raftlog.broker.quotas import ClientQuotas
from raftlog.broker.rights import REFUSED, Right, refusal_text
from raftlog.broker.traffic import Traffic
from raftlog.metadata.catalog import BrokerInfo
from raftlog.net.sending import Chunk
from raftlog.protocol.api import ApiKey
from raftlog.protocol.codec import RequestHeader, encode_response
from raftlog.protocol.encode import Fields
from raftlog.protocol.errors import ErrorCode
from raftlog.rights import Operation, ResourceKind, words

INLINE_ROWS_MAX: Final = 2_000
"""Rows of an answer that are encoded in the loop: five milliseconds."""

log = logging.getLogger("raftlog.broker")

_limiters: trio.lowlevel.RunVar[trio.CapacityLimiter] = trio.lowlevel.RunVar("encoders")


def _encoders() -> trio.CapacityLimiter:
    """One at a time: with several, the loop would wait for the interpreter behind all of them."""
    try:
        return _limiters.get()
    except LookupError:
        limiter = trio.CapacityLimiter(1)
        _limiters.set(limiter)
        return limiter


def has_rows(fields: Fields, enough: int) -> int:
    """How many structs the arrays of an answer hold, at all depths; it counts no further than `enough`."""
    count = 0
    for value in fields.values():
        if isinstance(value, list):
            count += len(value)
            for one in value:
                if count > enough:
                    return count
                if isinstance(one, dict):
                    count += has_rows(one, enough - count)
    return count


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
        "quotas",
        "throttle_ms",
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
        quotas: ClientQuotas | None = None,
    ) -> None:
        """`quotas` are None where nobody has any."""
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
        self.quotas = quotas
        self.throttle_ms = 0
        """How long its connection pauses, as the answer tells (KIP-219)."""

    def __repr__(self) -> str:
        return f"<Call {self.api.name} v{self.version} #{self.header.correlation_id} of {self.origin.host}>"

    @property
    def client_id(self) -> str:
        """What the client calls itself; empty when it does not say."""
        return self.header.client_id or ""

    def address_of(self, broker: BrokerInfo) -> tuple[str, int]:
        """Where this client reaches a broker: by the listener that it came by."""
        return broker.address(self.origin.listener)

    # Who may do what

    def may(self, operation: Operation, kind: ResourceKind, name: str | None) -> bool:
        """Whether who asks may do that, on a resource or (None) on any of the kind. To be asked before
        anything is looked up: what may not be seen must answer as what does not exist. A refusal is
        audited."""
        if self.sees(operation, kind, name):
            return True
        self._audit_refusal(operation, kind, name)
        return False

    def sees(self, operation: Operation, kind: ResourceKind, name: str | None) -> bool:
        """As `may`, where what may not be seen is left out in silence."""
        authorizer = self.backend.authorizer
        if authorizer is None:
            return True
        origin = self.origin
        return authorizer.allows(origin.principal, origin.host, operation, kind, name)

    def refusal(self, operation: Operation, kind: ResourceKind, name: str) -> ErrorCode:
        """What stands against it; NONE when nothing does."""
        return ErrorCode.NONE if self.may(operation, kind, name) else REFUSED[kind]

    def topic_refusal(self, operation: Operation, topic: str | bytes) -> ErrorCode:
        """What stands against doing that to a topic, by name or id; NONE when nothing does. An id that nobody
        has is no secret. A broker that does not know who may do what has its clients look for another."""
        if self.backend.authorizer is None and self.origin.gate is None:
            return ErrorCode.NONE
        if not self.backend.enforcement.is_current:
            return ErrorCode.NOT_LEADER_OR_FOLLOWER
        if self.backend.authorizer is None:
            return ErrorCode.NONE
        if isinstance(topic, bytes):
            known = self.backend.catalog.topics_by_id.get(topic)
            if known is None:
                return ErrorCode.NONE
            topic = known.name
        return self.refusal(operation, ResourceKind.TOPIC, topic)

    def why_not(self, operation: Operation, kind: ResourceKind, name: str) -> str:
        """A refusal in words, where an answer has room for them."""
        return refusal_text(self.origin.principal, Right(operation, kind), name)

    # How much of it

    def pause(self, seconds: float) -> None:
        """Have the connection pause after this request."""
        self.throttle_ms = max(self.throttle_ms, round(1000 * seconds))

    def _audit_refusal(self, operation: Operation, kind: ResourceKind, name: str | None) -> None:
        authorizer, audit, origin = self.backend.authorizer, self.backend.notes.audit, self.origin
        assert authorizer is not None
        key = (origin.principal, int(operation), int(kind), name)
        if audit.is_counted("denied", key, self.now):
            return
        verdict = authorizer.explain(origin.principal, origin.host, operation, kind, name)
        audit.folded(
            "denied",
            key,
            self.now,
            principal=origin.principal,
            listener=origin.listener,
            host=origin.host,
            client_id=self.client_id,
            api=words(self.api),
            operation=words(operation),
            resource=words(kind),
            name=name,
            rule=verdict.by,
            index=authorizer.changed_at,
        )

    @property
    def now(self) -> float:
        """The event loop's clock, seconds."""
        return trio.current_time()

    @property
    def now_ms(self) -> int:
        """The broker's time, milliseconds: the wall clock, but for its jumps."""
        return self.backend.now_ms()

    def reply(self, fields: Fields) -> None:
        """Answer with the superset of fields; the version asked takes its own. Raises nothing: it may be
        the Raft driver or the group coordinator that calls."""
        try:
            if self.throttle_ms:
                fields = {**fields, "throttle_time": self.throttle_ms}
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

    def is_late(
        self, transactional_id: str, producer_id: int, epoch: int, *, of_offsets: bool = False
    ) -> bool:
        """Whether a transaction's producer speaks by a newer connection since. Then this request is dropped,
        and the connection ends. `of_offsets`: TxnOffsetCommit, for which a client may have a connection of
        its own."""
        notes = self.backend.notes
        speakers = notes.offset_speakers if of_offsets else notes.speakers
        if not speakers.is_late(transactional_id, producer_id, epoch, self.origin.number):
            return False
        self._disconnect(f"the producer of {transactional_id[:100]!r} has a newer connection")
        return True

    def refuse(self, what: str, why: str | None) -> None:
        """Log that something the client asked for was refused; the answer is the handler's to give."""
        self._traffic.refused += 1
        who = f"{self.client_id[:100]!r} of {self.origin.host}"
        self.backend.notes.refusals.add(self.now, f"refused {self.api.name} {what[:260]!r} from {who}: {why}")

    def disconnect(self, reason: str) -> None:
        """Close the connection: the only error that acks=0 can be told."""
        self._disconnect(reason)

    def expect_answer_within(self, seconds: float, on_deadline: Callable[[], None]) -> None:
        """Call `on_deadline`, which should answer, when there is no answer by then (checked every second)."""
        self._slot.deadline = trio.current_time() + seconds
        self._slot.on_deadline = on_deadline


async def reply_at_length(call: Call, fields: Fields) -> None:
    """As `Call.reply`, for an answer that may have very many rows: those are encoded in a thread, since
    nobody else has a turn while the loop encodes."""
    if has_rows(fields, INLINE_ROWS_MAX) <= INLINE_ROWS_MAX:
        call.reply(fields)
        return
    try:
        chunks = await trio.to_thread.run_sync(
            encode_response,
            call.api,
            call.version,
            call.header.correlation_id,
            fields,
            abandon_on_cancel=True,
            limiter=_encoders(),
        )
    except Exception:
        call.failed()
    else:
        call.reply_chunks(chunks)
