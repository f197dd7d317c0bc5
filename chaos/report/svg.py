"""Pictures for the page, as SVG text. Knows numbers, colours and escaping, not what they mean."""

from __future__ import annotations

import html
import math
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

WIDTH: Final = 1_060
LEFT: Final = 72
RIGHT: Final = 12
HEIGHT: Final = 150
TOP: Final = 8
BOTTOM: Final = 22
TICKS: Final = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 1_800, 3_600)

COLOURS: Final = ("#b0528a", "#2d82c4", "#b5470b", "#4b8a3a", "#7a5cc0", "#c97a00", "#0f8a8a")
"""Of epochs, in turn; they differ in lightness, too."""
SHADES: Final = {
    "cut": "#f6dede",
    "kill": "#e6e0f6",
    "empty": "#e6e0f6",
    "power": "#e6e0f6",
    "pause": "#eee7d8",
    "restart": "#e3f0e3",
    "slow disk": "#d9e9f4",
}
OTHER_SHADE: Final = "#ececec"


def escape(text: object) -> str:
    """Whatever a record, a log or a name holds, as text on a page: no markup, and nothing that hides or turns
    text around (control characters, bidirectional marks, lone surrogates)."""
    plain = "".join(
        one
        if one == "\n" or unicodedata.category(one) not in ("Cc", "Cf", "Cs", "Co", "Cn")
        else f"\\u{ord(one):04x}"
        for one in str(text)
    )
    return html.escape(plain, quote=True)


@dataclass(frozen=True, slots=True)
class Band:
    """A span that is shaded through a plot, and what it says when it is pointed at."""

    began: float
    ended: float
    kind: str
    title: str


class Plot:
    """Drawing over time, from 0 to `length` seconds."""

    def __init__(self, length: float, height: int = HEIGHT) -> None:
        self._length = max(length, 0.001)
        self._height = height
        self._parts: list[str] = []

    def x(self, at: float) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * min(at, self._length) / self._length

    @property
    def floor(self) -> int:
        return self._height - BOTTOM

    def add(self, part: str) -> None:
        self._parts.append(part)

    def bands(self, bands: Iterable[Band]) -> None:
        for band in bands:
            x, width = self.x(band.began), max(2.0, self.x(band.ended) - self.x(band.began))
            shade = SHADES.get(band.kind, OTHER_SHADE)
            self.add(
                f'<rect x="{x:.1f}" y="{TOP}" width="{width:.1f}" height="{self.floor - TOP}" fill="{shade}">'
                f"<title>{escape(band.title)}</title></rect>"
            )

    def time_axis(self) -> None:
        step = next((tick for tick in TICKS if self._length / tick <= 12), TICKS[-1])
        for number in range(int(self._length / step) + 1):
            at = number * step
            self.text(self.x(at), self._height - 6, f"{at} s", anchor="middle")

    def text(self, x: float, y: float, text: str, *, anchor: str = "start", kind: str = "axis") -> None:
        self.add(f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" class="{kind}">{escape(text)}</text>')

    def line(
        self, values: Sequence[float | None], step_s: float, top: float, colour: str, *, bottom: float = 0.0
    ) -> None:
        """Gaps stay gaps. `bottom` above 0 makes the scale logarithmic."""
        runs: list[list[str]] = [[]]
        for number, value in enumerate(values):
            if value is None:
                runs.append([])
                continue
            runs[-1].append(f"{self.x((number + 0.5) * step_s):.1f},{self.y(value, top, bottom):.1f}")
        for run in runs:
            if len(run) == 1:
                x, y = run[0].split(",")
                self.add(f'<circle cx="{x}" cy="{y}" r="1" fill="{colour}"/>')
            elif run:
                self.add(
                    f'<polyline points="{" ".join(run)}" fill="none" stroke="{colour}" stroke-width="1.3"/>'
                )

    def y(self, value: float, top: float, bottom: float = 0.0) -> float:
        if bottom:
            value = max(value, bottom)
            share = math.log(value / bottom) / math.log(max(top / bottom, 1.001))
        else:
            share = value / max(top, 0.001)
        return self.floor - (self.floor - TOP) * min(1.0, share)

    def grid(self, marks: Iterable[tuple[float, str]]) -> None:
        """Lines at heights, with what they stand for."""
        for y, text in marks:
            self.add(f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}" stroke="#e8e8ee"/>')
            self.text(LEFT - 8, y + 4, text, anchor="end")

    def __str__(self) -> str:
        size = f'viewBox="0 0 {WIDTH} {self._height}" width="{WIDTH}" height="{self._height}"'
        return f'<svg {size} role="img">{"".join(self._parts)}</svg>'
