"""One life of one broker: the real `raftlog.cluster.node.Node`, on virtual time, disk and network.

What it lives on is replaced, and nothing of what it does: `trio` in the modules of `raftlog.cluster`, the
links to its peers, and the runner of its driver, which is `tests.sim.broker`. Clients and faults act on it
from outside, as its process."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable
from functools import partial
from types import SimpleNamespace
from typing import Any, Final

from raftlog.cluster import node as real
from raftlog.cluster import peers as real_peers
from raftlog.cluster.front import Front
from raftlog.cluster.group_records import GroupRecords
from raftlog.cluster.metadata_group import ProposalFailed
from raftlog.cluster.steady_clock import SteadyClock
from raftlog.cluster.this_broker import ThisBroker
from raftlog.config import BrokerConfig
from raftlog.metadata.noun import Command, Result
from raftlog.metadata.state import MetadataState
from raftlog.partition.partition import Partition
from raftlog.storage.store import Store
from raftlog.types import BrokerId, RaftIndex
from tests.sim.connections import SimLinks
from tests.sim.replaced import replaced
from tests.sim.virtual_trio import Process, VirtualTrio
from tests.sim.world import World

STEP: Final = 2
"""Replicas that are made and deleted in one step: few, so that much happens between two."""
HAND_OVER_S: Final = 1.0
"""How long a stopping broker tries to get rid of its leaderships."""

OnResult = Callable[[Result | ProposalFailed], None]


class SimNode:
    """See the module. `after` calls something later as this process, if it lives until then."""

    def __init__(
        self,
        config: BrokerConfig,
        store: Store,
        world: World,
        trio: VirtualTrio,
        rng: random.Random,
        state: MetadataState,
        *,
        send_raft: Callable[[BrokerId, Any], None],
        send_note: Callable[[BrokerId, bytes], None],
        after: Callable[[float, Callable[[], None]], None],
    ) -> None:
        number = config.int("node.id")
        front = Front(
            advertised=(("PLAINTEXT", f"broker{number}", 9092),), peer_advertised=(f"broker{number}", 9192)
        )
        self.store, self.world, self.rng = store, world, rng
        self.broker_id = BrokerId(number)
        self.tasks = Process(after)
        self._trio = trio

        clock = SteadyClock(trio.current_time, world.now_ms)
        with replaced(
            (real_peers, "Links", partial(SimLinks, send_raft=send_raft, send_note=send_note)),
            (real, "MetadataState", lambda: state),
            (real, "time", SimpleNamespace(monotonic=trio.current_time)),
            (real, "GroupRecords", partial(GroupRecords, now=trio.current_time)),
            (real, "ThisBroker", SimpleNamespace(of=partial(ThisBroker.of, clock=clock))),
        ):
            self.real = real.Node(config, store, rng=rng, front=front)
        self.real.replicas._step = STEP
        links = self.real.inside.links
        assert isinstance(links, SimLinks)
        self.links = links
        self.driver, self.metadata = self.real.inside.driver, self.real.inside.metadata
        self.replicas, self.catalog, self.groups = self.real.replicas, self.real.catalog, self.real.groups
        self.takes_office: Callable[[SimNode], None] = lambda node: None
        """Called when the groups are coordinated here from now on."""
        self._was_coordinator = False

    def start(self) -> None:
        """What it does from here on is done by `tasks`."""
        self.tasks.start(self._trio, self.real.run)

    def go_on(self) -> None:
        """Something has happened: whoever waited for it goes on."""
        self.tasks.run()
        if self.is_coordinator != self._was_coordinator:
            self._was_coordinator = self.is_coordinator
            if self.is_coordinator:
                self.takes_office(self)

    @property
    def is_registered(self) -> bool:
        """Whether the cluster knows this start of the broker, as far as it knows itself."""
        known = self.catalog.brokers.get(self.broker_id)
        return known is not None and known.incarnation == self.real.me.incarnation

    def now_ms(self) -> int:
        return self.real.me.now_ms()

    # What clients ask

    def partition(self, topic_id: bytes, partition: int) -> Partition | None:
        return self.replicas.by_id.get((topic_id, partition))

    def leader_hint(self, topic_id: bytes, partition: int) -> BrokerId | None:
        topic = self.catalog.topics_by_id.get(topic_id)
        return self.real.leaders.leader_of(topic, partition)[0] if topic is not None else None

    @property
    def is_coordinator(self) -> bool:
        return self.real.coordination.is_coordinator

    def groups_changed(self) -> None:
        self.real.coordination.groups_changed()

    def ask(self, what: Callable[[], Awaitable[Any]], on_answer: Callable[[Any], None]) -> None:
        """Have a task wait for what a handler would wait for."""

        async def wait() -> None:
            on_answer(await what())

        self.tasks.start(self._trio, wait)

    def propose(self, command: Command, on_result: OnResult, *, timeout: float = 30.0) -> None:
        self.ask(partial(self.real.proposer.propose, command, timeout=timeout), on_result)

    def propose_here(self, command: bytes, on_done: Callable[[RaftIndex | ProposalFailed], None]) -> None:
        self.metadata.propose(command, now_ms=self.now_ms(), on_done=on_done)

    # The end

    def hand_over(self, then: Callable[[], None]) -> None:
        """Before a planned stop; `then` comes when that is done."""
        self.ask(partial(self.real.hand_over, HAND_OVER_S), lambda _: then())

    def save(self) -> None:
        """The state machines' state, as of now."""
        for partition in self.replicas.partitions:
            partition.save()
        self.metadata.save()

    def close(self) -> None:
        self.real.close()
