"""Has schemas read and compared by a process of its own (`raftlog.registry.work`): one at a time, so that
the event loop goes on whatever somebody sends. A process that does not answer, or ends, is replaced; what
it was asked fails.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import signal
import subprocess
import sys
import tempfile
from collections import OrderedDict
from contextlib import suppress
from typing import Any, Final

import trio

from raftlog.registry.formats import Invalid, Source
from raftlog.registry.work import LENGTH

ANSWER_S: Final = 60.0
"""For what bounds itself by its processor time: only a machine that stands still lets this pass."""
ANSWER_BYTES_MAX: Final = 16 << 20
PIECE: Final = 1 << 16
CACHE_CHARACTERS_MAX: Final = 32 << 20
"""Texts that were read lately, since every client that starts sends the same ones."""
FITS_MAX: Final = 100_000
"""Pairs of schemas that were compared lately."""

log = logging.getLogger("raftlog.registry")


class Reader:
    """The process, and those who wait for it."""

    def __init__(self) -> None:
        self._lock = trio.Lock()
        self._process: trio.Process | None = None
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        """For its files: killed, it cannot remove them itself."""
        self._known: OrderedDict[tuple[str, Source, bool], str] = OrderedDict()
        self._known_characters = 0
        self._fits: OrderedDict[bytes, None] = OrderedDict()
        """Pairs that were found to fit, as digests."""

    async def canonical(self, kind: str, source: Source, *, normalize: bool) -> str:
        """The text that is stored. Raises Invalid."""
        key = (kind, source, normalize)
        if (text := self._known.get(key)) is not None:
            self._known.move_to_end(key)
            return text
        answer = await self._ask(
            {"do": "canonical", "kind": kind, "source": _said(source), "normalize": normalize}
        )
        text = str(answer["text"])
        if key not in self._known:
            self._known[key] = text
            self._known_characters += _characters(source)
            while self._known_characters > CACHE_CHARACTERS_MAX:
                (_, oldest, _), _ = self._known.popitem(last=False)
                self._known_characters -= _characters(oldest)
        return text

    async def serialized(self, kind: str, source: Source) -> str:
        """A Protobuf schema as its descriptor in base64. Raises Invalid."""
        answer = await self._ask({"do": "serialized", "kind": kind, "source": _said(source)})
        return str(answer["text"])

    async def objections(self, kind: str, reader: Source, writer: Source) -> list[str]:
        """Why the one cannot read what the other wrote. Raises Invalid for what cannot be compared."""
        question = {"do": "objections", "kind": kind, "source": _said(reader), "writer": _said(writer)}
        key = hashlib.sha256(json.dumps(question).encode()).digest()
        if key in self._fits:
            self._fits.move_to_end(key)
            await trio.lowlevel.checkpoint()
            return []
        whys = list((await self._ask(question))["whys"])
        if not whys:
            self._fits[key] = None
            if len(self._fits) > FITS_MAX:
                self._fits.popitem(last=False)
        return whys

    async def aclose(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)  # a compiler that it started as well
            with trio.CancelScope(shield=True):
                await process.wait()
            await _close(process)
        if self._folder is not None:
            self._folder.cleanup()
            self._folder = None

    async def _ask(self, question: dict[str, Any]) -> dict[str, Any]:
        async with self._lock:
            done = False
            try:
                answer = await self._exchange(json.dumps(question).encode())
                done = True
            except (
                OSError,
                trio.BrokenResourceError,
                trio.ClosedResourceError,
                trio.TooSlowError,
                ValueError,
            ) as error:
                log.warning("the process that reads schemas is replaced: %r", error)
                raise Invalid(
                    "it could not be read: the process that tried ended or did not answer"
                ) from error
            finally:
                if not done:  # cancelled, too: an answer may be under way
                    await self.aclose()
        if "invalid" in answer:
            raise Invalid(answer["invalid"])
        return answer

    async def _exchange(self, question: bytes) -> dict[str, Any]:
        if self._process is None:
            command = [sys.executable, "-m", "raftlog.registry.work"]
            self._folder = tempfile.TemporaryDirectory(prefix="raftlog-registry-", ignore_cleanup_errors=True)
            self._process = await trio.lowlevel.open_process(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                env={**os.environ, "TMPDIR": self._folder.name},
                start_new_session=True,
            )
        process = self._process
        assert process.stdin is not None and process.stdout is not None
        with trio.fail_after(ANSWER_S):
            await process.stdin.send_all(LENGTH.pack(len(question)) + question)
            (size,) = LENGTH.unpack(await _exactly(process.stdout, LENGTH.size))
            if size > ANSWER_BYTES_MAX:
                raise ValueError(f"an answer of {size} bytes")
            found = json.loads(await _exactly(process.stdout, size))
        assert isinstance(found, dict), found
        return found


def _said(source: Source) -> list[Any]:
    return [source.text, source.references]


def _characters(source: Source) -> int:
    return 200 + len(source.text) * 2 + sum(len(name) + len(text) for name, text in source.references)


async def _exactly(stream: trio.abc.ReceiveStream, size: int) -> bytes:
    data = bytearray()
    while len(data) < size:
        piece = await stream.receive_some(min(size - len(data), PIECE))
        if not piece:
            raise trio.BrokenResourceError("it ended")
        data += piece
    return bytes(data)


async def _close(process: trio.Process) -> None:
    for stream in (process.stdin, process.stdout):
        if stream is not None:
            await trio.aclose_forcefully(stream)
