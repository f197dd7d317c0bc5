"""Transactions on this broker: the coordinator, its markers, and what partitions ask of it."""

from raftlog.cluster.transactions.coordinator import TransactionCoordinator
from raftlog.cluster.transactions.markers import Markers
from raftlog.cluster.transactions.timeouts import TransactionTimeouts
from raftlog.cluster.transactions.verification import Verification

__all__ = ["Markers", "TransactionCoordinator", "TransactionTimeouts", "Verification"]
