"""Rooms with a thermometer each: what they read, and what the app must make of it."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from typing import Any

from examples.sensors.app import WINDOW_MS

Reading = dict[str, Any]

ROOMS = ("attic", "cellar", "garage", "greenhouse", "kitchen", "laboratory", "office", "server room")
AHEAD_MS = 50 * 365 * 86_400_000
"""How far the clock of a thermometer runs ahead that has lost its battery."""


def read(room: str, at_ms: int, rng: random.Random) -> Reading:
    """A room's temperature: it swings slowly, and the server room gets hot every minute and a half."""
    number = ROOMS.index(room)
    swing = (1 + number % 4) * math.sin(at_ms / 9_000 + number)
    heat = 14 * max(0.0, math.sin(at_ms / 14_000)) ** 3 if room == "server room" else 0
    celsius = 12 + 2 * number + swing / 2 + heat + rng.gauss(0, 0.3)
    return {"room": room, "celsius": round(celsius, 2), "at_ms": at_ms}


def mean(given: Sequence[Reading], room: str, end: int) -> float:
    """Of a room's readings in the window with this end."""
    found = [
        reading["celsius"]
        for reading in given
        if reading["room"] == room and end - WINDOW_MS <= reading["at_ms"] < end
    ]
    return math.fsum(found) / len(found)
