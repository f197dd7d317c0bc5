"""What happened to the Raft groups of a broker, and why: for people and metrics, never for decisions.

A group says each thing as it happens: a candidate lives for milliseconds, and nobody who looks now and then
would see it. What happens to many groups for one reason, as when a broker dies, is one event that counts
them; so is what one group says again and again. Knows no clock and no names.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterator
from enum import Enum
from typing import Final

from raftlog.types import METADATA_GROUP, BrokerId, GroupKey, Term

EVENTS_MAX: Final = 1000
"""Events that are kept; older ones are forgotten."""
NAMED_MAX: Final = 5
"""Groups that an event names; it counts the others."""
TOGETHER_S: Final = 2.0
"""How soon the same has to happen again to be counted to one event."""


class Kind(Enum):
    """What happened to a group, here."""

    ASKED = "asked"
    """It asked whether the others would vote: no new term has begun."""
    CANDIDATE = "candidate"
    LEADER = "leader"
    STEPPED_DOWN = "stepped_down"
    HANDING_OVER = "handing_over"
    VOTED = "voted"
    TRUNCATED = "truncated"
    SNAPSHOT_SENT = "snapshot_sent"
    FILLED_ANEW = "filled_anew"


class Cause(Enum):
    """Why. The value is said to people, with the other broker's number in it."""

    SILENT = "broker {other} was not heard"
    NO_LEADER = "no leader was known"
    PROCESS_ENDED = "the process of broker {other} has ended"
    ALONE = "it is the only voter"
    NEW_GROUP = "the group is new: every voter is empty"
    HANDED_OVER = "broker {other} handed it over"
    NO_MAJORITY = "no majority was heard"
    NEWER_TERM = "broker {other} is in a newer term"
    DAMAGED = "the log here is damaged"
    UNREADABLE = "no file of the log here can be opened"
    ENDED = "the replica here ends"
    TO_PREFERRED = "broker {other} is its preferred leader"
    TO_MOVE = "its replicas move to others"
    STOPPING = "this broker stops"
    NOT_SERVING = "this broker does not reach the metadata leader, and serves no clients"
    DISK_STALLED = "the disk here stalls"
    AS_ASKED = "somebody asked for it"
    ASKED_FOR_VOTE = "broker {other} asked, and its log lacks nothing"
    OTHER_LEADER = "the leader's log is another"
    FAR_BEHIND = "broker {other} is behind the start of the log"
    FROM_LEADER = "broker {other} sent what it has"

    def text(self, other: BrokerId | None) -> str:
        return self.value.format(other="?" if other is None else other)


class Event:
    """One thing, of one group or of many at once. `at` and `last_at` are the loop's clock, seconds."""

    __slots__ = ("at", "cause", "count", "groups", "kind", "last_at", "number", "other", "term", "version")

    def __init__(
        self, number: int, at: float, kind: Kind, cause: Cause, other: BrokerId | None, term: Term
    ) -> None:
        self.number = number
        self.version = number
        """As of which change of the ring: a number that grows when the event counts another group."""
        self.at = self.last_at = at
        self.kind = kind
        self.cause = cause
        self.other = other
        self.term = term
        """The highest of its groups."""
        self.groups: list[GroupKey] = []
        """Some of them."""
        self.count = 0

    def __repr__(self) -> str:
        return f"<Event {self.number} {self.kind.value} of {self.count} in {self.term}: {self.why}>"

    @property
    def why(self) -> str:
        return self.cause.text(self.other)


class Events:
    """The last thousand, and how often each thing happened since the start."""

    def __init__(self) -> None:
        self.counts: Counter[tuple[Kind, Cause]] = Counter()
        self._kept: deque[Event] = deque(maxlen=EVENTS_MAX)
        self._growing: dict[tuple[Kind, Cause, BrokerId | None, bool], Event] = {}
        self._last = 0

    def __repr__(self) -> str:
        return f"<Events {len(self._kept)} of {self._last}>"

    def __iter__(self) -> Iterator[Event]:
        """The oldest first."""
        return iter(list(self._kept))

    @property
    def last_version(self) -> int:
        return self._last

    def since(self, version: int) -> list[Event]:
        """What happened or grew after that version, in that order."""
        if version >= self._last:
            return []
        return sorted((e for e in self._kept if e.version > version), key=lambda event: event.version)

    def add(
        self, group: GroupKey, term: Term, kind: Kind, cause: Cause, other: BrokerId | None, now: float
    ) -> None:
        self.counts[kind, cause] += 1
        self._last += 1
        # The metadata group's elections are everybody's business, and stand alone.
        key = (kind, cause, other, group == METADATA_GROUP)
        event = self._growing.get(key)
        if event is None or now - event.last_at > TOGETHER_S or now < event.at:
            event = self._growing[key] = Event(self._last, now, kind, cause, other, term)
            self._kept.append(event)
        event.version, event.last_at = self._last, now
        event.count += 1
        event.term = max(event.term, term)
        if len(event.groups) < NAMED_MAX and group not in event.groups:
            event.groups.append(group)
