"""Membership of a consumer group by the classic protocol: join, sync, heartbeat, leave.

`Member` decides, without I/O, what an error code means for a member. `Membership` does it: one task joins
whenever that is needed, one sends heartbeats. The partitions belong to the consumer, which is told through
`Owner` what to let go and what to take; it may make the membership wait until the user's code is between two
records, as a poll of Kafka's clients does, while heartbeats go on.

KIP-848's protocol has its place beside this one, with the same `Owner`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from enum import Enum, auto
from typing import Any, Final, Protocol

import trio

from raftlog.client.assignors import ASSIGNORS, Assignor
from raftlog.client.backoff import Backoff
from raftlog.client.cluster import Cluster
from raftlog.client.errors import BrokerError, ClientError, broker_error, is_retriable
from raftlog.client.group_protocol import (
    Subscription,
    decode_subscription,
    decode_told,
    encode_assignment,
    encode_subscription,
)
from raftlog.client.metadata import TopicPartition
from raftlog.client.nursery import background
from raftlog.client.settings import ConsumerSettings
from raftlog.errors import InvalidInput
from raftlog.protocol.api import ApiKey
from raftlog.protocol.encode import Fields
from raftlog.protocol.errors import ErrorCode

JOIN_MORE_MS: Final = 5_000
"""JoinGroup is answered when all have joined or the rebalance time-out is over; so much later it is lost."""


COORDINATOR_PATIENCE_S: Final = 5.0
"""How often somebody who waits for a rebalance looks whether the coordinator is still the same."""


class Reaction(Enum):
    """What a member does after an error."""

    RETRY = auto()  # the same again, after a pause
    FIND = auto()  # look for the coordinator, then the same again
    REJOIN = auto()  # join again; what is owned may be kept until then
    START_OVER = auto()  # join again; the generation is lost, and what was owned with it
    GIVE_UP = auto()  # nothing helps


_REACTIONS: Final = {
    ErrorCode.NOT_COORDINATOR: Reaction.FIND,
    ErrorCode.COORDINATOR_NOT_AVAILABLE: Reaction.FIND,
    ErrorCode.COORDINATOR_LOAD_IN_PROGRESS: Reaction.RETRY,
    ErrorCode.REBALANCE_IN_PROGRESS: Reaction.REJOIN,
    ErrorCode.MEMBER_ID_REQUIRED: Reaction.REJOIN,
    ErrorCode.ILLEGAL_GENERATION: Reaction.START_OVER,
    ErrorCode.UNKNOWN_MEMBER_ID: Reaction.START_OVER,
}


_CURES: Final = {
    ErrorCode.INVALID_SESSION_TIMEOUT: "session_timeout_ms must lie between the broker's"
    " group.min.session.timeout.ms and group.max.session.timeout.ms",
    ErrorCode.INCONSISTENT_GROUP_PROTOCOL: "its members share the partitions in other ways: every member's"
    " partition_assignment_strategy must name one that all have",
    ErrorCode.FENCED_INSTANCE_ID: "another consumer has joined with the same group_instance_id: each consumer"
    " needs its own",
}


class Member:
    """Who we are in the group."""

    def __init__(self, instance_id: str | None = None) -> None:
        self.instance_id = instance_id
        self.member_id = ""
        self.generation = -1
        self.protocol: str | None = None
        self.is_leader = False

    @property
    def joined(self) -> bool:
        return self.generation >= 0

    def react(self, error: ClientError) -> Reaction:
        """What to do about an error of Join, Sync or Heartbeat; forgets what is no longer true."""
        if not isinstance(error, BrokerError):
            return Reaction.FIND if is_retriable(error) else Reaction.GIVE_UP
        reaction = _REACTIONS.get(error.code)
        if reaction is None:
            return Reaction.RETRY if error.retriable else Reaction.GIVE_UP
        if reaction is Reaction.START_OVER:
            self.generation = -1
            if error.code is ErrorCode.UNKNOWN_MEMBER_ID:
                self.member_id = ""
        return reaction

    def accept(self, answer: Any) -> None:
        """A JoinGroup that worked."""
        self.member_id = answer.member_id
        self.generation = int(answer.generation_id)
        self.protocol = answer.protocol_name
        self.is_leader = answer.leader == answer.member_id

    def forget(self) -> None:
        """We have left."""
        self.member_id, self.generation, self.is_leader = "", -1, False

    def __repr__(self) -> str:
        role = "leader" if self.is_leader else "member"
        return f"<Member {self.member_id or '(none)'} {role} generation={self.generation}>"


class Owner(Protocol):
    """What a membership asks of the consumer whose partitions it manages."""

    def wanted_topics(self) -> tuple[str, ...]:
        """The topics that the subscription names or matches now."""

    def owned(self) -> frozenset[TopicPartition]:
        """The partitions that the group has given us."""

    def poll_overdue(self, now: float) -> bool:
        """Whether the user's code holds a record for longer than max.poll.interval.ms."""

    async def revoke(self, partitions: Iterable[TopicPartition]) -> None:
        """Let partitions go, once the user's code is between two records."""

    async def assign_more(self, partitions: Iterable[TopicPartition]) -> None:
        """Take partitions."""

    async def lose(self, partitions: Iterable[TopicPartition]) -> None:
        """Others have these partitions already."""

    async def until_polling(self) -> None:
        """Wait until the user's code is between two records."""


