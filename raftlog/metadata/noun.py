"""What a noun of the metadata is made of: commands, what they come to, and its part of an image.

A noun is a file: topics, brokers, offsets… It holds the commands that change its part of the catalog, what
they come to, and at its end a `Noun` that says which commands those are and how the part is encoded.
`nouns.NOUNS` lists the nouns; the values that readers see are the catalog's.

A command carries everything that its application needs, ids and times included, so that every broker comes
to the same catalog. A field that is added needs a default; a changed meaning needs another kind and a level.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum, auto
from operator import attrgetter
from typing import Any, ClassVar, Protocol

from raftlog.metadata.catalog import Catalog
from raftlog.types import RaftIndex


class Refusal(Enum):
    """Why a command changed nothing."""

    TOPIC_EXISTS = auto()
    UNKNOWN_TOPIC = auto()
    INVALID_TOPIC = auto()
    """A name that is not allowed, or that collides with another's."""
    INVALID_PARTITIONS = auto()
    """No partitions, or not as many as the command expects."""
    INVALID_REPLICAS = auto()
    """No replicas, one twice, or on a broker that is not registered."""
    UNKNOWN_PARTITION = auto()
    NO_MOVE = auto()
    """There is no move under way, or it has another target."""
    UNKNOWN_BROKER = auto()
    STALE_INCARNATION = auto()
    BROKER_HAS_REPLICAS = auto()
    CLUSTER_NAMED = auto()
    """The cluster has another id already."""
    UNKNOWN_GROUP = auto()
    INVALID_VALUE = auto()
    TOO_LARGE = auto()
    """More bytes than a command may have, or the catalog has no room for more."""
    MALFORMED = auto()
    """An entry that is no command, or one that is not used any more."""


class Result:
    """What applying a command came to. A refusal is an answer like any other: it is applied too."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class Refused(Result):
    reason: Refusal
    detail: str


class Command(ABC):
    """What may be proposed to the metadata group: a keyword-only frozen dataclass."""

    __slots__ = ()

    kind: ClassVar[str]
    """Its name on the wire and on disk; never given twice."""
    needs_level: ClassVar[int] = 1
    """The metadata level that it takes (`features`): it is not proposed before every broker knows it."""
    grows: ClassVar[str] = ""
    """What it adds to the catalog. A catalog that is full takes no more of it."""
    changes_topology: ClassVar[bool] = True
    """Whether it changes brokers, topics or settings: what an encoded Metadata answer is cached by."""

    @property
    def takes_level(self) -> int:
        """The metadata level that this very command takes, which may say something that older builds know and
        would act upon wrongly."""
        return self.needs_level

    def no_room(self, catalog: Catalog, size: int) -> str | None:
        """Why the catalog has no room for what the command, of `size` bytes, adds to it; None when it has.
        Asked before the command is proposed."""
        return None

    @abstractmethod
    def apply(self, catalog: Catalog, index: RaftIndex) -> Result:
        """Change the catalog as the entry at `index`. A function of the two and of the command alone. It
        never raises; a refusal changes nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Field:
    """A small part of the catalog as a field of an image."""

    name: str
    form: Any
    """The annotation that `codec` reads it by."""
    get: Callable[[Catalog], object]
    put: Callable[[Catalog, Any], None]
    """Into an empty catalog."""
    is_optional: bool = False
    """Left out when empty, for builds that do not know it."""


def attribute(name: str, form: Any) -> Field:
    """What is a field of the catalog just so."""
    return Field(
        name=name,
        form=form,
        get=attrgetter(name),
        put=lambda catalog, value: setattr(catalog, name, value),
    )


class Encoding(Protocol):
    """A table on its way into an image, as it was when that was begun."""

    def encode_some(self, cost_max: int) -> int:
        """Encode about as much as `cost_max` rows; what is left of that once all is encoded, else nothing."""

    def take_image(self) -> list[bytes]:
        """The encoded table, once all of it is: the pieces of a CBOR array."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """A large part of the catalog, which is encoded in steps while commands go on being applied."""

    begin: Callable[[Catalog], Encoding]
    canonical: Callable[[Catalog], bytes]
    """Equal tables are equal bytes. All of it at once."""
    put: Callable[[Catalog, object], None]
    """Into an empty catalog what was encoded, read as CBOR. Raises InvalidInput on something else."""
    since_version: int = 2
    """The first version of images that has it."""
    is_empty: Callable[[Catalog], bool] = lambda catalog: False
    """Whether an image may have an older version than that."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Noun:
    """What the catalog is told of a noun."""

    commands: tuple[type[Command], ...]
    fields: tuple[Field, ...] = ()
    table: Table | None = None
