"""Members of classic groups, on the real coordinator: what a group was told outlives whoever told it.

A member joins, asks for its part, and says that it lives, as a client does: it knows where the coordinator
may be, and answers may never come. The leader gives everyone a part that is of no other assignment. Checked:
a generation of which a member was given a part is in the metadata of every later coordinator, or a later one
is; and no two assignments have one generation.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from raftlog.cluster.groups import (
    GroupError,
    GroupProtocol,
    HeartbeatRequest,
    JoinRequest,
    JoinResult,
    LeaveRequest,
    LeavingMember,
    SyncRequest,
    SyncResult,
)
from raftlog.metadata.groups import StoreGroup
from tests.sim.clients import Caller, Reply, Timeout
from tests.sim.node import SimNode
from tests.sim.world import Violation

if TYPE_CHECKING:
    from tests.sim.cluster import Cluster

GROUPS: Final = 3
MEMBERS: Final = 3
SESSION_MS: Final = 6_000
REBALANCE_MS: Final = 1_500
HEARTBEAT_S: Final = 0.3
LEAVES: Final = 0.01
"""How often a member goes instead of saying that it lives."""


@dataclass(slots=True)
class Told:
    """What members of a group were given parts of."""

    generation: int = 0
    assignments: dict[int, bytes] = field(default_factory=dict)
    """By generation."""


class Member(Caller):
    """One member, which comes back when it has left."""

    def __init__(self, cluster: Cluster, rng: random.Random, group: str, name: str, told: Told) -> None:
        super().__init__(cluster, rng)
        self._group, self._name, self._told = group, name, told
        self._instance_id = name if rng.random() < 0.3 else None
        self._member_id = ""
        self._generation = -1
        self.world.after(rng.uniform(0.1, 1.0), self._join)

    def _later(self, seconds: float, what: Any) -> None:
        self.world.after(self.rng.uniform(0.5, 1.5) * seconds, what)

    def _join(self) -> None:
        request = JoinRequest(
            group_id=self._group,
            member_id=self._member_id,
            instance_id=self._instance_id,
            client_id=self._name,
            client_host="/sim",
            session_timeout_ms=SESSION_MS,
            rebalance_timeout_ms=REBALANCE_MS,
            protocol_type="sim",
            protocols=(GroupProtocol("any", b""),),
        )

        def handle(node: SimNode, reply: Reply) -> None:
            if node.catalog.metadata_level < StoreGroup.needs_level:
                reply(Timeout)  # the cluster is young: groups are not kept yet
                return
            node.groups.join(request, self.world.now, reply)
            node.groups_changed()

        self.call(self.cluster.coordinator_hint(self.rng), handle, self._joined)

    def _joined(self, answer: JoinResult | type[Timeout]) -> None:
        if isinstance(answer, type):
            self._later(0.1, self._join)
        elif answer.error is GroupError.MEMBER_ID_REQUIRED:
            self._member_id = answer.member_id
            self._join()
        elif answer.error is not GroupError.NONE:
            self._refused(answer.error)
        else:
            self._member_id, self._generation = answer.member_id, answer.generation_id
            part = b"%d" % self.rng.getrandbits(62)
            self._sync({one.member_id: part for one in answer.members} if not answer.skip_assignment else {})

    def _sync(self, assignments: dict[str, bytes]) -> None:
        request = SyncRequest(
            group_id=self._group,
            member_id=self._member_id,
            instance_id=self._instance_id,
            generation_id=self._generation,
            assignments=assignments,
        )

        def handle(node: SimNode, reply: Reply) -> None:
            def answer(result: SyncResult) -> None:
                if result.error is GroupError.NONE:
                    self._given(request.generation_id, result.assignment)
                reply(result)

            node.groups.sync(request, self.world.now, answer)
            node.groups_changed()

        self.call(self.cluster.coordinator_hint(self.rng), handle, self._synced)

    def _given(self, generation: int, part: bytes) -> None:
        told = self._told
        told.generation = max(told.generation, generation)
        if told.assignments.setdefault(generation, part) != part:
            raise Violation("a generation is assigned once", f"{self._group}, generation {generation}")

    def _synced(self, answer: SyncResult | type[Timeout]) -> None:
        if isinstance(answer, type):
            self._later(0.1, self._join)
        elif answer.error is not GroupError.NONE:
            self._refused(answer.error)
        else:
            self._later(HEARTBEAT_S, self._beat)

    def _beat(self) -> None:
        if not self.cluster.clients_work:
            return
        if self.rng.random() < LEAVES:
            self._leave()
            return
        request = HeartbeatRequest(
            group_id=self._group,
            member_id=self._member_id,
            instance_id=self._instance_id,
            generation_id=self._generation,
        )

        def handle(node: SimNode, reply: Reply) -> None:
            reply(node.groups.heartbeat(request, self.world.now))

        def done(answer: GroupError | type[Timeout]) -> None:
            if isinstance(answer, GroupError) and answer is not GroupError.NONE:
                self._refused(answer)
            else:
                self._later(HEARTBEAT_S, self._beat)

        self.call(self.cluster.coordinator_hint(self.rng), handle, done)

    def _refused(self, error: GroupError) -> None:
        if error is GroupError.NOT_COORDINATOR and self._generation >= 0:
            self._later(0.1, self._beat)
            return
        if error in (GroupError.UNKNOWN_MEMBER_ID, GroupError.FENCED_INSTANCE_ID):
            self._member_id, self._generation = "", -1
        self._later(0.05, self._join)

    def _leave(self) -> None:
        leaving = (LeavingMember(self._member_id, self._instance_id),)

        def handle(node: SimNode, reply: Reply) -> None:
            reply(node.groups.leave(LeaveRequest(group_id=self._group, members=leaving), self.world.now))
            node.groups_changed()

        def done(answer: Any) -> None:
            self._member_id, self._generation = "", -1
            self._later(1.0, self._join)

        self.call(self.cluster.coordinator_hint(self.rng), handle, done)


class Members:
    """All members of all groups, and what holds of them."""

    def __init__(self, cluster: Cluster, rng: random.Random) -> None:
        self.told = {f"members{number}": Told() for number in range(GROUPS)}
        for group, told in self.told.items():
            for number in range(MEMBERS):
                Member(cluster, random.Random(rng.getrandbits(64)), group, f"{group}-{number}", told)

    def takes_office(self, node: SimNode) -> None:
        """What was told of is there, when a broker becomes the coordinator."""
        for group, told in self.told.items():
            kept = node.catalog.groups.get(group)
            if told.generation and (kept is None or kept.generation < told.generation):
                raise Violation(
                    "a group's generation is kept",
                    f"{group}: broker {node.broker_id} has {kept}, members have generation {told.generation}",
                )
