"""The metadata state machine: applies commands to the catalog.

Decides: whether a command takes effect. Must not know: disks, sockets, clocks, the table of settings
(it differs between builds, and replicas of different builds must agree).

Invariants: `apply` is a function of the catalog, the command and its index alone; it never raises on a
command that could be decoded; a refusal changes nothing but `applied_index`. Two states that applied
the same commands have the same `digest()`.
"""

from __future__ import annotations

from dataclasses import fields
from hashlib import blake2b

from raftlog.metadata.catalog import Catalog
from raftlog.metadata.image import Imaging, canonical, decode_catalog, encode_catalog
from raftlog.metadata.noun import Command, Refused, Result
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
        self.imaging = Imaging(self.catalog)
        """Makes the next snapshot."""

    def __repr__(self) -> str:
        catalog = self.catalog
        return (
            f"<MetadataState applied={catalog.applied_index} brokers={len(catalog.brokers)}"
            f" topics={len(catalog.topics)} groups={len(catalog.group_offsets)}>"
        )

    def apply(self, command: Command, index: RaftIndex) -> Result:
        """Apply the committed `command` at `index`. Several commands may share an index, when one entry
        holds them; it never goes back."""
        assert index >= self.catalog.applied_index, (index, self.catalog.applied_index)
        result = command.apply(self.catalog, index)
        self.catalog.applied_index = index
        if command.changes_topology and not isinstance(result, Refused):
            self.catalog.topology_index = index
        return result

    def digest(self) -> bytes:
        """32 bytes that are equal for equal states."""
        return blake2b(canonical(self.catalog), digest_size=32).digest()

    def to_bytes(self) -> bytes:
        """The whole state at once, for `restore`; `imaging` makes the same in steps."""
        return encode_catalog(self.catalog)

    def restore(self, data: bytes | bytearray | memoryview) -> None:
        """Become what `data` says. The Catalog stays the same object, so that whoever holds it goes on
        reading it. Raises InvalidInput, and changes nothing, when `data` is not a state."""
        restored = decode_catalog(data)
        self.imaging.give_up()
        for field in fields(Catalog):
            setattr(self.catalog, field.name, getattr(restored, field.name))
