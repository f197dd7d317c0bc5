"""One exception tree, by whose fault it is.

An expected answer is a value, never an exception; what is raised here crossed a boundary: bytes that a
client sent, files that a disk returned, an invariant of ours that broke.
"""


class RaftlogError(Exception):
    """Everything that raftlog raises on purpose."""


class ConfigError(RaftlogError):
    """A setting is unknown or out of its range; the message names the key, the value and the reason."""


class InvalidInput(RaftlogError):
    """The other side sent bytes that are not what they claim to be. Costs the sender its connection."""


class CorruptBatch(InvalidInput):
    """A record batch whose lengths, counts or CRC do not agree (Kafka's CORRUPT_MESSAGE)."""


class InvalidBatch(InvalidInput):
    """A record batch that arrived as it was sent, and that no producer may send: sent again, it will be no
    better (Kafka's INVALID_RECORD)."""


class UnsupportedBatch(InvalidInput):
    """A record batch in a format that is not kept: magic 0 or 1, or an unknown codec."""


class StorageError(RaftlogError):
    """The disk did not do what it was asked to."""


class DamagedLog(StorageError):
    """Bytes that had been made durable are not what was written. Never served, never cut silently."""


class DamagedBatch(DamagedLog):
    """The bytes of one entry are not what was written; those before and behind it may be. `index` is its
    Raft index, `offset` its first record's, `position` where it lies in its segment."""

    def __init__(self, problem: str, index: int, offset: int, position: int) -> None:
        super().__init__(problem)
        self.index, self.offset, self.position = index, offset, position


class DiskFailed(StorageError):
    """A write or an fsync failed. It is final: the broker stops serving (PostgreSQL's fsyncgate, 2018)."""


class DiskFull(DiskFailed):
    """There was no room for a write. Nothing is broken: the broker stops, and starts again once there is."""


class FileRefused(StorageError):
    """The system gave no descriptor, or no right to a file: nothing was written, nothing is lost, and what
    waits for the file can be tried again."""


class DataDirBusy(StorageError):
    """Another process holds the data folder's lock."""


class SafetyError(RaftlogError):
    """An invariant of Raft or of the log does not hold. Our bug: the broker stops rather than go on."""


class NewerFormat(RaftlogError):
    """What the cluster has decided, or a data folder holds, is of a newer raftlog: this one cannot go on."""
