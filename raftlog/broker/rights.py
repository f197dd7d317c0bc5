"""The rule of each API: which right asking takes, on what, and who looks.

A right is an operation on a kind of resource, in Kafka's words (`raftlog.rights`). Where a request is about
one resource as a whole, the dispatcher asks before the handler runs. Where it names many, the handler asks
for each, and refuses those alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, NamedTuple

from raftlog.protocol.errors import ErrorCode
from raftlog.rights import CLUSTER_NAME, Operation, ResourceKind, words


class Right(NamedTuple):
    """What a principal must have been given. Where an API names many resources, on each of them."""

    operation: Operation
    resource: ResourceKind

    def __str__(self) -> str:
        return f"{words(self.operation)} {words(self.resource)}"


@dataclass(frozen=True, slots=True)
class Whole:
    """A right on the one resource that a request is about, which the dispatcher asks for."""

    right: Right
    name_in: str = ""
    """The attribute of the request with the resource's name; without, it is the cluster."""

    def name_of(self, request: object) -> str:
        return (getattr(request, self.name_in) or "") if self.name_in else CLUSTER_NAME


@dataclass(frozen=True, slots=True)
class Rule:
    """What an API takes: `whole`, asked for in turn by the dispatcher, and `each`, which the handler asks
    for. `note` is for the docs."""

    whole: tuple[Whole, ...] = ()
    each: tuple[Right, ...] = ()
    note: str = ""

    @property
    def first(self) -> Right | None:
        """The first of them; None for what everybody may ask."""
        if self.whole:
            return self.whole[0].right
        return self.each[0] if self.each else None

    @property
    def rights(self) -> tuple[Right, ...]:
        """All of them."""
        return (*(one.right for one in self.whole), *self.each)

    def __str__(self) -> str:
        rights = [str(each.right) for each in self.whole] + [f"{right} (each)" for right in self.each]
        return ", ".join(rights) or "nothing"


_ON: Final = {
    "topic": ResourceKind.TOPIC,
    "group": ResourceKind.GROUP,
    "cluster": ResourceKind.CLUSTER,
    "transaction": ResourceKind.TRANSACTIONAL_ID,
}
NAMES_IN: Final = {"group": "group_id", "transaction": "transactional_id", "cluster": ""}
"""Where requests that are about one resource say which."""


def _right(text: str) -> Right:
    operation, on = text.split()
    return Right(Operation[operation.upper()], _ON[on])


def whole(*rights: str, each: tuple[str, ...] = (), name_in: str = "", note: str = "") -> Rule:
    """`whole("read group", each=("read topic",))`: the request as a whole takes to read the group that it
    names, and each topic in it to be read, too."""
    wholes = tuple(Whole(_right(text), name_in or NAMES_IN[text.split()[1]]) for text in rights)
    return Rule(wholes, tuple(map(_right, each)), note)


def each(*rights: str, note: str = "") -> Rule:
    """`each("write topic")`: each topic that a request names takes to be written."""
    return Rule((), tuple(map(_right, rights)), note)


REFUSED: Final = {
    ResourceKind.TOPIC: ErrorCode.TOPIC_AUTHORIZATION_FAILED,
    ResourceKind.GROUP: ErrorCode.GROUP_AUTHORIZATION_FAILED,
    ResourceKind.CLUSTER: ErrorCode.CLUSTER_AUTHORIZATION_FAILED,
    ResourceKind.TRANSACTIONAL_ID: ErrorCode.TRANSACTIONAL_ID_AUTHORIZATION_FAILED,
}
"""What a request is told that lacks a right, by what it was about."""


def refusal_text(principal: str, right: Right, name: str) -> str:
    """For people, with what an administrator would type. It says nothing of whether the resource exists."""
    operation, kind = words(right.operation), words(right.resource)
    option = {"Topic": "--topic", "Group": "--group", "TransactionalId": "--transactional-id"}.get(kind)
    on = "--cluster" if option is None else f"{option} '{name[:200]}'"
    return (
        f"{principal[:200]} may not {operation} {kind} '{name[:200]}':"
        f" raftlog acl add '{principal[:200]}' {operation} {on}"
    )
