"""What a start relies on, and what it waits for: who founded the cluster, and what is missing until this
broker can serve. Synchronous: it changes nothing but the data folder's note of the founders.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from raftlog.config import BrokerConfig
from raftlog.errors import ConfigError
from raftlog.storage.store import Store
from raftlog.types import METADATA_GROUP, BrokerId, group_key

if TYPE_CHECKING:
    from raftlog.cluster.node import Node

MISSING_MAX = 5
"""Partitions without a leader that are named; there may be thousands."""


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
    if metadata is None or (metadata.last_index == 0 and metadata.damage is None) or not store.founders:
        store.set_founders(named)
        return named
    founders = store.founders
    is_alone = founders == {me} and not metadata.memberships
    if not (config.join or config.peers or is_alone):
        raise ConfigError(
            f"raftlog.peers is not set, but {store.root} belongs to a cluster, founded by"
            f" {_brokers(founders)}: name them, ID@HOST:PORT of each, comma-separated"
        )
    if named != founders and not metadata.memberships and metadata.damage is None:
        key = "raftlog.join" if config.join else "raftlog.peers"
        raise ConfigError(
            f"{key} names {_brokers(named)}, but the cluster of {store.root} was founded by"
            f" {_brokers(founders)}: name those, wherever they are now; brokers come and go with"
            " `raftlog cluster add` and `raftlog cluster remove`"
        )
    return founders


def what_is_missing(node: Node) -> str:
    """Why this broker does not serve yet."""
    group = node.metadata.group
    if group.leader is None:
        voters = sorted(group.membership.voters)
        apart = [one for one in voters if one != node.broker_id and not node.peers.links.is_connected(one)]
        reason = f"the metadata has no leader: that takes {_majority(voters)}"
        if apart:
            reason += f", and {_brokers(apart)} {'is' if len(apart) == 1 else 'are'} not connected"
        if not group.is_trusted:
            reason += "; this broker's folder was empty: it votes when all are new, or a leader has filled it"
        return reason
    unled = [
        f"{topic.name}-{number}"
        for topic in node.catalog.topics.values()
        for number in range(len(topic.partitions))
        if node.peers.hints.leader(group_key(topic.topic_id, number))[0] is None
    ]
    if unled and node.replicas.registered_index is not None:
        more = f" and {len(unled) - MISSING_MAX} more" if len(unled) > MISSING_MAX else ""
        return f"nobody leads {', '.join(unled[:MISSING_MAX])}{more}"
    return f"broker {group.leader}, which leads the metadata, has not taken it in"


def _majority(voters: list[BrokerId]) -> str:
    if len(voters) == 1:
        return _brokers(voters)
    return f"{len(voters) // 2 + 1} of {_brokers(voters)}"


def _brokers(ids: Iterable[BrokerId]) -> str:
    listed = sorted(ids)
    return f"{'broker' if len(listed) == 1 else 'brokers'} {', '.join(map(str, listed))}"
