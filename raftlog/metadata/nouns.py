"""The nouns that the catalog is made of, each a file of commands and of how its part is encoded."""

from __future__ import annotations

from typing import Final

from raftlog.metadata.acls import ACLS
from raftlog.metadata.brokers import BROKERS
from raftlog.metadata.cluster import CLUSTER
from raftlog.metadata.features import FEATURES
from raftlog.metadata.groups import GROUPS
from raftlog.metadata.moves import MOVES
from raftlog.metadata.noun import Noun
from raftlog.metadata.offsets import OFFSETS
from raftlog.metadata.producers import PRODUCERS
from raftlog.metadata.quotas import QUOTAS
from raftlog.metadata.topics import TOPICS
from raftlog.metadata.transactions import TRANSACTIONS
from raftlog.metadata.users import USERS

NOUNS: Final[tuple[Noun, ...]] = (
    CLUSTER,
    TOPICS,
    MOVES,
    BROKERS,
    FEATURES,
    PRODUCERS,
    OFFSETS,
    GROUPS,
    TRANSACTIONS,
    ACLS,
    QUOTAS,
    USERS,
)
"""All of them. An image holds their parts in this order: it changes only by additions at the end."""
