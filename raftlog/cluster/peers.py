"""What brokers tell each other beside Raft: proposals passed on, who leads, who lives, who has applied what.

Decides nothing about Kafka; a lost message is repeated or asked again.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from itertools import islice
from typing import TYPE_CHECKING, Any, Final

import trio

from raftlog.cluster.calls import Calls, Reply, Unreachable
from raftlog.cluster.hints import Hint, Hints
from raftlog.cluster.liveness import ALIVE_INTERVAL
from raftlog.cluster.metadata_group import ProposalFailed
from raftlog.errors import InvalidInput
from raftlog.net.dialing import why_not_connected
from raftlog.transport.links import Address, Links
from raftlog.types import GROUP_KEY_SIZE, METADATA_TOPIC_ID, BrokerId, GroupKey, RaftIndex, Term

if TYPE_CHECKING:
    from raftlog.cluster.node import Node
    from raftlog.metadata.catalog import Topic

PROPOSE_TIMEOUT_S: Final = 2.0
"""How long a proposal that was passed on may take before somebody else is asked."""
BARRIER_TIMEOUT_S: Final = 10.0
"""How long a change waits for the other brokers to have applied it."""
PROBE_TIMEOUT_S: Final = 0.2
"""How long a connection attempt to a lost peer may take; a refusal comes at once."""
PROBES: Final = 10
PROBE_INTERVAL_S: Final = 0.02
ANNOUNCE_INTERVAL_S: Final = 2.0
"""Between two repetitions of what this broker leads; a change is told at once."""
ANNOUNCED_AT_ONCE: Final = 200
"""Groups in one message of who leads what: half a millisecond for who sends it and who takes it."""
HEARD_S: Final = 3 * ALIVE_INTERVAL
"""How long a sign of life counts for where replicas are placed."""
NEVER: Final = float("-inf")

log = logging.getLogger("raftlog.cluster")


class Peers:
    """The other brokers, as this one talks to them."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self.hints = Hints(lambda topic_id: topic_id in self._topics or topic_id == METADATA_TOPIC_ID)
        self.links = Links(
            node.broker_id,
            process=node.incarnation,
            cluster_id=lambda: node.catalog.cluster_id or node.store.cluster_id,
            receive=node.driver.receive,
            rng=node.rng,
            on_note=lambda sender, body: self.calls.receive(sender, body),
            on_connected=self._on_connected,
            on_disconnected=self._on_disconnected,
            on_bytes=lambda peer: node.driver.hear_bytes(peer, trio.current_time()),
        )
        self.calls = Calls(
            self.links.send_note,
            {
                "propose": self._on_propose,
                "applied": self._on_applied,
                "leaders": self._on_leaders,
                "alive": self._on_alive,
                "leaving": self._on_leaving,
                "transfer": self._on_transfer,
                "spoken": self._on_spoken,
            },
        )
        self._topics: set[bytes] = set()
        self._connected_since: dict[BrokerId, float] = {}
        self._heard_at: dict[BrokerId, float] = {}
        self._leaving: set[BrokerId] = set()
        self._lost: list[BrokerId] = []
        self._lost_one = trio.Event()
        self._led: dict[GroupKey, Term] = {}
        self._news: dict[GroupKey, Term] = {}
        self._led_changed = trio.Event()

    def __repr__(self) -> str:
        return f"<Peers of {self._node.broker_id}: {sorted(self._known())}>"

    def catalog_changed(self) -> None:
        """Keep a connection with every broker that the catalog or the configuration names, and the leaders
        of the topics that there are."""
        self.links.set_peers(self._known())
        topics = set(self._node.catalog.topics_by_id)
        self.hints.forget(self._topics - topics)
        self._topics = topics

    def _known(self) -> dict[BrokerId, list[Address]]:
        """Where the brokers are: as they said when they were started last, or else as the configuration says,
        which knows better when the whole cluster has moved meanwhile."""
        config = self._node.config
        named = {**config.join, **config.peers}
        known = {
            broker.id: [Address(broker.peer_host, broker.peer_port)]
            for broker in self._node.catalog.brokers.values()
            if broker.peer_host
        }
        for broker, (host, port) in named.items():
            places = known.setdefault(BrokerId(broker), [])
            if Address(host, port) not in places:
                places.append(Address(host, port))
        return known

    def may_take_over(self) -> list[BrokerId]:
        """The brokers that leaderships can be handed to: connected, and not stopping themselves."""
        return [b for b in self._known() if self.links.is_connected(b) and b not in self._leaving]

    def leave(self) -> None:
        """Tell the others that this broker is stopping: nothing should be handed to it."""
        for broker in self._known():
            self.calls.tell(broker, "leaving", None)

    def _on_leaving(self, sender: BrokerId, body: Any, reply: Reply) -> None:
        self._leaving.add(sender)

    def _on_transfer(self, sender: BrokerId, body: Any, reply: Reply) -> None:
        match body:
            case [bytes(key), int(to)]:
                reply(self._node.transfer(key, BrokerId(to)))
            case _:
                raise InvalidInput(f"broker {sender} wants {body!r} handed over")

    def _on_spoken(self, sender: BrokerId, body: Any, reply: Reply) -> None:
        spoken = []
        for row in body if isinstance(body, list) else [body]:
            match row:
                case [int(api), int(version)]:
                    spoken.append((api, version))
                case _:
                    raise InvalidInput(f"clients of broker {sender} speak {row!r}")
        self._node.on_spoken(spoken)

    def live(self) -> list[BrokerId]:
        """The other brokers that are connected and not fenced."""
        return [
            broker.id
            for broker in self._node.catalog.brokers.values()
            if not broker.fenced and broker.id != self._node.broker_id and self.links.is_connected(broker.id)
        ]

    # Proposals

    async def propose(self, leader: BrokerId, command: bytes) -> RaftIndex | ProposalFailed:
        """Pass an encoded command on to the metadata leader; the index at which it applied it."""
        try:
            answer = await self.calls.ask(leader, "propose", command, timeout=PROPOSE_TIMEOUT_S)
        except Unreachable as error:
            return ProposalFailed(str(error), may_still_happen=True)
        match answer:
            case int(index):
                return RaftIndex(index)
            case [str(reason), bool(may_still_happen)]:
                return ProposalFailed(reason, may_still_happen=may_still_happen)
            case [str(reason), False, True]:
                return ProposalFailed(reason, may_still_happen=False, is_final=True)
            case _:
                return ProposalFailed(f"broker {leader} answered {answer!r}", may_still_happen=True)

    def _on_propose(self, sender: BrokerId, body: Any, reply: Reply) -> None:
        def on_done(outcome: RaftIndex | ProposalFailed) -> None:
            if isinstance(outcome, ProposalFailed):
                reply([str(outcome), outcome.may_still_happen] + [True] * outcome.is_final)
            else:
                reply(int(outcome))

        if not isinstance(body, bytes):
            raise InvalidInput(f"broker {sender} proposes {type(body).__name__}")
        self._node.metadata.propose_checked(
            body, now=trio.current_time(), now_ms=self._node.now_ms(), on_done=on_done
        )

    # Read your writes

    async def applied_everywhere(self, topic: Topic | None = None) -> None:
        """Wait until every live broker has applied what is applied here and knows the leaders of `topic`.
        A broker that goes away meanwhile is not waited for."""
        index = int(self._node.metadata.applied_index)
        body = [index, topic.topic_id if topic is not None else None]

        async def one(broker: BrokerId) -> None:
            try:
                await self.calls.ask(broker, "applied", body, timeout=BARRIER_TIMEOUT_S)
            except Unreachable as error:
                log.warning("a change is not known to be visible everywhere: %s", error)

        async with trio.open_nursery() as nursery:
            for broker in self.live():
                nursery.start_soon(one, broker)

    def _on_applied(self, sender: BrokerId, body: Any, reply: Reply) -> None:
        match body:
            case [int(index), bytes() | None as topic_id]:
                self._node.when_applied(RaftIndex(index), topic_id, lambda: reply(True))
            case _:
                raise InvalidInput(f"broker {sender} asks whether {body!r} is applied")

    # Who leads

    def leads(self, group: GroupKey, term: Term) -> None:
        """This broker leads a group and is ready to: tell everyone."""
        if self._led.get(group) != term:
            log.info("leads %s in term %d", self._node.name_of(group), term)
            self._led[group] = self._news[group] = term
            self.hints.update([Hint(group, term, self._node.broker_id)])
            self._led_changed.set()

    async def announce(self) -> None:
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
                self._tell_led(list(self._known()), some)
                await trio.lowlevel.checkpoint()

    def _tell_led(self, brokers: Iterable[BrokerId], some: Mapping[GroupKey, Term]) -> None:
        body = [[key, term] for key, term in self._still_led(some).items()]
        if body:
            for broker in brokers:
                self.calls.tell(broker, "leaders", body)

    def _still_led(self, led: Mapping[GroupKey, Term]) -> dict[GroupKey, Term]:
        groups = self._node.driver.groups
        return {
            key: term
            for key, term in led.items()
            if key in groups and groups[key].is_leader and groups[key].term == term
        }

    def _on_connected(self, peer: BrokerId) -> None:
        self._tell_led([peer], self._led)
        if spoken := self._node.spoken():
            self.calls.tell(peer, "spoken", spoken)
        self._connected_since[peer] = self._heard_at[peer] = trio.current_time()
        self._node.changed()

    def _on_disconnected(self, peer: BrokerId) -> None:
        self._connected_since.pop(peer, None)
        self._heard_at.pop(peer, None)
        self._leaving.discard(peer)
        # Clients ask for metadata within a millisecond of a broker's end: better to let them wait for the
        # successor than to send them back. If the peer is there after all, it says so when it reconnects.
        self.hints.leader_is_gone(peer)
        self.calls.link_ended(peer)
        self._lost.append(peer)
        self._lost_one.set()

    async def probe_lost(self) -> None:
        """Find out whether a peer that was lost has ended, until cancelled.

        The kernel refuses connections to a port nobody listens on: the process is gone, and the groups
        that it led need not wait for the election time-out. A peer that is merely cut off is not heard of
        so fast. A refusal that lies (a firewall that rejects) costs an election, nothing else: there are
        no leases.
        """
        while True:
            await self._lost_one.wait()
            self._lost_one = trio.Event()
            lost, self._lost = self._lost, []
            async with trio.open_nursery() as nursery:
                for peer in lost:
                    nursery.start_soon(self._probe, peer)

    async def _probe(self, peer: BrokerId) -> None:
        # A process that ends closes its connections and its listener one after the other.
        for _ in range(PROBES):
            if await self._is_refused(peer):
                self._node.driver.peer_is_gone(peer, trio.current_time())
                return
            await trio.sleep(PROBE_INTERVAL_S)

    async def _is_refused(self, peer: BrokerId) -> bool:
        places = self._known().get(peer)
        if places is None:
            return False
        with trio.move_on_after(PROBE_TIMEOUT_S):
            try:
                stream = await trio.open_tcp_stream(places[0].host, places[0].port)
            except OSError as error:
                return isinstance(why_not_connected(error), ConnectionRefusedError)
            await stream.aclose()
        return False

    def connected_since(self, peer: BrokerId) -> float | None:
        """When the connection that there is now was made; None when there is none."""
        return self._connected_since.get(peer)

    def _on_leaders(self, sender: BrokerId, body: Any, reply: Reply) -> None:
        hints = []
        for row in body if isinstance(body, list) else [body]:
            match row:
                case [bytes(key), int(term)] if len(key) == GROUP_KEY_SIZE:
                    hints.append(Hint(GroupKey(key), Term(term), sender))
                case _:
                    raise InvalidInput(f"broker {sender} leads {row!r}")
        if self.hints.update(hints):
            self._node.changed()

    # Who lives

    async def say_alive(self) -> None:
        """Tell every broker that this one lives, until cancelled: the metadata leader, which fences those
        that it does not hear, and the others, which place replicas."""
        node = self._node
        while True:
            node.heard(node.broker_id, node.incarnation)
            for broker in self._known():
                self.calls.tell(broker, "alive", node.incarnation)
            await trio.sleep(ALIVE_INTERVAL)

    def hears(self, broker: BrokerId) -> bool:
        """Whether a broker has said lately that it lives."""
        return trio.current_time() - self._heard_at.get(broker, NEVER) <= HEARD_S

    def _on_alive(self, sender: BrokerId, body: Any, reply: Reply) -> None:
        if not isinstance(body, bytes):
            raise InvalidInput(f"broker {sender} is alive as {body!r}")
        self._heard_at[sender] = trio.current_time()
        self._node.heard(sender, body)
