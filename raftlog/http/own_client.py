"""The package's own client: what HTTP changes, and reads of records, goes the way of every client's request,
with what that is checked for."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING, Final, TypeVar

import trio

from raftlog.config import is_every_interface
from raftlog.config.addresses import join_host_port
from raftlog.http.messages import Refusal

if TYPE_CHECKING:
    from raftlog.client.client import Client

ANSWER_S: Final = 10.0
"""How long the cluster may take over what HTTP asks of it."""
RETRY_S: Final = 1.0
_LOOPBACK: Final = {"0.0.0.0": "127.0.0.1", "::": "::1"}
_STATUS_OF: Final = {
    "UNKNOWN_TOPIC_OR_PARTITION": 404,
    "UNKNOWN_TOPIC_ID": 404,
    "GROUP_ID_NOT_FOUND": 404,
    "OFFSET_OUT_OF_RANGE": 404,
    "TOPIC_ALREADY_EXISTS": 409,
    "NON_EMPTY_GROUP": 409,
    "GROUP_SUBSCRIBED_TO_TOPIC": 409,
    "ELECTION_NOT_NEEDED": 409,
    "MESSAGE_TOO_LARGE": 413,
    "TOPIC_AUTHORIZATION_FAILED": 403,
    "GROUP_AUTHORIZATION_FAILED": 403,
    "CLUSTER_AUTHORIZATION_FAILED": 403,
}

T = TypeVar("T")

log = logging.getLogger("raftlog.http")


def of_broker(address: tuple[str, int]) -> OwnClient:
    """A client of this broker, whose first Kafka listener is at an address."""
    host, port = address
    host = _LOOPBACK.get(host, host) if is_every_interface(host) else host

    def opening() -> AbstractAsyncContextManager[Client]:
        from raftlog.client.client import open_client

        return open_client(join_host_port(host, port), client_id="raftlog-http")

    return OwnClient(opening)


class OwnClient:
    """Opened when it is wanted first, and closed when `run` is cancelled."""

    def __init__(self, opening: Callable[[], AbstractAsyncContextManager[Client]]) -> None:
        self._opening = opening
        self._wanted = trio.Event()
        self._opened = trio.Event()
        self._client: Client | None = None

    async def run(self) -> None:
        """Until cancelled. A client that fails, as while the broker does not serve yet, is opened again: the
        broker goes on without it."""
        await self._wanted.wait()
        while True:
            try:
                await self._hold_open()
            except Exception as error:
                log.warning("HTTP's own client failed, and is opened again: %r", error)
            finally:
                self._client, self._opened = None, trio.Event()
            await trio.sleep(RETRY_S)

    async def _hold_open(self) -> None:
        async with self._opening() as client:
            self._client = client
            self._opened.set()
            await trio.sleep_forever()

    async def get(self) -> Client:
        self._wanted.set()
        while self._client is None:
            await self._opened.wait()
        return self._client

    async def ask(self, call: Callable[[Client], Awaitable[T]]) -> T:
        """The answer of a call of the client. Raises Refusal for what the cluster refuses, or is late
        with."""
        from raftlog.client.errors import BrokerError, ClientError

        try:
            with trio.fail_after(ANSWER_S):
                return await call(await self.get())
        except BrokerError as error:
            name = error.code.name
            status = _STATUS_OF.get(name, 503 if error.retriable else 400)
            raise Refusal(status, name, str(error), retriable=error.retriable) from error
        except (trio.TooSlowError, ClientError) as error:
            said = str(error) or f"the cluster did not answer within {ANSWER_S:g} s"
            raise Refusal(504, "TIMED_OUT", said, retriable=True) from error
        except (TypeError, ValueError) as error:
            raise Refusal(400, "BAD_REQUEST", str(error)) from error
