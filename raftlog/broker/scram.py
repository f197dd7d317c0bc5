"""How Kafka numbers the mechanisms of users with a password (KIP-554)."""

from __future__ import annotations

from typing import Final

NUMBERS: Final = {"SCRAM-SHA-256": 1, "SCRAM-SHA-512": 2}
MECHANISMS: Final = {number: name for name, number in NUMBERS.items()}
