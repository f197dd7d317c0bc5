"""Who leads what, told from broker to broker: a change at once, everything again every two seconds.

What is heard goes into `Hints`. A message may be lost; the next repetition makes up for it.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from itertools import islice
from typing import Any, Final

import trio

from raftlog.cluster.calls import Reply
from raftlog.cluster.changes import Changes
from raftlog.cluster.hints import Hint, Hints
from raftlog.cluster.peers import Peers
from raftlog.errors import InvalidInput
from raftlog.metadata.catalog import Catalog
from raftlog.raft.group import RaftGroup
from raftlog.raft.messages import AppendReply
from raftlog.types import GROUP_KEY_SIZE, METADATA_TOPIC_ID, BrokerId, GroupKey, RaftIndex, Term

ANNOUNCE_INTERVAL_S: Final = 2.0
"""Between two repetitions of what this broker leads; a change is told at once."""
ANNOUNCED_AT_ONCE: Final = 200
"""Groups in one message of who leads what. It costs sender and receiver half a millisecond each."""

log = logging.getLogger("raftlog.cluster")


class Announcements:
    """What this broker leads, told to the others, and what they say that they lead."""

    def __init__(
        self,
        broker_id: BrokerId,
        catalog: Catalog,
        groups: Mapping[GroupKey, RaftGroup],
        peers: Peers,
        changes: Changes,
    ) -> None:
        """`groups` are those of this broker."""
        self.hints = Hints(lambda topic_id: topic_id in self._topics or topic_id == METADATA_TOPIC_ID)
        self._broker_id = broker_id
        self._catalog = catalog
        self._groups = groups
        self._peers = peers
        self._changes = changes
        self._topics: set[bytes] = set()
        self._led: dict[GroupKey, Term] = {}
        self._news: dict[GroupKey, Term] = {}
        self._led_changed = trio.Event()
        peers.calls.serve("leaders", self._on_leaders)
        peers.calls.serve("later_terms", self._on_later_terms)
        peers.watch(connected=self._connected, disconnected=self._disconnected)

    def catalog_changed(self) -> None:
        """Forget the leaders of topics that are gone."""
        topics = set(self._catalog.topics_by_id)
        self.hints.forget(self._topics - topics)
        self._topics = topics

    def leads(self, group: GroupKey, term: Term) -> None:
        """This broker leads a group and is ready to: tell everyone."""
        if self._led.get(group) != term:
            log.info("leads %s in term %d", self._name_of(group), term)
            self._led[group] = self._news[group] = term
            self.hints.update([Hint(group, term, self._broker_id)])
            self._led_changed.set()

    def leadership_moved(self, group: RaftGroup) -> None:
        """Another broker leads a partition, or this one and it became ready."""
        if group.is_ready:
            self.leads(group.key, group.term)
        elif not group.is_leader:
            # A leader that was cut off must not go on sending clients to itself.
            self.hints.stepped_down(group.key, self._broker_id)
        self._changes.tell()

    async def run(self) -> None:
        """Tell changes at once, and everything now and then, until cancelled."""
        while True:
            with trio.move_on_after(ANNOUNCE_INTERVAL_S) as scope:
                await self._led_changed.wait()
            self._led_changed = trio.Event()
            if scope.cancelled_caught:
                self._led = self._still_led(self._led)
                self.hints.sweep()
            news, self._news = self._led if scope.cancelled_caught else self._news, {}
            left = iter(list(news.items()))
            while some := dict(islice(left, ANNOUNCED_AT_ONCE)):
                led = self._still_led(some)
                self._note(led)
                self._tell(list(self._peers.known()), led)
                await trio.lowlevel.checkpoint()

    def _note(self, led: Mapping[GroupKey, Term]) -> None:
        """Keep it here as well. A broker whose metadata are being repaired knows no topics, and forgets who
        leads them."""
        if self.hints.update([Hint(key, term, self._broker_id) for key, term in led.items()]):
            self._changes.tell()

    def _tell(self, brokers: Iterable[BrokerId], led: Mapping[GroupKey, Term]) -> None:
        body = [[key, term] for key, term in led.items()]
        if body:
            for broker in brokers:
                self._peers.calls.tell(broker, "leaders", body)

    def _still_led(self, led: Mapping[GroupKey, Term]) -> dict[GroupKey, Term]:
        groups = self._groups
        return {
            key: term
            for key, term in led.items()
            if key in groups and groups[key].is_leader and groups[key].term == term
        }

    def _connected(self, peer: BrokerId) -> None:
        self._tell([peer], self._still_led(self._led))

    def _disconnected(self, peer: BrokerId) -> None:
        # Clients ask for metadata within a millisecond of a broker's end: better to let them wait for the
        # successor than to send them back. If the peer is there after all, it says so when it reconnects.
        self.hints.leader_is_gone(peer)

    def _on_leaders(self, sender: BrokerId, body: Any, reply: Reply) -> None:
        hints = []
        for row in body if isinstance(body, list) else [body]:
            match row:
                case [bytes(key), int(term)] if len(key) == GROUP_KEY_SIZE:
                    hints.append(Hint(GroupKey(key), Term(term), sender))
                case _:
                    raise InvalidInput(f"broker {sender} leads {row!r}")
        if self.hints.update(hints):
            self._changes.tell()
        self._tell_of_later_terms(sender, hints)

    def _tell_of_later_terms(self, sender: BrokerId, hints: Iterable[Hint]) -> None:
        """A group that lost all its disks begins again with the first term. Clients and this broker have been
        told of later ones, and believe no earlier one: the group is to go on behind them."""
        later: list[list[object]] = []
        for group, term, _ in hints:
            leader, known = self.hints.leader(group)
            if leader is None and known > term:
                later.append([group, known])
        if later:
            self._peers.calls.tell(sender, "later_terms", later)

    def _on_later_terms(self, sender: BrokerId, body: Any, reply: Reply) -> None:
        for row in body if isinstance(body, list) else [body]:
            match row:
                case [bytes(key), int(term)]:
                    group = self._groups.get(GroupKey(key))
                    if group is not None and group.is_leader and group.term < term:
                        # Any message of a later term ends the leader's own. This one acknowledges nothing.
                        later = AppendReply(group.key, Term(term), RaftIndex(0))
                        group.turning.step(sender, later, trio.current_time())
                        group.turning.wake()
                case _:
                    raise InvalidInput(f"broker {sender} knows later terms: {row!r}")

    def _name_of(self, group: GroupKey) -> str:
        """A group's name for people."""
        topic = self._catalog.topic(group[:-4])
        return f"{topic.name if topic else 'metadata'}-{int.from_bytes(group[-4:], 'big')}"
