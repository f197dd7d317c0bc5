"""The cluster's name."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Final

from raftlog.metadata.catalog import Catalog
from raftlog.metadata.noun import Command, Noun, Refusal, Refused, Result, attribute
from raftlog.types import RaftIndex


@dataclass(frozen=True, slots=True)
class ClusterInitialized(Result):
    cluster_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class InitializeCluster(Command):
    """Names the cluster, once: the first one applied wins."""

    kind: ClassVar[str] = "initialize_cluster"
    cluster_id: str

    def apply(self, catalog: Catalog, index: RaftIndex) -> Result:
        if catalog.cluster_id is not None and catalog.cluster_id != self.cluster_id:
            return Refused(Refusal.CLUSTER_NAMED, f"the cluster's id is {catalog.cluster_id}")
        if not self.cluster_id:
            return Refused(Refusal.INVALID_VALUE, "a cluster id cannot be empty")
        catalog.cluster_id = self.cluster_id
        return ClusterInitialized(self.cluster_id)


CLUSTER: Final = Noun(commands=(InitializeCluster,), fields=(attribute("cluster_id", str | None),))
