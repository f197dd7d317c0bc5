"""Brokers: who is registered, where, and what may be placed there."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar, Final

from raftlog.metadata.catalog import BrokerInfo, Catalog
from raftlog.metadata.noun import Command, Field, Noun, Refusal, Refused, Result
from raftlog.types import BrokerId, RaftIndex

REMOVED_BROKERS_MAX: Final = 1024
"""Removed brokers that are remembered: more than a metadata group has ever had as voters."""

HOST_MAX: Final = 255
"""Characters of a host's name (RFC 1035), and of a rack's."""


@dataclass(frozen=True, slots=True)
class BrokerChanged(Result):
    """Registered, fenced, unfenced or draining."""

    broker: BrokerInfo


@dataclass(frozen=True, slots=True)
class BrokerUnregistered(Result):
    broker: BrokerInfo


@dataclass(frozen=True, slots=True, kw_only=True)
class RegisterBroker(Command):
    """A broker says where it is. A new incarnation replaces the one before it at once; it starts
    unfenced, and stays draining if it was."""

    kind: ClassVar[str] = "register_broker"
    broker_id: BrokerId
    incarnation: bytes
    host: str
    port: int
    peer_host: str
    peer_port: int
    rack: str | None = None
    listeners: tuple[tuple[str, str, int], ...] = ()
    """(name, host, port) of the Kafka listeners if there are several; `host` and `port` are the first's."""
    metadata_level: int = 1
    """What this build knows (`features`)."""

    def apply(self, catalog: Catalog, index: RaftIndex) -> Result:
        if not self._can_be_told:
            return Refused(
                Refusal.INVALID_VALUE, f"broker {self.broker_id}, its incarnation or address is malformed"
            )
        if self.metadata_level < catalog.metadata_level:
            return Refused(
                Refusal.INVALID_VALUE,
                f"its build knows the metadata up to level {self.metadata_level}, and the cluster is at"
                f" {catalog.metadata_level}: start it with the version that the others have",
            )
        known = catalog.brokers.get(self.broker_id)
        broker = BrokerInfo(
            id=self.broker_id,
            host=self.host,
            port=self.port,
            peer_host=self.peer_host,
            peer_port=self.peer_port,
            rack=self.rack,
            listeners=self.listeners,
            metadata_level=self.metadata_level,
            incarnation=self.incarnation,
            registered_index=index,
            draining=known is not None and known.draining,
        )
        if known is not None and known.incarnation == self.incarnation:
            # The same process again, by a proposal that was repeated or because its address changed.
            broker = replace(broker, registered_index=known.registered_index)
        return _put_broker(catalog, broker)

    @property
    def _can_be_told(self) -> bool:
        """Whether a broker's line fits the answers to clients."""
        names = (self.host, self.peer_host, self.rack or "")
        return (
            0 <= self.broker_id < 2**31
            and len(self.incarnation) == 16
            and all(len(name) <= HOST_MAX for name in names)
            and all(0 <= port < 2**16 for port in (self.port, self.peer_port))
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class FenceBroker(Command):
    """Marks a broker as not heard of, or as heard of again. Refused for an older incarnation."""

    kind: ClassVar[str] = "fence_broker"
    broker_id: BrokerId
    incarnation: bytes
    fenced: bool

    def apply(self, catalog: Catalog, index: RaftIndex) -> Result:
        known = catalog.brokers.get(self.broker_id)
        if known is None:
            return _unknown(self.broker_id)
        if known.incarnation != self.incarnation:
            return Refused(Refusal.STALE_INCARNATION, f"broker {known.id} has started again since")
        return _put_broker(catalog, replace(known, fenced=self.fenced))


@dataclass(frozen=True, slots=True, kw_only=True)
class DrainBroker(Command):
    """Starts or stops emptying a broker."""

    kind: ClassVar[str] = "drain_broker"
    broker_id: BrokerId
    draining: bool

    def apply(self, catalog: Catalog, index: RaftIndex) -> Result:
        known = catalog.brokers.get(self.broker_id)
        if known is None:
            return _unknown(self.broker_id)
        return _put_broker(catalog, replace(known, draining=self.draining))


@dataclass(frozen=True, slots=True, kw_only=True)
class UnregisterBroker(Command):
    """Forgets a broker; refused while it keeps a replica."""

    kind: ClassVar[str] = "unregister_broker"
    broker_id: BrokerId

    def apply(self, catalog: Catalog, index: RaftIndex) -> Result:
        known = catalog.brokers.get(self.broker_id)
        if known is None:
            return _unknown(self.broker_id)
        hosted = len(catalog.hosted_by(self.broker_id))
        if hosted:
            return Refused(
                Refusal.BROKER_HAS_REPLICAS, f"broker {known.id} keeps {hosted} replicas: drain it first"
            )
        del catalog.brokers[self.broker_id]
        removed = catalog.removed_brokers
        removed[self.broker_id] = None
        if len(removed) > REMOVED_BROKERS_MAX:
            del removed[next(iter(removed))]
        return BrokerUnregistered(known)


def _put_broker(catalog: Catalog, broker: BrokerInfo) -> Result:
    catalog.brokers[broker.id] = broker
    catalog.removed_brokers.pop(broker.id, None)
    return BrokerChanged(broker)


def _unknown(broker: BrokerId) -> Refused:
    return Refused(Refusal.UNKNOWN_BROKER, f"broker {broker} is not registered")


BROKERS: Final = Noun(
    commands=(RegisterBroker, FenceBroker, DrainBroker, UnregisterBroker),
    fields=(
        Field(
            name="brokers",
            form=tuple[BrokerInfo, ...],
            get=lambda catalog: tuple(broker for _, broker in sorted(catalog.brokers.items())),
            put=lambda catalog, brokers: catalog.brokers.update((broker.id, broker) for broker in brokers),
        ),
        Field(
            name="removed_brokers",
            form=tuple[BrokerId, ...],
            get=lambda catalog: tuple(catalog.removed_brokers),
            put=lambda catalog, removed: catalog.removed_brokers.update(dict.fromkeys(removed)),
            is_optional=True,
        ),
    ),
)
