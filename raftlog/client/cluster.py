"""The way to the brokers: metadata that is kept fresh, calls that are retried.

The metadata keeper is a task of the client's nursery: a caller that is cancelled leaves it as it is.
"""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, Final, TypeVar

import trio

from raftlog.client.backoff import Backoff
from raftlog.client.connection import OpenSocket
from raftlog.client.connections import CLIENT_LANE, Connections
from raftlog.client.errors import (
    BrokerError,
    ClientError,
    Disconnected,
    RequestTimedOut,
    broker_error,
    is_retriable,
    timed_out,
)
from raftlog.client.metadata import MetadataCache, TopicPartition
from raftlog.client.missing import no_partition, no_topic
from raftlog.client.settings import ClientSettings
from raftlog.client.trouble import Trouble
from raftlog.net.dialing import open_socket
from raftlog.protocol.api import ApiKey
from raftlog.protocol.encode import Fields
from raftlog.protocol.errors import ErrorCode

METADATA_PATIENCE_S: Final = 2.0
"""How long one broker may take for metadata before another is asked: it may be paused, or cut off."""
LEADER_PATIENCE_S: Final = 2.0
"""How long a leader may take before the brokers are asked whether there is another by now."""

GROUP: Final = 0
TRANSACTION: Final = 1
"""What a coordinator is looked up for."""

T = TypeVar("T")
Answer = tuple[int, Any]