class Membership:
    """The tasks that keep a consumer in its group."""

    _owner: Owner

    def __init__(
        self, cluster: Cluster, settings: ConsumerSettings, assignor: Assignor | None = None
    ) -> None:
        assert settings.group_id is not None
        self._assignor = assignor
        if assignor is not None:
            assignor.rejoin = self.request_rejoin
        self.group = settings.group_id
        self.member = Member(settings.group_instance_id)
        self.rebalances = 0
        self._cluster = cluster
        self._settings = settings
        self._lane = cluster.connections.new_lane("group")
        self._commit_lane = cluster.connections.new_lane("commit")
        self._coordinator: int | None = None
        self._heard_at = float("-inf")
        """When the last request was sent that the coordinator answered as one of a member."""
        self._rejoin = trio.Event()
        self._stable = trio.Event()
        self._counts: dict[str, int] = {}
        client = cluster.settings
        self._backoff = Backoff(client.retry_backoff_ms, client.retry_backoff_max_ms, cluster.rng)
        names = settings.partition_assignment_strategy
        self.cooperative = all(name.startswith("cooperative") for name in names)

    @property
    def commit_lane(self) -> str:
        """The connections for offsets: a JoinGroup that waits must not stand before a commit."""
        return self._commit_lane

    @property
    def silent_s(self) -> float:
        """How long the coordinator has not answered as it answers a member."""
        return trio.current_time() - self._heard_at

    async def coordinator(self) -> int:
        """The coordinator, looked up when it is not known. Raises a retriable error while there is none."""
        if self._coordinator is None:
            self._coordinator = await self._cluster.coordinator(self.group)
        return self._coordinator

    def coordinator_failed(self) -> None:
        """Look for the coordinator again."""
        self._coordinator = None

    def request_rejoin(self) -> None:
        """Join again soon: the subscription or the topics have changed."""
        self._rejoin.set()

    def topics_changed(self) -> None:
        """New metadata: whoever assigned the partitions looks whether there are others now."""
        if self.member.is_leader and self.member.joined:
            topics = self._cluster.metadata.topics
            if any(name in topics and len(topics[name].partitions) != n for name, n in self._counts.items()):
                self.request_rejoin()

    async def run(self, owner: Owner) -> None:
        """Be a member until cancelled. Raises what cannot be mended."""
        self._owner = owner
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._keep_alive)
            while True:
                if self._owner.wanted_topics():
                    await self._join()
                await self._rejoin.wait()

    async def leave(self) -> None:
        """Tell the coordinator that we go, so that the others need not wait; a static member stays."""
        member = self.member
        if member.member_id and member.instance_id is None and self._coordinator is not None:
            fields = {
                "group_id": self.group,
                "member_id": member.member_id,
                "members": [
                    {
                        "member_id": member.member_id,
                        "group_instance_id": None,
                        "reason": "the consumer was closed",
                    }
                ],
            }
            try:
                await self._ask(ApiKey.LEAVE_GROUP, fields, lane=self._commit_lane)
            except ClientError:
                pass  # the session time-out does it then
        member.forget()

    def close(self) -> None:
        """Close the connections, and ask for metadata no longer."""
        self._cluster.unwatch(self)
        self._cluster.connections.close_lane(self._lane)
        self._cluster.connections.close_lane(self._commit_lane)

    def __repr__(self) -> str:
        return f"<Membership {self.group} {self.member!r}>"

    # -- joining

    async def _join(self) -> None:
        """Join and sync until it works, and hand the partitions over."""
        while True:
            if not self.member.joined:
                await self._owner.lose(self._owner.owned())
                if self._owner.poll_overdue(trio.current_time()):
                    await self._owner.until_polling()
            elif not self.cooperative:
                await self._owner.revoke(self._owner.owned())
            self._rejoin = trio.Event()
            self._stable = trio.Event()
            try:
                partitions = await self._join_once()
            except ClientError as error:
                match self.member.react(error):
                    case Reaction.GIVE_UP:
                        raise
                    case Reaction.FIND:
                        self.coordinator_failed()
                    case Reaction.REJOIN | Reaction.START_OVER:
                        continue
                    case Reaction.RETRY:
                        pass
                if isinstance(error, BrokerError):
                    self._cluster.trouble.met(f"group {self.group!r}", error, trio.current_time())
                await trio.sleep(self._backoff.next())
                continue
            self._cluster.trouble.over(f"group {self.group!r}")
            self._backoff.reset()
            break
        self.rebalances += 1
        owned = self._owner.owned()
        surplus = owned - partitions
        self._stable.set()
        if surplus:
            await self._owner.revoke(surplus)
            self.request_rejoin()  # so that others get them (KIP-429)
        await self._owner.assign_more(partitions - self._owner.owned())

    async def _join_once(self) -> frozenset[TopicPartition]:
        settings, member = self._settings, self.member
        owned = self._owner.owned() if self.cooperative else frozenset()
        topics = self._owner.wanted_topics()
        subscription = Subscription(
            topics=topics,
            owned=tuple(sorted(owned)),
            generation=member.generation,
            rack=settings.client_rack or None,
        )
        offers: list[Fields] = [
            {"name": name, "metadata": encode_subscription(subscription)}
            for name in settings.partition_assignment_strategy
        ]
        own = self._assignor
        if own is not None:
            telling = replace(subscription, user_data=own.user_data())
            offers.insert(0, {"name": own.name, "metadata": encode_subscription(telling)})
        fields = {
            "group_id": self.group,
            "session_timeout": int(settings.session_timeout_ms),
            "rebalance_timeout": int(settings.max_poll_interval_ms),
            "member_id": member.member_id,
            "group_instance_id": member.instance_id,
            "protocol_type": "consumer",
            "protocols": offers,
        }
        coordinator = await self.coordinator()
        answer = await self._ask_long(coordinator, ApiKey.JOIN_GROUP, fields)
        if int(answer.error_code) == ErrorCode.MEMBER_ID_REQUIRED:
            member.member_id = answer.member_id
        self._raise_for(answer)
        member.accept(answer)
        assignments = await self._assignments(answer) if member.is_leader else {}
        fields = {
            "group_id": self.group,
            "generation_id": member.generation,
            "member_id": member.member_id,
            "group_instance_id": member.instance_id,
            "protocol_type": "consumer",
            "protocol_name": member.protocol,
            "assignments": [
                {"member_id": name, "assignment": encode_assignment(partitions, told)}
                for name, (partitions, told) in assignments.items()
            ],
        }
        asked_at = trio.current_time()
        answer = await self._ask_long(coordinator, ApiKey.SYNC_GROUP, fields)
        self._raise_for(answer)
        self._heard_at = asked_at
        assignment, told = decode_told(bytes(answer.assignment))
        if own is not None:
            own.assigned(told if member.protocol == own.name else b"")
        return frozenset(assignment)

    async def _assignments(self, answer: Any) -> Mapping[str, tuple[list[TopicPartition], bytes]]:
        """As the leader: everybody's partitions, and what they are told. A member that cannot be read gets
        none."""
        if getattr(answer, "skip_assignment", False):
            return {}
        members = {}
        for one in answer.members:
            try:
                members[str(one.member_id)] = decode_subscription(
                    bytes(one.metadata), getattr(one, "group_instance_id", None)
                )
            except InvalidInput:
                members[str(one.member_id)] = Subscription(topics=())
        topics = {topic for subscription in members.values() for topic in subscription.topics}
        self._cluster.watch(self, topics)
        if topics - self._cluster.metadata.topics.keys():
            await self._cluster.describe_topics(sorted(topics))
        known = self._cluster.metadata.topics
        self._counts = {name: len(known[name].partitions) if name in known else 0 for name in topics}
        if self._assignor is not None and answer.protocol_name == self._assignor.name:
            return self._assignor.assign(members, self._counts)
        shares = ASSIGNORS[answer.protocol_name](members, self._counts)
        return {member: (partitions, b"") for member, partitions in shares.items()}

    # -- staying

    async def _keep_alive(self) -> None:
        while True:
            await trio.sleep(self._settings.heartbeat_interval_ms / 1000)
            if not self.member.joined or not self._stable.is_set():
                continue
            if self._owner.poll_overdue(trio.current_time()):
                await self.leave()
                self.request_rejoin()
                continue
            fields = {
                "group_id": self.group,
                "generation_id": self.member.generation,
                "member_id": self.member.member_id,
                "group_instance_id": self.member.instance_id,
            }
            asked_at = trio.current_time()
            try:
                await self._ask(ApiKey.HEARTBEAT, fields)
            except ClientError as error:
                await self._beat_failed(error)
                if not (isinstance(error, BrokerError) and error.code is ErrorCode.REBALANCE_IN_PROGRESS):
                    continue  # else it is still a member
            self._heard_at = asked_at

    async def _beat_failed(self, error: ClientError) -> None:
        if not self._stable.is_set():
            return  # a join has begun meanwhile, and meets the same error itself
        match self.member.react(error):
            case Reaction.GIVE_UP:
                raise error
            case Reaction.FIND:
                self.coordinator_failed()
            case Reaction.REJOIN | Reaction.START_OVER:
                self.request_rejoin()
            case Reaction.RETRY:
                pass

    async def _ask(self, api: ApiKey, fields: Fields, *, lane: str | None = None) -> Any:
        patience = max(self._settings.heartbeat_interval_ms, self._settings.session_timeout_ms / 3) / 1000
        coordinator = await self.coordinator()
        answer = await self._cluster.ask(
            coordinator, api, fields, lane=lane or self._lane, patience_s=patience
        )
        self._raise_for(answer)
        return answer

    async def _ask_long(self, coordinator: int, api: ApiKey, fields: Fields) -> Any:
        """Ask what may take as long as a rebalance. Gives up when there is another coordinator meanwhile."""
        more = self._settings.max_poll_interval_ms + JOIN_MORE_MS

        async def leave_with_the_coordinator() -> None:
            while True:
                await trio.sleep(COORDINATOR_PATIENCE_S)
                try:
                    now = await self._cluster.coordinator(self.group)
                except ClientError:
                    continue
                if now != coordinator:
                    self._cluster.connections.drop(coordinator, self._lane)

        async with background() as nursery:
            nursery.start_soon(leave_with_the_coordinator)
            return await self._cluster.ask(coordinator, api, fields, lane=self._lane, more_ms=more)

    def _raise_for(self, answer: Any) -> None:
        code = int(answer.error_code)
        if code != ErrorCode.NONE:
            cure = _CURES.get(ErrorCode.of(code))
            raise broker_error(code, f"group {self.group!r}{f': {cure}' if cure else ''}")
