"""Records that could not be handled, as Kafka Connect tells of them (KIP-298): the original bytes and
headers, with more headers that say what went wrong, and where the record came from."""

from __future__ import annotations

import traceback
from collections.abc import Mapping
from typing import Any, Final, Literal

PREFIX: Final = "__connect.errors."
TRACE_BYTES_MAX: Final = 8 << 10

Stage = Literal["TRANSFORMATION", "TASK_PUT"]
"""Where it went wrong, by Kafka Connect's names."""


def headers(
    connector: str, stage: Stage, error: BaseException, place: Mapping[str, Any]
) -> tuple[tuple[str, bytes], ...]:
    """The headers of a dead letter; `place` is where it came from: topic, partition and offset, or a unit."""
    cause = error.__cause__ or error
    told = {
        **place,
        "connector.name": connector,
        "task.id": 0,
        "stage": stage,
        "exception.class.name": f"{type(cause).__module__}.{type(cause).__qualname__}",
        "exception.message": str(error),
        "exception.stacktrace": "".join(traceback.format_exception(error)),
    }
    return tuple(
        (PREFIX + name, str(value).encode(errors="backslashreplace")[:TRACE_BYTES_MAX])
        for name, value in told.items()
    )