class Cluster:
    """What is known about a cluster, and how it is asked."""

    def __init__(
        self,
        settings: ClientSettings,
        nursery: trio.Nursery,
        *,
        rng: random.Random | None = None,
        open_socket: OpenSocket = open_socket,
    ) -> None:
        self.settings = settings
        self.metadata = MetadataCache()
        self.trouble = Trouble()
        self.rng = rng or random.Random()
        self.on_update: set[Callable[[], None]] = set()
        self._interests: dict[object, set[str] | None] = {}
        self._written: dict[object, set[str]] = {}
        """Topics that producers write to: these alone are created when they do not exist."""
        self._update_wanted = trio.Event()
        self._updated = trio.Event()
        self._update_failure: ClientError | None = None
        self._is_updating = False
        self._last_answer = (0, float("-inf"))
        """Which broker answered what any broker knows, and when."""
        self._doubted: set[str] = set()
        """Topics whose leaders are looked up before they are asked again."""
        self._bootstrap = settings.servers
        self.connections = Connections(
            settings,
            nursery,
            rng=self.rng,
            open_socket=open_socket,
            address_of=self._address,
            trouble=self.trouble,
            on_trouble=self.request_update,
        )

    def _address(self, broker_id: int) -> tuple[str, int] | None:
        if broker_id < 0:
            return self._bootstrap[-1 - broker_id]
        broker = self.metadata.brokers.get(broker_id)
        return (broker.host, broker.port) if broker is not None else None

    def _candidates(self) -> list[int]:
        """Whom to ask what any broker knows: connected ones, then known ones, then the bootstrap list."""
        known = list(self.metadata.brokers)
        bootstrap = [-1 - i for i in range(len(self._bootstrap))]
        self.rng.shuffle(known)
        self.rng.shuffle(bootstrap)
        connections = self.connections
        # Asked again so soon, the answer did not help: the broker may be cut off from the others.
        broker, at = self._last_answer
        last = broker if trio.current_time() < at + 2 * self.settings.retry_backoff_max_ms / 1000 else None
        known.sort(key=lambda b: (b == last, not connections.is_ready(b), connections.in_flight(b)))
        return known + bootstrap

    def request_deadline(self, more_ms: float = 0) -> float:
        """When a request that is sent now must be answered."""
        return trio.current_time() + (self.settings.request_timeout_ms + more_ms) / 1000

    # -- metadata

    def watch(self, owner: object, topics: Iterable[str] | None, *, create: bool = False) -> None:
        """Keep the metadata of these topics, or of all (None), fresh for `owner`. With `create` the broker is
        asked to create those that do not exist, if `allow_auto_create_topics` says so."""
        wanted = None if topics is None else set(topics)
        if create and wanted is not None:
            self._written[owner] = wanted
        before = self._interests.get(owner, set())
        self._interests[owner] = wanted
        if wanted is None or (before is not None and wanted - before - self.metadata.topics.keys()):
            self.request_update()

    def unwatch(self, owner: object) -> None:
        """Forget what `owner` was interested in."""
        self._interests.pop(owner, None)
        self._written.pop(owner, None)

    def request_update(self) -> None:
        """Something looks out of date: ask for metadata soon."""
        self._update_wanted.set()

    def next_update(self) -> trio.Event:
        """An event that is set when the next metadata have arrived, or failed to."""
        return self._updated

    async def updated(self) -> None:
        """Ask for metadata and wait for them. Raises what the attempt failed with.

        One that was under way already may still succeed; when it fails, what it had waited for was not waited
        for by this caller, and another follows.
        """
        self.request_update()
        if self._is_updating:
            await self._updated.wait()
            if self._update_failure is None:
                return
        await self._updated.wait()
        if self._update_failure is not None:
            raise self._update_failure

    async def keep_metadata(self) -> None:
        """The task that asks for metadata when they are old or look wrong."""
        settings = self.settings
        backoff = Backoff(settings.retry_backoff_ms, settings.retry_backoff_max_ms, self.rng)
        while True:
            with trio.move_on_after(settings.metadata_max_age_ms / 1000):
                await self._update_wanted.wait()
            self._update_wanted = trio.Event()
            before = trio.current_time()
            self._is_updating = True
            try:
                await self._fetch_metadata()
                self._update_failure = None
            except ClientError as error:
                self._update_failure = error
                self._update_wanted.set()
            self._is_updating = False
            event, self._updated = self._updated, trio.Event()
            event.set()
            for told in tuple(self.on_update):
                told()
            if self._unsettled():
                self._update_wanted.set()
            if self._update_failure is None and not self._unsettled():
                backoff.reset()
            await trio.sleep_until(before + backoff.next())

    def _unsettled(self) -> bool:
        """Whether a topic that is wanted is missing or has partitions without a leader."""
        wanted = set().union(*(topics for topics in self._interests.values() if topics))
        views = [self.metadata.topics.get(name) for name in wanted]
        return any(view is None or len(view.available) < len(view.partitions) for view in views)

    async def _fetch_metadata(self) -> None:
        everything = any(topics is None for topics in self._interests.values())
        names: set[str] = set().union(*(topics for topics in self._interests.values() if topics))
        if not everything or names - self.metadata.topics.keys():
            allowed = self.settings.allow_auto_create_topics
            written: set[str] = set().union(*self._written.values()) if allowed else set()
            if written:
                await self.describe_topics(sorted(written), create=True)
            if names - written or not written:
                await self.describe_topics(sorted(names - written))
        if everything:
            # Asking for all topics does not create one that is missing, so that comes second.
            await self.describe_topics(None)

    # -- calls

    async def ask_any(self, api: ApiKey, fields: Fields) -> Any:
        """Ask the brokers in turn until one answers. Raises the last failure when none does."""
        failure: ClientError = Disconnected("there is no broker to ask")
        for broker_id in self._candidates():
            with trio.move_on_after(METADATA_PATIENCE_S):
                try:
                    connection = await self.connections.get(broker_id)
                    answer = await connection.request(api, fields, deadline=self.request_deadline())
                    self._last_answer = (broker_id, trio.current_time())
                    self.trouble.reached(self.connections.place_of(broker_id))
                    return answer
                except (Disconnected, RequestTimedOut) as error:
                    failure = error
                    continue
            failure = self._silent(broker_id, METADATA_PATIENCE_S)
        raise failure

    async def ask(
        self,
        broker_id: int,
        api: ApiKey,
        fields: Fields,
        *,
        lane: str = CLIENT_LANE,
        more_ms: float = 0,
        most: int | None = None,
        patience_s: float = float("inf"),
    ) -> Any:
        """Ask one broker once. `more_ms` is what the broker may take by itself beyond the time-out, `most`
        the highest version to speak. After `patience_s` it raises RequestTimedOut, and leaves the connection
        as it is: for what may be asked again, perhaps elsewhere."""
        with trio.move_on_after(patience_s):
            connection = await self.connections.get(broker_id, lane)
            return await connection.request(api, fields, deadline=self.request_deadline(more_ms), most=most)
        raise self._silent(broker_id, patience_s)

    def _silent(self, broker_id: int, seconds: float) -> RequestTimedOut:
        """A broker took a request, or did not even take a connection, and said nothing for so long."""
        place = self.connections.place_of(broker_id)
        known = self.trouble.with_broker(place)
        failure = timed_out(f"{place} did not answer within {seconds:g} s", known)
        self.trouble.unreached(place, known or failure, trio.current_time())
        return failure

    def not_created(self, name: str, detail: str = "") -> BrokerError:
        """What to say to who writes to a topic that the brokers do not describe."""
        why = (
            "the broker does not create it by itself (auto.create.topics.enable)"
            if self.settings.allow_auto_create_topics
            else "allow_auto_create_topics of this client is False"
        )
        return no_topic(name, self.metadata, why=why, detail=detail)

    def why_not(self, topic: str, partition: int) -> ClientError | None:
        """What stands in the way of a partition now, as far as that is known."""
        leader = self.metadata.leader(topic, partition)
        if leader is not None:
            return self.trouble.with_broker(self.connections.place_of(leader)) or self.trouble.with_brokers()
        if (nobody := self.trouble.with_brokers()) is not None:
            return nobody
        if topic in self.metadata.errors:
            return no_topic(topic, self.metadata)
        if topic in self.metadata.topics:
            return self._no_leader(topic, partition)
        return None

    async def retrying(
        self, attempt: Callable[[], Awaitable[T]], *, what: str, timeout_ms: float | None = None
    ) -> T:
        """Try until it works, the error is final or the time is over. Raises RequestTimedOut from the last
        error then."""
        settings = self.settings
        timeout = (settings.default_api_timeout_ms if timeout_ms is None else timeout_ms) / 1000
        backoff = Backoff(settings.retry_backoff_ms, settings.retry_backoff_max_ms, self.rng)
        last: ClientError | None = None
        with trio.move_on_after(timeout):
            while True:
                try:
                    return await attempt()
                except ClientError as error:
                    if not is_retriable(error):
                        raise
                    last = error
                    self.request_update()
                await trio.sleep(backoff.next())
        raise timed_out(f"{what}: no success within {timeout:g} s", last or self.trouble.with_brokers())

    async def any_broker(self) -> int:
        """The id of a broker, once one is known."""
        while not self.metadata.brokers:
            await self.updated()
        return next(b for b in self._candidates() if b >= 0)

    async def reach_any(self) -> None:
        """One attempt to be answered, and to connect to a broker where it says that it is."""
        await self.describe_topics([])
        failure: ClientError = Disconnected("the cluster names no brokers")
        for broker_id in [one for one in self._candidates() if one >= 0]:
            try:
                await self.connections.get(broker_id)
                return
            except Disconnected as error:
                failure = error
        raise failure

    async def controller(self) -> int:
        """The broker that takes admin requests."""
        if self.metadata.controller_id is None:
            await self.updated()
        if self.metadata.controller_id is None:
            raise broker_error(ErrorCode.NOT_CONTROLLER, "no controller is known")
        return self.metadata.controller_id

    async def coordinator(self, name: str, kind: int = GROUP) -> int:
        """The broker that coordinates a group, or the transactions of a transactional id. Raises a retriable
        error while there is none."""
        fields = {"key": name, "key_type": kind, "coordinator_keys": [name]}
        answer = await self.ask_any(ApiKey.FIND_COORDINATOR, fields)
        found = answer.coordinators[0] if hasattr(answer, "coordinators") else answer
        if int(found.error_code) != 0:
            raise broker_error(int(found.error_code), getattr(found, "error_message", None))
        broker_id = int(found.node_id)
        if broker_id not in self.metadata.brokers:
            await self.updated()
        return broker_id

    async def ask_leaders(
        self,
        partitions: Iterable[TopicPartition],
        ask: Callable[[int, list[TopicPartition]], Awaitable[None]],
    ) -> None:
        """One attempt to ask the leader of each of these partitions about all that it leads.

        Raises a retriable error while one has no leader. After any error that may pass the leaders are looked
        up anew: nobody else may be interested in these topics, and keep their metadata fresh.
        """
        keys = list(partitions)
        topics = {key.topic for key in keys}
        lost = {key.topic for key in keys if self.metadata.leader(*key) is None}
        unsure = sorted((topics & self._doubted) | lost)
        if unsure:
            await self.describe_topics(unsure)
            self._doubted.difference_update(unsure)
        by_leader: dict[int, list[TopicPartition]] = {}
        for key in keys:
            by_leader.setdefault(self._leader(*key), []).append(key)
        try:
            for leader, led in by_leader.items():
                await ask(leader, led)
        except BaseException:  # also a cancellation: whoever is asked may never answer
            self._doubted |= topics
            raise

    def _leader(self, topic: str, partition: int) -> int:
        leader = self.metadata.leader(topic, partition)
        if leader is None:
            raise self._no_leader(topic, partition)
        return leader

    def _no_leader(self, topic: str, partition: int) -> BrokerError:
        view = self.metadata.topics.get(topic)
        if view is None and topic in self.metadata.errors:
            return no_topic(topic, self.metadata)
        if view is not None and self.metadata.partition(topic, partition) is None:
            return no_partition(topic, len(view.partitions), partition)
        return broker_error(ErrorCode.LEADER_NOT_AVAILABLE, f"{topic}-{partition} has no leader now")

    async def describe_topics(self, topics: list[str] | None, *, create: bool = False) -> Any:
        """An answer of Metadata, taken in on the way; None asks for all topics."""
        fields = {
            "topics": None if topics is None else [{"name": name, "topic_id": bytes(16)} for name in topics],
            "allow_auto_topic_creation": create,
            "include_cluster_authorized_operations": False,
            "include_topic_authorized_operations": False,
        }
        answer = await self.ask_any(ApiKey.METADATA, fields)
        self.metadata.update(answer, trio.current_time(), every_topic=topics is None)
        self._leave_bootstrap()
        return answer

    def _leave_bootstrap(self) -> None:
        """Close the connections to bootstrap addresses once the brokers behind them are known."""
        for broker_id in range(-len(self._bootstrap), 0):
            if self.metadata.brokers:
                self.connections.close_idle(broker_id)

    def close(self) -> None:
        """Close every connection."""
        self.connections.close()

    def __repr__(self) -> str:
        return f"<Cluster brokers={sorted(self.metadata.brokers)} connections={len(self.connections.open())}>"
