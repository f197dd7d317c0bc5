"""How commands print: aligned columns for people, JSON for programs."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Callable, Sequence
from typing import Any

import click


def with_formats(*others: str, help: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """The option that chooses between text, JSON and others; the command gets it as `output`."""
    return click.option(
        "--format",
        "output",
        type=click.Choice(["text", "json", *others]),
        default="text",
        show_default=True,
        help=help,
    )


with_format = with_formats(help="For people or for programs.")


def log_to_stderr() -> None:
    """What a service says beside its `ready` line."""
    logging.basicConfig(
        stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s"
    )


def print_json(value: Any) -> None:
    """One JSON document."""
    click.echo(json.dumps(value, indent=2, ensure_ascii=False))


def print_table(headers: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Aligned columns: numbers to the right, everything else to the left, None as a dash."""
    cells = [["-" if cell is None else str(cell) for cell in row] for row in rows]
    numeric = [
        all(isinstance(row[n], int | None) for row in rows) and bool(rows) for n in range(len(headers))
    ]
    widths = [max(len(line[n]) for line in [headers, *cells]) for n in range(len(headers))]
    for line in [headers, *cells]:
        columns = [
            cell.rjust(width) if right else cell.ljust(width)
            for cell, width, right in zip(line, widths, numeric, strict=True)
        ]
        click.echo("  ".join(columns).rstrip())


def counted(number: int, noun: str, plural: str = "") -> str:
    """`1 partition`, `1,200 partitions`, `2 batches`."""
    return f"{number:,} {noun if number == 1 else plural or noun + 's'}"


def joined(values: Sequence[object]) -> str:
    """`1,2,3`, or a dash."""
    return ",".join(map(str, values)) or "-"


def size(count: int) -> str:
    """`512 B`, `1.5 KiB`, `3.0 GiB`."""
    shown = float(count)
    for unit in ("KiB", "MiB", "GiB"):
        shown /= 1024
        if shown < 1000 and count >= 1024:
            return f"{shown:.1f} {unit}"
    return f"{count} B" if count < 1024 else f"{shown / 1024:.1f} TiB"


def duration(seconds: float) -> str:
    """`12 s`, `5 min`, `3 h 20 min`, `4 d 3 h`."""
    minutes, hours, days = int(seconds) // 60, int(seconds) // 3600, int(seconds) // 86400
    if days:
        return f"{days} d {hours % 24} h"
    if hours:
        return f"{hours} h {minutes % 60} min"
    return f"{minutes} min" if minutes else f"{int(seconds)} s"
