"""What a broker says that it leads, to the others and to itself."""

from __future__ import annotations

from typing import Any, cast

import trio
import trio.testing

from raftlog.cluster.announcements import ANNOUNCE_INTERVAL_S, Announcements
from raftlog.cluster.changes import Changes
from raftlog.cluster.peers import Peers
from raftlog.metadata.catalog import Catalog
from raftlog.raft.group import RaftGroup
from raftlog.types import BrokerId, GroupKey, Term, group_key

ME, OTHER = BrokerId(1), BrokerId(2)
TOPIC = b"t" * 16
KEY = group_key(TOPIC, 0)


class Led:
    key, term, is_leader, is_ready = KEY, Term(3), True, True


class Heard:
    """The other brokers; what this broker tells them is kept."""

    def __init__(self) -> None:
        self.calls = self
        self.told: list[tuple[BrokerId, str, object]] = []

    def serve(self, name: str, handler: object) -> None: ...

    def watch(self, connected: object, disconnected: object) -> None: ...

    def known(self) -> list[BrokerId]:
        return [OTHER]

    def tell(self, broker: BrokerId, name: str, body: object) -> None:
        self.told.append((broker, name, body))


class Known:
    """A catalog of which only the topics' ids are asked."""

    def __init__(self) -> None:
        self.topics_by_id: dict[bytes, object] = {TOPIC: None}

    def topic(self, topic_id: bytes) -> None: ...


async def test_metadata_that_are_repaired_cost_no_knowledge_of_what_is_led_here(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """While its metadata are repaired a broker knows no topic. Afterwards the broker told the others what it
    leads, and did not know it itself: it wrote no marker, and named clients no leader (seed 7105649)."""
    catalog, peers, group = Known(), Heard(), Led()
    groups = cast(dict[GroupKey, RaftGroup], {KEY: group})
    announcements = Announcements(
        ME, cast(Catalog, catalog), groups, cast(Peers, cast(Any, peers)), Changes()
    )
    announcements.catalog_changed()
    announcements.leadership_moved(cast(RaftGroup, group))
    assert announcements.hints.leader(KEY) == (ME, 3)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(announcements.run)
        topics, catalog.topics_by_id = catalog.topics_by_id, {}
        announcements.catalog_changed()
        assert announcements.hints.leader(KEY) == (None, -1)
        catalog.topics_by_id = topics
        announcements.catalog_changed()
        await trio.sleep(1.5 * ANNOUNCE_INTERVAL_S)
        assert announcements.hints.leader(KEY) == (ME, 3)
        assert peers.told[-1] == (OTHER, "leaders", [[KEY, 3]])
        group.is_leader = group.is_ready = False
        announcements.leadership_moved(cast(RaftGroup, group))
        await trio.sleep(1.5 * ANNOUNCE_INTERVAL_S)
        assert announcements.hints.leader(KEY) == (None, 3)
        nursery.cancel_scope.cancel()
