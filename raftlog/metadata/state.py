"""The metadata state machine: applies commands to the catalog.

Decides: whether a command takes effect. Must not know: disks, sockets, clocks, the table of settings
(it differs between builds, and replicas of different builds must agree).

Invariants: `apply` is a function of the catalog, the command and its index alone; it never raises on a
command that could be decoded; a refusal changes nothing but `applied_index`. Two states that applied
the same commands have the same `digest()`.
"""

from __future__ import annotations

from raftlog.metadata.catalog import Catalog
from raftlog.metadata.commands import Command
from raftlog.metadata.results import Result
from raftlog.types import RaftIndex


class MetadataState:
    """The catalog and how it changes.

    >>> state = MetadataState()
    >>> match state.apply(command, index):
    ...     case TopicCreated(topic): ...
    ...     case Refused(reason, detail): ...
    """

    def __init__(self) -> None:
        self.catalog = Catalog()

    def apply(self, command: Command, index: RaftIndex) -> Result:
        """Apply the committed `command` at `index`, which must be beyond `catalog.applied_index`."""
        raise NotImplementedError

    def digest(self) -> bytes:
        """32 bytes that are equal for equal states."""
        raise NotImplementedError

    def to_bytes(self) -> bytes:
        """The whole state as CBOR."""
        raise NotImplementedError

    def restore(self, data: bytes) -> None:
        """Become what `data`, a snapshot, says. The Catalog stays the same object, so that whoever
        holds it goes on reading it. Raises InvalidInput and changes nothing when `data` is not a snapshot."""
        raise NotImplementedError
