"""The audit log: who was refused what, who changed what, in JSON, a line an event, by a logger of its own.

Names come from outside: JSON escapes them, so that none can end a line or make up another. Refusals of one
principal, of one operation on one resource, are one line a minute with a count: a client that asks again and
again fills no disk. Refused logins are folded by where they come from, whatever name they give. Changes and
logins are never folded. No secret is ever a field.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

log = logging.getLogger("raftlog.audit")

FOLDED_FOR_S: Final = 60.0
"""How long what is refused again is counted rather than written."""
FOLDED_MAX: Final = 10_000
"""Kinds of refusal that are counted at once; beyond it the oldest is written and forgotten."""
TEXT_MAX: Final = 300
"""Characters of a field: names of topics have 249, of groups any number."""

Field = str | int | float | bool | None


@dataclass(slots=True)
class _Folded:
    since: float
    count: int
    fields: dict[str, Field]


class Audit:
    """Writes the events of one broker. Times are seconds of that broker's monotonic clock."""

    def __init__(self, logger: logging.Logger = log) -> None:
        self._log = logger
        self._folded: dict[tuple[Field, ...], _Folded] = {}

    def event(self, event: str, **fields: Field) -> bool:
        """Something that happened, such as a change: always written. Whether every handler of the log took
        it, and there is one: False for a full disk, and for a log that is switched off."""
        return self._write({"event": event, **fields})

    def folded(self, event: str, key: tuple[Field, ...], now: float, **fields: Field) -> None:
        """Something that may happen a thousand times a second: the first is written at once, and how many
        more there were with the next, or by `flush`. `key` tells one kind from another."""
        if self.is_counted(event, key, now):
            return
        key = _folding(event, key)
        if len(self._folded) >= FOLDED_MAX:
            self._end(next(iter(self._folded)))
        said: dict[str, Field] = {"event": event, **{name: _cut(value) for name, value in fields.items()}}
        self._folded[key] = _Folded(now, 0, said)
        self._write(said)

    def is_counted(self, event: str, key: tuple[Field, ...], now: float) -> bool:
        """Whether this kind was written within the minute: then it is counted, and needs no fields."""
        self.flush(now)
        known = self._folded.get(_folding(event, key))
        if known is not None:
            known.count += 1
        return known is not None

    def flush(self, now: float) -> None:
        """Write the counts whose minute is over."""
        while self._folded:
            key, oldest = next(iter(self._folded.items()))
            if now - oldest.since < FOLDED_FOR_S:
                return
            self._end(key)

    def _end(self, key: tuple[Field, ...]) -> None:
        known = self._folded.pop(key)
        if known.count:
            self._write(known.fields | {"repeated": known.count})

    def _write(self, fields: dict[str, Field]) -> bool:
        at = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime()) + f".{time.time_ns() // 1_000_000 % 1000:03d}Z"
        cut = {name: _cut(value) for name, value in fields.items() if value is not None}
        return _is_written(self._log, json.dumps({"time": at} | cut))


def _is_written(logger: logging.Logger, line: str) -> bool:
    """Log a line as `logger.info` does, and tell what that keeps to itself: whether the handlers have failed.
    A handler calls its own `handleError` when it does."""
    if not logger.isEnabledFor(logging.INFO):
        return False
    record = logger.makeRecord(logger.name, logging.INFO, __file__, 0, "%s", (line,), None)
    took = 0
    for handler in _handlers(logger):
        if record.levelno < handler.level:
            continue
        failed: list[logging.LogRecord] = []
        handler.handleError = failed.append  # type: ignore[method-assign, assignment]
        try:
            handler.handle(record)
        finally:
            del handler.handleError
        if failed:
            return False
        took += 1
    return took > 0


def _handlers(logger: logging.Logger) -> Iterator[logging.Handler]:
    found: logging.Logger | None = logger
    while found is not None:
        yield from found.handlers
        found = found.parent if found.propagate else None


def _folding(event: str, key: tuple[Field, ...]) -> tuple[Field, ...]:
    """A name is as long as whoever asks likes, and many are kept."""
    return (event, *map(_cut, key))


def _cut(value: Field) -> Field:
    if isinstance(value, str) and len(value) > TEXT_MAX:
        return value[:TEXT_MAX] + "…"
    return value
