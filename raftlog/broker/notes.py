"""What a broker notes of its clients. Every broker has its own: several may share a process, and the clock of
each begins anywhere."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field

from raftlog.broker.audit import Audit
from raftlog.broker.complaints import Complaints
from raftlog.broker.speakers import Speakers

log = logging.getLogger("raftlog.broker")


@dataclass(frozen=True, slots=True)
class Notes:
    """They live as long as the broker."""

    audit: Audit = field(default_factory=Audit)
    refusals: Complaints = field(default_factory=lambda: Complaints(log, "requests were refused something"))
    speakers: Speakers = field(default_factory=Speakers)
    offset_speakers: Speakers = field(default_factory=Speakers)
