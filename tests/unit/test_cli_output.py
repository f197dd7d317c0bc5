"""How commands show figures to people."""

from __future__ import annotations

import pytest

from raftlog.cli.output import duration, size


@pytest.mark.parametrize(
    ("count", "shown"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1.0 KiB"),
        (1536, "1.5 KiB"),
        (1000 << 10, "1.0 MiB"),
        (3 << 30, "3.0 GiB"),
        (5 << 40, "5.0 TiB"),
    ],
)
def test_sizes(count: int, shown: str) -> None:
    assert size(count) == shown


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [(0.4, "0 s"), (59.9, "59 s"), (300, "5 min"), (12_000, "3 h 20 min"), (97 * 3600, "4 d 1 h")],
)
def test_durations(seconds: float, shown: str) -> None:
    assert duration(seconds) == shown
