"""python -m chaos.fuzz --frames 1000000: a broker in this process gets frames that nobody would send.

Everything is real from the socket to the handler. What must hold: the broker lives and serves others, logs no
error of its own, and grows by no more than MEMORY_GROWTH_MAX. The seed gives the same frames again.
"""

from __future__ import annotations

import argparse
import contextlib
import faulthandler
import gc
import itertools
import logging
import os
import random
import socket
import struct
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from chaos.frames import frame
from raftlog.testing import running_broker

AT_ONCE: Final = 16
"""Frames on one connection, before another is made: one that is refused ends it anyhow."""
LOOK_EVERY: Final = 2_000
"""Frames between two looks at whether the broker serves others."""
ANSWER_S: Final = 30.0
LISTEN_S: Final = 0.1
"""For the last answers of a connection: some requests wait for longer, and hold up those behind them."""
MEMORY_GROWTH_MAX: Final = 64 << 20
WARM_UP: Final = 20_000
"""Frames until everything that is loaded once is loaded, and every name that is drawn is there."""
API_VERSIONS: Final = struct.pack(">ihhih", 10, 18, 0, 7, -1)


class Wrong(Exception):
    """The broker did what it must not; the message holds what was logged."""


class _Errors(logging.Handler):
    """What the broker says is its own fault."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.said: list[str] = []
        self.setFormatter(logging.Formatter("%(name)s: %(message)s"))

    def emit(self, record: logging.LogRecord) -> None:
        self.said.append(self.format(record))


class Fuzzed:
    """A broker under fuzzing. Made by `fuzzed_broker`."""

    def __init__(self, address: tuple[str, int], errors: _Errors) -> None:
        self._address, self._errors = address, errors
        self._socket: socket.socket | None = None
        self._left = 0
        self.connections = self.answers = 0
        self.served = self._ask()

    def send(self, data: bytes) -> None:
        """One frame, on a connection that others have used unless it was closed."""
        try:
            self._connection().sendall(data)
        except OSError:
            self.hang_up()  # the broker had enough of it

    def _connection(self) -> socket.socket:
        if self._socket is not None and self._left > 0:
            self._left -= 1
        else:
            self.hang_up()
        if self._socket is None:
            self._socket = socket.create_connection(self._address, timeout=ANSWER_S)
            self._left = AT_ONCE
            self.connections += 1
        return self._socket

    def hang_up(self) -> None:
        """Wait a little for what the broker still has to say: else it may not have come to all frames."""
        if self._socket is None:
            return
        sock, self._socket = self._socket, None
        heard = bytearray()
        with contextlib.suppress(OSError), sock:
            sock.settimeout(LISTEN_S)
            sock.shutdown(socket.SHUT_WR)
            while piece := sock.recv(1 << 20):
                heard += piece
        at = 0
        while len(heard) - at >= 4:
            at += 4 + int.from_bytes(heard[at : at + 4], "big")
            self.answers += 1

    def look(self) -> None:
        """Others are served, and nothing was the broker's fault. Raises Wrong."""
        if self._errors.said:
            raise Wrong("\n".join(self._errors.said[:5]))
        try:
            self._ask()
        except OSError as error:
            faulthandler.dump_traceback()  # the broker's thread is one of these: what holds it up?
            raise Wrong(f"others are not served: {error}") from error

    def _ask(self) -> list[tuple[int, int, int]]:
        """Key, first and last version of every API, as the broker says."""
        with socket.create_connection(self._address, timeout=ANSWER_S) as sock:
            sock.sendall(API_VERSIONS)
            (size,) = struct.unpack(">i", _exactly(sock, 4))
            answer = _exactly(sock, size)
        (count,) = struct.unpack_from(">i", answer, 6)
        return [struct.unpack_from(">hhh", answer, 10 + 6 * at) for at in range(count)]


def _exactly(sock: socket.socket, count: int) -> bytes:
    data = bytearray()
    while len(data) < count:
        if not (piece := sock.recv(count - len(data))):
            raise ConnectionResetError("closed")
        data += piece
    return bytes(data)


@contextlib.contextmanager
def fuzzed_broker() -> Iterator[Fuzzed]:
    errors, logger = _Errors(), logging.getLogger("raftlog")
    level = logger.level
    logger.addHandler(errors)
    logger.setLevel(logging.ERROR)
    try:
        with running_broker(group_initial_rebalance_delay_ms=0) as broker:
            fuzzed = Fuzzed(("127.0.0.1", broker.port), errors)
            try:
                yield fuzzed
            finally:
                fuzzed.hang_up()
    finally:
        logger.removeHandler(errors)
        logger.setLevel(level)


def memory_bytes() -> int:
    """Resident memory of this process, broker and fuzzer."""
    gc.collect()
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def fuzz(frames: int, seed: int) -> Iterator[tuple[int, int, float]]:
    """Send so many frames; yields how many were sent and how many answered, and the seconds so far, at each
    look. Raises Wrong."""
    rng = random.Random(seed)
    began = time.monotonic()
    before = 0
    with fuzzed_broker() as fuzzed:
        for number in itertools.count(1):
            fuzzed.send(frame(rng, fuzzed.served))
            if number == WARM_UP:
                before = memory_bytes()
            if number % LOOK_EVERY == 0 or number >= frames:
                fuzzed.look()
                yield number, fuzzed.answers, time.monotonic() - began
            if number >= frames:
                break
        grown = memory_bytes() - before
    if before and grown > MEMORY_GROWTH_MAX:
        raise Wrong(f"{grown >> 20} MiB more after {frames} frames than after {WARM_UP}")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m chaos.fuzz", description=__doc__)
    parser.add_argument("--frames", type=int, default=100_000)
    parser.add_argument("--seed", type=int)
    arguments = parser.parse_args()
    seed = arguments.seed if arguments.seed is not None else random.SystemRandom().randrange(1 << 32)
    print(f"seed {seed}", flush=True)
    sent = answers = 0
    seconds = 0.0
    try:
        for sent, answers, seconds in fuzz(arguments.frames, seed):
            if sent % (25 * LOOK_EVERY) == 0:
                print(f"{sent:>9} frames, {answers} answered, {sent / seconds:,.0f} a second", flush=True)
    except Wrong as wrong:
        print(f"WRONG after {sent} frames, seed {seed}: {wrong}")
        return 1
    print(f"good: {sent} frames, {answers} answered, in {seconds:.0f} s, memory {memory_bytes() >> 20} MiB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
