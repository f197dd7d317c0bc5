"""Topics and partitions that do not exist, in words; and what a consumer says while it waits for them.

A topic may be created later, so that a consumer waits for it. The log says so after some seconds, and the
consumer's user gets an error after `default_api_timeout_ms`, as often as that passes.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable
from typing import Final

from raftlog.client.errors import BrokerError, ClientError, broker_error
from raftlog.client.metadata import MetadataCache, TopicPartition
from raftlog.client.trouble import Trouble
from raftlog.protocol.errors import ErrorCode

WHY: Final = "a consumer does not create it"
NAMES: Final = "names are made of up to 249 ASCII letters, digits, '.', '_' and '-'"


def no_topic(name: str, metadata: MetadataCache, *, why: str = "", detail: str = "") -> BrokerError:
    """Why a topic is not there; `why` it was not created either."""
    code = metadata.errors.get(name, ErrorCode.UNKNOWN_TOPIC_OR_PARTITION)
    detail = f" ({detail})" if detail else ""
    match code:
        case ErrorCode.UNKNOWN_TOPIC_OR_PARTITION:
            near = difflib.get_close_matches(name, metadata.topics.keys() - {name}, n=1)
            why = f", and {why}" if why else ""
            cure = f"did you mean {near[0]!r}?" if near else "create it, with client.admin.create_topic"
            return broker_error(code, f"topic {name!r} does not exist{detail}{why}: {cure}")
        case ErrorCode.INVALID_TOPIC_EXCEPTION:
            return broker_error(code, f"{name!r} is no name of a topic{detail}: {NAMES}")
        case ErrorCode.LEADER_NOT_AVAILABLE:
            return broker_error(code, f"topic {name!r} has no leader yet{detail}")
        case _:
            return broker_error(code, f"topic {name!r}{detail}")


def no_partition(name: str, count: int, partition: int) -> BrokerError:
    """Why a partition is not there."""
    has = "partition 0 alone" if count == 1 else f"partitions 0 to {count - 1}"
    return broker_error(ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, f"{name} has {has}, not {partition}")


class Missing:
    """What one consumer waits for."""

    def __init__(
        self,
        metadata: MetadataCache,
        trouble: Trouble,
        *,
        patience_s: float,
        fail: Callable[[ClientError], None],
    ) -> None:
        """`fail` is called with what the user is to be told; `patience_s` is how long that waits."""
        self.reason: ClientError | None = None
        """Why something is missing, None when nothing is."""
        self._metadata = metadata
        self._trouble = trouble
        self._patience = patience_s
        self._fail = fail
        self._told: dict[str, float] = {}

    def __repr__(self) -> str:
        return f"<Missing {self.reason}>"

    def look(self, topics: Iterable[str], partitions: Iterable[TopicPartition], now: float) -> None:
        """There are new metadata: see what of these is not there."""
        metadata, self.reason = self._metadata, None
        for name in sorted({*topics, *(key.topic for key in partitions)}):
            if name in metadata.topics:
                self._found(f"topic {name!r}")
            elif name in metadata.errors:
                self._met(f"topic {name!r}", no_topic(name, metadata, why=WHY), now)
        for key in sorted(partitions):
            view = metadata.topics.get(key.topic)
            if view is not None and key.partition >= len(view.partitions):
                self._met(repr(key), no_partition(key.topic, len(view.partitions), key.partition), now)
            elif view is not None:
                self._found(repr(key))

    def _found(self, what: str) -> None:
        self._told.pop(what, None)
        self._trouble.over(what)

    def _met(self, what: str, reason: BrokerError, now: float) -> None:
        self.reason = reason
        self._trouble.met(what, reason, now)
        due = self._told.setdefault(what, now + (self._patience if reason.retriable else 0.0))
        if now >= due:
            self._told[what] = now + self._patience
            self._fail(reason)
