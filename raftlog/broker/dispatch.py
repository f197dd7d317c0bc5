"""From a frame to a handler: the one place that every request of every listener passes.

It knows where the request came from (the listener, the principal: `Origin`), which API it is of and which
rights that takes (`Api.rule`), before a handler runs, and how long the answer took. Where it matters who asks
it waits until this broker may decide at all, looks whether the session still holds, and asks for what the
request takes as a whole; handlers ask for what each of the things in it takes.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Final

import trio

from raftlog.broker.backend import Backend
from raftlog.broker.call import Call, reply_at_length
from raftlog.broker.judging import audit_asking, may_decide
from raftlog.broker.origin import Origin
from raftlog.broker.outbox import Outbox
from raftlog.broker.quotas import ClientQuotas
from raftlog.broker.registry import Answer, Api, find_api, unsupported_version_answer
from raftlog.broker.rights import REFUSED
from raftlog.broker.timing import Timed
from raftlog.broker.traffic import Traffic
from raftlog.errors import InvalidInput
from raftlog.memory import Frame
from raftlog.protocol.api import ApiKey
from raftlog.protocol.codec import RequestHeader, decode_request_header
from raftlog.protocol.encode import blank_response
from raftlog.protocol.errors import ErrorCode

FIND_OTHER_LEADERS: Final = frozenset({ApiKey.PRODUCE, ApiKey.FETCH})
"""They wait for nothing: their clients are told that this broker does not lead."""

NOT_AUDITED: Final = "the audit log cannot be written, and raftlog.audit.required is set: nothing is changed"

LONG: Final = 64 << 10
"""Bytes of a request with so many rows that decoding and handling them take some milliseconds each: others
have a turn in between."""


class Dispatcher:
    """Shared by all connections of a broker."""

    def __init__(self, backend: Backend) -> None:
        self.backend = backend
        self.traffic: dict[ApiKey, Traffic] = {}
        """By API; those that somebody has asked for."""
        self.quotas = ClientQuotas(backend.catalog)
        self._audit_required = backend.config.bool("raftlog.audit.required")

    @staticmethod
    def identify(frame: Frame) -> tuple[Api, RequestHeader]:
        """What a request is. Raises InvalidInput for what is not served: it has no answer."""
        header = decode_request_header(frame)
        api = find_api(header.api)
        if api is None:
            raise InvalidInput(f"there is no API {header.api} here")
        return api, header

    async def dispatch(
        self,
        api: Api,
        header: RequestHeader,
        frame: Frame,
        origin: Origin,
        outbox: Outbox,
        disconnect: Callable[[str], None],
    ) -> float:
        """Have a request handled; returns when the next of its connection may be read, with how many seconds
        are to be waited before. Raises InvalidInput for a request that lies, and what the broker must stop
        for."""
        traffic = self.traffic.get(api.key)
        if traffic is None:
            traffic = self.traffic[api.key] = Traffic()
        traffic.request_bytes += len(frame)
        quotas = self.quotas if self.quotas.are_set else None
        slot = outbox.open(frame)
        call = Call(self.backend, api.key, header, origin, outbox, slot, traffic, disconnect, quotas)
        if not api.first <= header.version <= api.last:
            call.reply_chunks([unsupported_version_answer(api, header)])
            return 0.0
        api.used.add(header.version)
        request = api.decode(frame, header)
        if api.key is not ApiKey.PRODUCE:
            size = len(frame)
            if not api.pipelined:
                frame.discharge()
            if size > LONG:
                await trio.lowlevel.checkpoint()
        try:
            is_judged = self.backend.authorizer is not None or origin.gate is not None
            if is_judged and not await self._authorized(api, call, request):
                return call.throttle_ms / 1000
            if api.is_change and not self._is_audited(api, call, request):
                return call.throttle_ms / 1000
            answer = (
                api.handle(call, request)
                if quotas is None or api.rule is None
                else _measured(quotas, api, call, request, len(frame))
            )
            if answer is not None and not isinstance(answer, dict):
                answer = await answer
            if answer is not None:
                await reply_at_length(call, answer)
        except api.expected_failures:
            raise
        except Exception:
            call.failed()
        return call.throttle_ms / 1000

    async def _authorized(self, api: Api, call: Call, request: Any) -> bool:
        """Whether the handler may run; if not, the request is answered, or its connection closed."""
        rule, gate = api.rule, call.origin.gate
        if rule is None:
            return True
        if api.key not in FIND_OTHER_LEADERS and not await may_decide(call):
            return False
        if gate is not None:
            gate.check_session()
        if self.backend.authorizer is None:
            return True
        for whole in rule.whole:
            operation, kind = whole.right
            name = whole.name_of(request)
            if not call.may(operation, kind, name):
                code, text = REFUSED[kind], call.why_not(operation, kind, name)
                refused = api.refused
                if refused is not None:
                    await reply_at_length(call, refused(request, code, text))
                else:
                    call.reply(
                        blank_response(api.key, call.version) | {"error_code": code, "error_message": text}
                    )
                return False
        return True

    def _is_audited(self, api: Api, call: Call, request: Any) -> bool:
        """Whether a change may be made; if not, the request is answered, or its connection closed."""
        if audit_asking(call, is_required=self._audit_required):
            return True
        if api.refused is not None:
            call.reply(api.refused(request, ErrorCode.POLICY_VIOLATION, NOT_AUDITED))
        else:
            call.disconnect(NOT_AUDITED)
        return False


async def _measured(quotas: ClientQuotas, api: Api, call: Call, request: Any, size: int) -> Answer | None:
    """Handle a request while somebody has quotas. What is known before the answer is in it: the bytes of a
    Produce, that a Fetch has to wait, and the time of what ends by giving its answer."""
    user, client = call.origin.user, call.client_id
    if api.key is ApiKey.PRODUCE:
        call.pause(quotas.produced(user, client, size, call.now))
    elif api.key is ApiKey.FETCH:
        call.pause(quotas.fetched(user, client, 0, call.now))
    begun = time.perf_counter()
    answer = api.handle(call, request)
    spent = time.perf_counter() - begun
    if answer is not None and not isinstance(answer, dict):
        timed = Timed(answer)
        answer = await timed
        spent += timed.spent
    call.pause(quotas.spent(user, client, spent, call.now))
    return answer
