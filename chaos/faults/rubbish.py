"""Strangers that send what no client sends: noise, lies in frames, bombs, floods, half frames, nothing."""

from __future__ import annotations

import contextlib
import random
import struct
from functools import cache
from typing import Final

from chaos.faults.fault import Fault, NoEffect
from chaos.frames import frame
from chaos.stage import Stage
from tests.badinput.batches import gzip_bomb, zstd_bomb
from tests.badinput.wire import (
    ALTER_USER_SCRAM_CREDENTIALS,
    API_VERSIONS,
    CREATE_ACLS,
    DELETE_ACLS,
    PRODUCE,
    Raw,
    Reader,
    array,
    framed,
    header,
    i16,
    i32,
    string,
)

SILENT: Final = 50
"""Connections on which nothing comes."""
FLOOD: Final = 1_000
"""Requests at once on a connection on which no answer is read."""
FRAMES: Final = 100
"""Of the fuzzer (`chaos.frames`)."""
WHO_MAY: Final = (CREATE_ACLS, DELETE_ACLS, ALTER_USER_SCRAM_CREDENTIALS)
"""Whoever logs in may ask for these as well, and by chance would take the load's own rights away."""
BOMBED: Final = "bombed"
"""A topic for the bombs: of what is valid in them, nothing lies among the records of the load."""


class Rubbish(Fault):
    """On connections of their own, which stay open until the end unless the broker closes them."""

    kind = "rubbish"

    def __init__(self, stage: Stage, victim: int, rng: random.Random) -> None:
        super().__init__(f"rubbish to {victim}", [victim])
        self._access, self._address, self._rng = stage.access, stage.address(victim), rng
        self._broker = stage.brokers[victim]
        self._open: list[Raw] = []
        self._memory = 0

    def begin(self) -> None:
        self._memory = self._broker.memory_bytes()
        for connect in self._access.ways_in(self._address):
            for sent in self._everything():
                raw = connect()
                self._open.append(raw)
                with contextlib.suppress(OSError):  # it was closed already
                    raw.send(sent)

    def _everything(self) -> list[bytes]:
        """What each connection of a kind sends."""
        rng = self._rng
        noise = rng.randbytes(rng.randint(1, 4_000))
        head = struct.pack(">hhih", rng.randint(-1, 80), rng.randint(-2, 20), rng.getrandbits(31), -1)
        with self._access.connect(self._address) as raw:
            served = _served(raw)
        if self._access.security is not None:
            served = [each for each in served if each[0] not in WHO_MAY]
        return [
            i32(0),
            i32(-1),
            i32((1 << 31) - 1) + noise,
            framed(noise),
            framed(head + noise),
            framed(head),
            i32(1_000) + noise[:10],  # and nothing more: half a frame
            b"GET / HTTP/1.1\r\nHost: broker\r\n\r\n",
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + noise,
            framed(header(API_VERSIONS, 0)) * FLOOD,
            *_bombs(),
            *[frame(rng, served) for _ in range(FRAMES)],
            *[b""] * SILENT,
        ]

    def end(self) -> str:
        for raw in self._open:
            raw.close()
        if not self._broker.is_running:
            raise NoEffect(f"broker {self._broker.node_id} ended: {self._broker.log_tail(5)}")
        grown = (self._broker.memory_bytes() - self._memory) >> 20
        return f"{len(self._open)} connections, memory {grown:+d} MiB"


def _served(raw: Raw) -> list[tuple[int, int, int]]:
    """Key, first and last version of every API, as the broker says."""
    answer = Reader(raw.ask(API_VERSIONS, 0, b""))
    assert answer.i16() == 0
    return [(answer.i16(), answer.i16(), answer.i16()) for _ in range(answer.i32())]


@cache
def _bombs() -> list[bytes]:
    """Batches that become hundreds of MiB, as one record and as many."""
    batches = [gzip_bomb(64, count=1), zstd_bomb(256, count=1), zstd_bomb(256, count=1_000)]
    return [framed(header(PRODUCE, 3) + _produce(batch)) for batch in batches]


def _produce(batch: bytes) -> bytes:
    partition = i32(0) + i32(len(batch)) + batch
    return string(None) + i16(-1) + i32(1_000) + array([string(BOMBED) + array([partition])])
