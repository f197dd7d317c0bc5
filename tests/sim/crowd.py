"""Many groups that commit to one coordinator, up to the limits of a command: the metadata under load.

What a group has acknowledged is found again by whoever coordinates later, whatever snapshots were made
meanwhile; what is above a limit is refused, and nobody minds.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any, Final

from raftlog.cluster.metadata_group import ProposalFailed
from raftlog.metadata.commands import PROPOSED_BYTES_MAX, encode_command
from raftlog.metadata.offsets import CommitOffsets, DeleteOffsets, GroupCommit, OffsetCommit
from tests.sim.clients import Caller, Reply, Timeout
from tests.sim.node import SimNode
from tests.sim.world import Violation

if TYPE_CHECKING:
    from tests.sim.cluster import Cluster

GROUPS: Final = 40
METADATA: Final = (0, 0, 0, 20, 4000)
"""Characters of metadata with an offset."""
ABOVE: Final = 0.03
"""How often a command is above the limit, and must be refused."""

_Key = tuple[str, bytes]
"""A group, and the id of a topic; always in partition 0."""


class Crowd(Caller):
    """Commits for many groups at once, reads what they have, and forgets some of it."""

    def __init__(self, cluster: Cluster, rng: random.Random) -> None:
        super().__init__(cluster, rng)
        self.committed: dict[_Key, int] = {}
        """What was acknowledged last."""
        self.tried: dict[str, int] = {}
        """By group, the highest that was ever sent."""
        self.acked = self.refused = 0
        self._position = 0
        self._is_busy = False
        self.world.after(0.5, self._work)

    def _work(self) -> None:
        self.world.after(self.rng.uniform(0.01, 0.15), self._work)
        if self._is_busy or not self.cluster.topics or not self.cluster.clients_work:
            return
        self._is_busy = True
        topic_id = self.rng.choice(sorted(self.cluster.topics))
        draw = self.rng.random()
        if draw < 0.6:
            self._commit(topic_id)
        elif draw < 0.95:
            self._read(topic_id)
        else:
            self._forget(topic_id)

    def _commit(self, topic_id: bytes) -> None:
        topic = self.cluster.topics[topic_id]
        self._position += 1
        position, is_above = self._position, self.rng.random() < ABOVE
        names = [f"crowd{n}" for n in self.rng.sample(range(GROUPS), self.rng.choice((1, 3, GROUPS)))]
        metadata = "x" * self.rng.choice(METADATA)
        if is_above:
            metadata = "x" * (PROPOSED_BYTES_MAX // len(names) + 1)
        offsets = (OffsetCommit(topic, 0, position, -1, metadata),)
        if not is_above:
            self.tried.update(dict.fromkeys(names, position))

        def handle(node: SimNode, reply: Reply) -> None:
            if not node.is_coordinator:
                reply(ProposalFailed("not the coordinator", may_still_happen=False))
                return
            now_ms = node.now_ms()
            commits = tuple(GroupCommit(name, now_ms, offsets) for name in names)
            command = encode_command(CommitOffsets(commits=commits))
            node.metadata.propose_checked(command, now_ms=now_ms, on_done=reply)

        def done(value: Any) -> None:
            self._is_busy = False
            if value is Timeout:
                return
            if isinstance(value, ProposalFailed):
                self.refused += value.is_final
                return
            if is_above:
                taken = f"{len(names)} times {len(metadata)} bytes were taken"
                raise Violation("limits stand at the entrance", taken)
            self.acked += 1
            for name in names:
                self.committed[name, topic_id] = position

        self.call(self.cluster.coordinator_hint(self.rng), handle, done)

    def _read(self, topic_id: bytes) -> None:
        topic = self.cluster.topics[topic_id]
        known = {name: at for (name, of), at in self.committed.items() if of == topic_id}

        def handle(node: SimNode, reply: Reply) -> None:
            def read(led: bool) -> None:
                found = {name: node.catalog.committed_offset(name, topic, 0) for name in known}
                reply((led and node.is_coordinator, found))

            node.metadata.group.read_barrier(self.world.now, read)

        def done(value: Any) -> None:
            self._is_busy = False
            if value is Timeout or not value[0] or topic_id in self.cluster.deleted:
                return
            for name, at in value[1].items():
                offset = at.offset if at is not None else -1
                if not known[name] <= offset <= self.tried[name]:
                    raise Violation(
                        "committed offsets stay",
                        f"group {name} in {topic}: {offset} is stored, {known[name]} was acknowledged, "
                        f"{self.tried[name]} tried",
                    )

        self.call(self.cluster.coordinator_hint(self.rng), handle, done)

    def check(self, node: SimNode) -> None:
        """When all is healed: what was acknowledged is in a catalog."""
        for (name, topic_id), position in self.committed.items():
            topic = node.catalog.topic(topic_id)
            found = node.catalog.committed_offset(name, topic.name, 0) if topic is not None else None
            if topic is not None and (found is None or found.offset < position):
                raise Violation("committed offsets stay", f"{name} in {topic.name}: {found}, not {position}")

    def _forget(self, topic_id: bytes) -> None:
        topic, name = self.cluster.topics[topic_id], f"crowd{self.rng.randrange(GROUPS)}"
        self.committed.pop((name, topic_id), None)  # from now on either is right
        command = encode_command(DeleteOffsets(group=name, partitions=((topic, 0),)))

        def handle(node: SimNode, reply: Reply) -> None:
            node.propose_here(command, reply)

        def done(value: Any) -> None:
            self._is_busy = False

        self.call(self.cluster.coordinator_hint(self.rng), handle, done)
