"""The inside of a broker, for who looks at it: measurements, HTTP, tests that disturb it. Nothing that
serves a Kafka client looks here."""

from __future__ import annotations

from dataclasses import dataclass

from raftlog.cluster.coordination import Coordination
from raftlog.cluster.groups import GroupCoordinator
from raftlog.cluster.leaders import Leaders
from raftlog.cluster.loop_time import LoopTime
from raftlog.cluster.metadata_group import MetadataGroup
from raftlog.cluster.operations import Operations
from raftlog.cluster.presence import Presence
from raftlog.cluster.replicas import Replicas
from raftlog.cluster.reports import Reports
from raftlog.cluster.this_broker import ThisBroker
from raftlog.cluster.waiting import Waiting
from raftlog.memory import MemoryBudget
from raftlog.raft.driver import Driver
from raftlog.raft.runner import TurnTimes
from raftlog.transport.links import Links


@dataclass(frozen=True, slots=True, kw_only=True)
class Inside:
    """Only to be touched on the broker's event loop."""

    me: ThisBroker
    memory: MemoryBudget
    metadata: MetadataGroup
    replicas: Replicas
    leaders: Leaders
    presence: Presence
    groups: GroupCoordinator
    coordination: Coordination
    waiting: Waiting
    reports: Reports
    operations: Operations
    driver: Driver
    links: Links
    loop_time: LoopTime
    turn_times: TurnTimes
