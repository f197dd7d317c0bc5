"""From a frame to a handler: the one place that every request of every listener passes.

It knows where the request came from (the listener, the principal: `Origin`), which API it is of and which
right that takes (`Api.right`), before a handler runs, and how long the answer took. There is no authorizer
yet: everybody has every right.
"""

from __future__ import annotations

from collections.abc import Callable

from raftlog.broker.backend import Backend
from raftlog.broker.call import Call
from raftlog.broker.origin import Origin
from raftlog.broker.outbox import Outbox
from raftlog.broker.registry import Api, find_api, unsupported_version_answer
from raftlog.broker.traffic import Traffic
from raftlog.errors import InvalidInput
from raftlog.memory import Frame
from raftlog.protocol.api import ApiKey
from raftlog.protocol.codec import RequestHeader, decode_request_header


class Dispatcher:
    """Shared by all connections of a broker."""

    def __init__(self, backend: Backend) -> None:
        self.backend = backend
        self.traffic: dict[ApiKey, Traffic] = {}
        """By API; those that somebody has asked for."""

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
    ) -> None:
        """Have a request handled; returns when the next of its connection may be read. Raises InvalidInput
        for a request that lies, and what the broker must stop for."""
        traffic = self.traffic.get(api.key)
        if traffic is None:
            traffic = self.traffic[api.key] = Traffic()
        traffic.request_bytes += len(frame)
        call = Call(self.backend, api.key, header, origin, outbox, outbox.open(frame), traffic, disconnect)
        if not api.first <= header.version <= api.last:
            call.reply_chunks([unsupported_version_answer(api, header)])
            return
        api.used.add(header.version)
        request = api.decode(frame, header)
        if not api.pipelined:
            frame.discharge()
        try:
            answer = api.handle(call, request)
            if answer is not None and not isinstance(answer, dict):
                answer = await answer
            if answer is not None:
                call.reply(answer)
        except api.expected_failures:
            raise
        except Exception:
            call.failed()
