"""How two brokers find out whether they belong together: a hello each way opens a connection.

A hello names the format version, the cluster, the broker, and the process; a stranger is refused, and both
sides say why. A cluster id of None, on either side, is one that is not known yet.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, NamedTuple

import trio

from raftlog.errors import InvalidInput
from raftlog.net.stream import Stream, receive_exactly, send_all
from raftlog.net.tls import begins_with_tls
from raftlog.transport.wire import FORMAT_VERSION, decode_hello, encode_hello, frame_size
from raftlog.types import BrokerId

HELLO_BYTES_MAX: Final = 4096
HELLO_TIMEOUT: Final = 5.0


class Refused(InvalidInput):
    """The broker at the other end is not the one it should be, or we are not for it."""


class Removed(Refused):
    """The broker at the other end says that we were removed from the cluster."""


class Probe(InvalidInput):
    """Somebody connected and left without a word: to find out whether we live (see Peers.probe_lost)."""


class Greeted(NamedTuple):
    """Who is at the other end."""

    broker: BrokerId
    process: bytes
    takes_pieces: bool
    """It understands frames that are cut (`lanes`); a broker of an older version does not say so."""


class Greeter:
    """Greets for one broker."""

    def __init__(
        self,
        broker_id: BrokerId,
        process: bytes,
        cluster_id: Callable[[], str | None],
        is_peer: Callable[[BrokerId], bool],
        connected_process: Callable[[BrokerId], bytes | None],
    ) -> None:
        """`process` tells this start of the broker from all others. `connected_process` says which start of a
        broker is connected now, if any: another one is not let in beside it."""
        self._broker_id = broker_id
        self._process = process
        self._cluster_id = cluster_id
        self._is_peer = is_peer
        self._connected_process = connected_process
        self.was_removed: Callable[[BrokerId], bool] = lambda broker: False
        """Whether a broker, which is no peer, was one and was removed: it is told so."""

    async def greet(
        self, stream: Stream, expected: BrokerId | None, proven: BrokerId | None = None
    ) -> Greeted:
        """Say who we are, hear who the other is. Whoever dialled knows whom it `expected`, and speaks first.
        `proven` is who the other has proved to be, if it had to: it can be no other. Raises Refused,
        InvalidInput, OSError or TooSlowError."""
        hello = {
            "raftlog": FORMAT_VERSION,
            "cluster": self._cluster_id(),
            "broker": self._broker_id,
            "process": self._process,
            "pieces": 1,
        }
        with trio.fail_after(HELLO_TIMEOUT):
            if expected is not None:
                await send_all(stream, encode_hello(hello))
            theirs = decode_hello(memoryview(await _receive_frame(stream)))
            reason = self._refuse(theirs, expected, proven)
            if reason is not None:
                if "refused" not in theirs:
                    removed = {"removed": 1} if self._was_removed(theirs.get("broker")) else {}
                    await send_all(stream, encode_hello({**hello, "refused": reason, **removed}))
                raise Removed(reason) if theirs.get("removed") == 1 else Refused(reason)
            if expected is None:
                await send_all(stream, encode_hello(hello))
        return Greeted(BrokerId(theirs["broker"]), theirs["process"], theirs.get("pieces") == 1)

    def _was_removed(self, broker: object) -> bool:
        return (
            type(broker) is int and not self._is_peer(BrokerId(broker)) and self.was_removed(BrokerId(broker))
        )

    def _refuse(
        self, theirs: dict[str, Any], expected: BrokerId | None, proven: BrokerId | None
    ) -> str | None:
        version, broker, cluster = theirs.get("raftlog"), theirs.get("broker"), theirs.get("cluster")
        process = theirs.get("process")
        if type(theirs.get("refused")) is str:
            return f"broker {broker!r} refused us: {theirs['refused']!r}"
        if version != FORMAT_VERSION:
            return f"format version {version!r}, this broker speaks {FORMAT_VERSION}"
        if type(broker) is not int or broker == self._broker_id or type(process) is not bytes:
            return f"broker id {broker!r}, process {process!r}; this is broker {self._broker_id}"
        if proven is not None and broker != proven:
            return f"it says that it is broker {broker}, and has the certificate of broker {proven}"
        if expected is not None and broker != expected:
            return f"broker {broker} answers where broker {expected} should be"
        if expected is None and not self._is_peer(BrokerId(broker)):
            return (
                f"broker {broker} is no peer of broker {self._broker_id}:"
                " it must be added to the cluster first (raftlog cluster add)"
            )
        ours = self._cluster_id()
        if None not in (cluster, ours) and cluster != ours:
            return f"cluster {cluster!r}, this broker is of cluster {ours!r}"
        if self._connected_process(BrokerId(broker)) not in (None, process):
            return f"broker {broker} is connected already: two processes have its id"
        return None


async def _receive_frame(stream: Stream) -> bytearray:
    prefix = bytearray(4)
    if not await receive_exactly(stream, memoryview(prefix)):
        raise Probe("closed before the hello")
    if begins_with_tls(prefix):
        raise InvalidInput(
            "it speaks TLS: it has a secret of the cluster, and this broker has none"
            " (raftlog.peer.secret.file)"
        )
    if prefix[0]:  # a hello is far shorter
        raise InvalidInput(f"it begins with {bytes(prefix)!r}, which no broker sends")
    size = frame_size(int.from_bytes(prefix, "big"))
    if size > HELLO_BYTES_MAX:
        raise InvalidInput(f"a hello of {size} bytes")
    frame = bytearray(size)
    frame[:4] = prefix
    if not await receive_exactly(stream, memoryview(frame)[4:]):
        raise InvalidInput("closed within the hello")
    return frame
