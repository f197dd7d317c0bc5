"""Metrics as Prometheus reads them, written in slices.

Ten thousand partitions are a tenth of a second of work. A thread would not help, since it takes the
interpreter's lock; so the text is made a bit at a time, and others have their turn between. Whoever asks
while it is being made gets the same one, and what took long to make is given again for a while.
"""

from __future__ import annotations

import math
import time
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import trio

from raftlog.http.messages import Request, Response

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
SLICE_S: Final = 0.001
"""How long the text is written before others have their turn."""
RESTING_SLICE_S: Final = 0.0005
REST_TIMES: Final = 4
"""A rest is so many times as long as the slice before it: a fifth of the loop at most."""
RESTLESS_S: Final = 0.005
"""What is spent in all before the first rest: small clusters are looked at without any."""
LOOKS_EVERY: Final = 25
"""Samples between two looks at the clock."""
KEPT_MAX_S: Final = 5.0
KEPT_TIMES: Final = 20
"""A text is given again for twenty times as long as it took to make, and no longer than that."""

Value = float | int


@dataclass(frozen=True, slots=True)
class Histogram:
    """What took at most so many seconds, each bound with all below it."""

    bounds: Sequence[tuple[float, int]]
    count: int
    total: float


Sample = tuple[tuple[str | int, ...], Value | Histogram]
"""The values of the labels, and the figure."""


@dataclass(frozen=True, slots=True)
class Family:
    """One metric. `read` gives its samples, lazily: the writer stops in between."""

    name: str
    kind: str
    labels: tuple[str, ...]
    doc: str
    read: Callable[..., Iterable[Sample]]


class Exposition:
    """The text of some families of what `read` gives."""

    def __init__(self, families: Sequence[Family], begin: Callable[[], Pieces]) -> None:
        """`begin` starts a reading: it gives the arguments of every family's `read`, after as many steps as
        it likes, each of them short."""
        self._families = families
        self._begin = begin
        self._text = b""
        self._valid_until = -math.inf
        self._under_way: trio.Event | None = None
        self.samples = 0

    async def response(self, request: Request) -> Response:
        text = await self.text()
        if "gzip" not in request.headers.get("accept-encoding", ""):
            return Response(content_type=CONTENT_TYPE, body=text)
        encoding = (("Content-Encoding", "gzip"), ("Vary", "Accept-Encoding"))
        return Response(content_type=CONTENT_TYPE, headers=encoding, body=await compressed(text))

    async def text(self) -> bytes:
        """A cancelled caller leaves nothing behind: another one makes it."""
        while self._under_way is not None:
            await self._under_way.wait()
        if trio.current_time() < self._valid_until:
            return self._text
        done = self._under_way = trio.Event()
        try:
            spent = await self._make()
            self._valid_until = trio.current_time() + min(KEPT_MAX_S, KEPT_TIMES * spent)
        finally:
            self._under_way = None
            done.set()
        return self._text

    async def _make(self) -> float:
        """How many seconds of the loop it took."""
        pace = Pace()
        reading: Sequence[object] = ()
        for step in self._begin():
            await pace.breathe()
            if step is not None:
                reading = step
        pieces: list[bytes] = []
        lines: list[str] = []
        samples = 0
        for family in self._families:
            lines.append(f"# HELP {family.name} {family.doc}\n# TYPE {family.name} {family.kind}\n")
            for sample in family.read(*reading):
                lines.extend(lines_of(family, sample))
                samples += 1
                if samples % LOOKS_EVERY == 0 and pace.is_over:
                    pieces.append("".join(lines).encode())
                    lines.clear()
                    await pace.breathe()
        pieces.append("".join(lines).encode())
        self._text, self.samples = b"".join(pieces), samples
        return pace.spent


Pieces = Iterator[Sequence[object] | None]


class Pace:
    """Lets others have their turn once a slice is over, and adds up what was spent. One that rests leaves the
    loop alone for a while after each slice, once it is more than a few: what takes hundreds of slices, and is
    in no hurry, is then in the way of one turn of the loop in several, and not of each."""

    def __init__(self, *, rests: bool = False) -> None:
        self._spent = 0.0
        self._rests = rests
        self._slice_s = RESTING_SLICE_S if rests else SLICE_S
        self._since = time.perf_counter()

    @property
    def is_over(self) -> bool:
        return time.perf_counter() - self._since >= self._slice_s

    @property
    def spent(self) -> float:
        return self._spent + time.perf_counter() - self._since

    async def breathe(self) -> None:
        if self.is_over:
            spent = time.perf_counter() - self._since
            self._spent += spent
            if self._rests and self._spent > RESTLESS_S:
                await trio.sleep(REST_TIMES * spent)
            else:
                await trio.lowlevel.checkpoint()
            self._since = time.perf_counter()


def lines_of(family: Family, sample: Sample) -> Iterator[str]:
    values, figure = sample
    labels = ",".join([f'{n}="{_escaped(v)}"' for n, v in zip(family.labels, values, strict=True)])
    if not isinstance(figure, Histogram):
        yield (
            f"{family.name}{{{labels}}} {_number(figure)}\n"
            if labels
            else f"{family.name} {_number(figure)}\n"
        )
        return
    before = f"{labels}," if labels else ""
    for bound, count in figure.bounds:
        yield f'{family.name}_bucket{{{before}le="{bound:.10g}"}} {count}\n'
    yield f'{family.name}_bucket{{{before}le="+Inf"}} {figure.count}\n'
    of = f"{{{labels}}}" if labels else ""
    yield f"{family.name}_sum{of} {_number(figure.total)}\n{family.name}_count{of} {figure.count}\n"


def _escaped(value: str | int) -> str:
    if isinstance(value, int):
        return str(value)
    if "\\" in value or '"' in value or "\n" in value:
        value = value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return value.encode("utf-8", "replace").decode()


def _number(value: Value) -> str:
    if isinstance(value, float):
        return "NaN" if math.isnan(value) else f"{value:.12g}"
    return str(int(value))


async def compressed(data: bytes) -> bytes:
    """gzip, a slice at a time."""
    packer = zlib.compressobj(1, zlib.DEFLATED, 31)
    pieces = []
    for start in range(0, len(data), 1 << 17):
        pieces.append(packer.compress(data[start : start + (1 << 17)]))
        await trio.lowlevel.checkpoint()
    return b"".join([*pieces, packer.flush()])
