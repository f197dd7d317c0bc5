"""The inside of a broker, for who measures it and for tests that disturb it. Nothing that serves a client
looks here."""

from __future__ import annotations

from dataclasses import dataclass

from raftlog.cluster.loop_time import LoopTime
from raftlog.cluster.metadata_group import MetadataGroup
from raftlog.raft.driver import Driver
from raftlog.raft.runner import TurnTimes
from raftlog.transport.links import Links


@dataclass(frozen=True, slots=True, kw_only=True)
class Inside:
    """Only to be touched on the broker's event loop."""

    metadata: MetadataGroup
    driver: Driver
    links: Links
    loop_time: LoopTime
    turn_times: TurnTimes
