"""Who founded the cluster that a start relies on. Synchronous: it changes nothing but the data folder's note
of the founders.
"""

from __future__ import annotations

from collections.abc import Iterable

from raftlog.config import BrokerConfig
from raftlog.errors import ConfigError
from raftlog.storage.store import Store
from raftlog.types import METADATA_GROUP, BrokerId


def named_founders(config: BrokerConfig) -> frozenset[BrokerId]:
    """The founders by the configuration: a broker that joins is not one of them."""
    me = BrokerId(config.int("node.id"))
    named = frozenset(map(BrokerId, config.join or config.peers or (me,)))
    return named - {me} if config.join else named


def founders_of(config: BrokerConfig, store: Store) -> frozenset[BrokerId]:
    """The first voters of the metadata group. The configuration names them once: what has been decided was
    decided by them, and a majority of others must not decide it again. Blocking (fsync) when they are news.

    Raises ConfigError when the configuration names others now. Later members are in the metadata group's log
    and override both; then only addresses are taken from the configuration.
    """
    me, named = BrokerId(config.int("node.id")), named_founders(config)
    metadata = store.logs.get(METADATA_GROUP)
    if metadata is None or (metadata.last_index == 0 and metadata.damage.lost is None) or not store.founders:
        store.set_founders(named)
        return named
    founders = store.founders
    is_alone = founders == {me} and not metadata.memberships
    if not (config.join or config.peers or is_alone):
        raise ConfigError(
            f"raftlog.peers is not set, but {store.root} belongs to a cluster, founded by"
            f" {named_brokers(founders)}: name them, ID@HOST:PORT of each, comma-separated"
        )
    if named != founders and not metadata.memberships and metadata.damage.lost is None:
        key = "raftlog.join" if config.join else "raftlog.peers"
        raise ConfigError(
            f"{key} names {named_brokers(named)}, but the cluster of {store.root} was founded by"
            f" {named_brokers(founders)}: name those, wherever they are now; brokers come and go with"
            " `raftlog cluster add` and `raftlog cluster remove`"
        )
    return founders


def named_brokers(ids: Iterable[BrokerId]) -> str:
    """For people."""
    listed = sorted(ids)
    return f"{'broker' if len(listed) == 1 else 'brokers'} {', '.join(map(str, listed))}"
