"""Questions from broker to broker, beside Raft: proposals passed on, hints, signs of life.

A frame is one CBOR array: `[id, method, body]` asks (id 0 expects no answer), `[-id, body]` answers. Frames
travel on the link that carries Raft, and may be lost: a question ends in an answer, a time-out, or the
end of the link. Knows nothing of what is asked.
"""

from __future__ import annotations

import logging
import secrets
from collections.abc import Callable
from io import BytesIO
from typing import Any, Final

import cbor2
import trio

from raftlog.errors import InvalidInput
from raftlog.types import BrokerId

FRAME_BYTES_MAX: Final = 8 << 20
"""A larger frame is refused: the largest question is a metadata command."""
WAITING_MAX: Final = 20_000
"""Questions without an answer yet, over all peers."""
FIRST_ID_BITS: Final = 61
"""Of the incarnation in the first id, below a bit that is set: every id has 62 bits, and the same size."""

log = logging.getLogger("raftlog.cluster")

Reply = Callable[[Any], None]
Handler = Callable[[BrokerId, Any, Reply], None]
"""Called with who asks, the body, and how to answer: at once or later, once or never."""


class Unreachable(Exception):
    """No answer: whether the other side did what was asked is unknown."""


class _Question:
    __slots__ = ("answer", "answered", "peer")

    def __init__(self, peer: BrokerId) -> None:
        self.peer = peer
        self.answered = trio.Event()
        self.answer: Any = None


class Calls:
    """Asks peers and answers them."""

    def __init__(
        self,
        send: Callable[[BrokerId, bytes], bool],
        send_bulk: Callable[[BrokerId, bytes], bool] | None = None,
        *,
        incarnation: bytes | None = None,
    ) -> None:
        """`send` gives a frame to the link and returns whether there is one; it does not block. `send_bulk`
        does the same with a large one, which others pass."""
        self._send = send
        self._send_bulk = send_bulk or send
        self._handlers: dict[str, Handler] = {}
        self._bulky: set[str] = set()
        self._questions: dict[int, _Question] = {}
        begin = int.from_bytes(incarnation or secrets.token_bytes(8))
        self._last_id = begin % (1 << FIRST_ID_BITS) | 1 << FIRST_ID_BITS
        """Begins anywhere: the answer to a question from before a restart goes to whoever this broker is now,
        and must meet no question of today."""

    def serve(self, method: str, handler: Handler, *, is_bulky: bool = False) -> None:
        """Have questions of this name answered by `handler`. Each part of a broker serves its own.
        `is_bulky`: the answers are large, and must not keep Raft waiting."""
        assert method not in self._handlers, method
        if is_bulky:
            self._bulky.add(method)
        self._handlers[method] = handler

    async def ask(self, peer: BrokerId, method: str, body: Any, *, timeout: float) -> Any:
        """The peer's answer. Raises Unreachable when none came within `timeout` seconds or the link
        ended. A caller that is cancelled takes nothing back."""
        if len(self._questions) >= WAITING_MAX:
            raise Unreachable("too many questions are waiting for an answer")
        self._last_id += 1
        number = self._last_id
        question = self._questions[number] = _Question(peer)
        try:
            if not self._send(peer, cbor2.dumps([number, method, body])):
                raise Unreachable(f"there is no link to broker {peer}")
            with trio.move_on_after(timeout):
                await question.answered.wait()
            if question.answer is None:
                raise Unreachable(f"broker {peer} did not answer {method!r} within {timeout:g} s")
            return question.answer[0]
        finally:
            del self._questions[number]

    def tell(self, peer: BrokerId, method: str, body: Any) -> None:
        """Say something that needs no answer and may be lost."""
        self._send(peer, cbor2.dumps([0, method, body]))

    def receive(self, sender: BrokerId, frame: bytes | bytearray | memoryview) -> None:
        """A frame of a peer. Raises InvalidInput when it is none, and the link should end."""
        if len(frame) > FRAME_BYTES_MAX:
            raise InvalidInput(f"a frame of {len(frame)} bytes from broker {sender}")
        try:
            match cbor2.CBORDecoder(BytesIO(frame)).decode():
                case [int(number), str(method), body] if number >= 0:
                    self._asked(sender, number, method, body)
                case [int(number), body] if number < 0:
                    question = self._questions.get(-number)
                    if question is not None and question.peer == sender:
                        question.answer = (body,)
                        question.answered.set()
                case other:
                    raise InvalidInput(f"broker {sender} sent {str(other)[:100]}")
        except (cbor2.CBORError, UnicodeDecodeError, RecursionError) as error:
            raise InvalidInput(f"broker {sender} sent a frame that is not CBOR: {error}") from error

    def link_ended(self, peer: BrokerId) -> None:
        """Nothing that was asked of `peer` will be answered."""
        for question in self._questions.values():
            if question.peer == peer:
                question.answered.set()

    def _asked(self, sender: BrokerId, number: int, method: str, body: Any) -> None:
        handler = self._handlers.get(method)
        if handler is None:
            log.warning("broker %d asked %r, which is not known here", sender, method)
            return

        send = self._send_bulk if method in self._bulky else self._send

        def reply(answer: Any) -> None:
            if number:
                send(sender, cbor2.dumps([-number, answer]))

        handler(sender, body, reply)
