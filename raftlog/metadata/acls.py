"""ACLs: who may do what (KIP-11, KIP-290).

One request is one entry: a deny and an allow of one request are in force together, never the allow first
(KAFKA-14214).
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Final

from raftlog.errors import InvalidInput
from raftlog.metadata import codec
from raftlog.metadata.acl_table import AclBinding, table_of
from raftlog.metadata.catalog import Catalog
from raftlog.metadata.noun import Command, Noun, Refusal, Refused, Result, Table
from raftlog.rights import (
    CLUSTER_NAME,
    EVERY_NAME,
    OPERATIONS_OF,
    Operation,
    Pattern,
    Permission,
    ResourceKind,
    words,
)
from raftlog.types import RaftIndex

ACLS_LEVEL: Final = 7
"""The metadata level from which on every broker knows ACLs."""
ACLS_MAX: Final = 100_000
"""Rules in a cluster: a start reads them all, in about a second."""
ACLS_BYTES_MAX: Final = 24 * 1024 * 1024
"""What all rules take in an image, which goes to a peer in one message."""
AT_ONCE_MAX: Final = 1_000
"""Rules that one entry makes: applying them takes a few milliseconds."""
DELETED_AT_ONCE_MAX: Final = 4_000
"""Rules that one entry deletes."""
TEXT_BYTES_MAX: Final = 1_024
"""Of a name, a principal, a host. A decision looks at each length of prefixes, so that they have a bound."""


@dataclass(frozen=True, slots=True)
class AclsCreated(Result):
    count: int
    """Those that were not there before."""


@dataclass(frozen=True, slots=True)
class AclsDeleted(Result):
    count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class CreateAcls(Command):
    """All of the rules, or none. One that is there already stays."""

    kind: ClassVar[str] = "create_acls"
    needs_level: ClassVar[int] = ACLS_LEVEL
    grows: ClassVar[str] = "ACLs"
    changes_topology: ClassVar[bool] = False
    bindings: tuple[AclBinding, ...]

    def no_room(self, catalog: Catalog, size: int) -> str | None:
        acls = catalog.acls
        if len(acls) + len(self.bindings) > ACLS_MAX:
            return f"there are {len(acls)} ACLs, {ACLS_MAX} is the most"
        if acls.bytes + size > ACLS_BYTES_MAX:
            return f"the ACLs take {acls.bytes} bytes, {ACLS_BYTES_MAX} is the most"
        return None

    def apply(self, catalog: Catalog, index: RaftIndex) -> Result:
        for binding in self.bindings:
            if (problem := binding_problem(binding)) is not None:
                return Refused(Refusal.INVALID_VALUE, problem)
        before = len(catalog.acls)
        for binding in self.bindings:
            catalog.acls.add(binding, index)
        return AclsCreated(len(catalog.acls) - before)


@dataclass(frozen=True, slots=True, kw_only=True)
class DeleteAcls(Command):
    """Those of the rules that are there."""

    kind: ClassVar[str] = "delete_acls"
    needs_level: ClassVar[int] = ACLS_LEVEL
    changes_topology: ClassVar[bool] = False
    bindings: tuple[AclBinding, ...]

    def apply(self, catalog: Catalog, index: RaftIndex) -> Result:
        return AclsDeleted(sum(catalog.acls.remove(binding, index) for binding in self.bindings))


def binding_problem(binding: AclBinding) -> str | None:
    """Why there cannot be such a rule, or None. Part of what `apply` decides: it must never differ between
    builds."""
    if binding.permission not in (Permission.DENY, Permission.ALLOW):
        return f"there is no permission {binding.permission}"
    if binding.pattern not in (Pattern.LITERAL, Pattern.PREFIXED):
        return f"a rule is for a literal or a prefixed name, not of pattern {binding.pattern}"
    if binding.kind not in list(ResourceKind):
        return f"there is no resource type {binding.kind}"
    kind = ResourceKind(binding.kind)
    if binding.operation != Operation.ALL and binding.operation not in OPERATIONS_OF[kind]:
        return f"there is no operation {binding.operation} on a {words(kind)}"
    for what, text in (("name", binding.name), ("principal", binding.principal), ("host", binding.host)):
        if not text:
            return f"the {what} is empty"
        if len(text.encode()) > TEXT_BYTES_MAX:
            return f"the {what} has more than {TEXT_BYTES_MAX} bytes"
    if kind is ResourceKind.CLUSTER and binding.name not in (CLUSTER_NAME, EVERY_NAME):
        return f"the cluster is called {CLUSTER_NAME!r}"
    principal_type, colon, name = binding.principal.partition(":")
    if not colon or not principal_type or not name:
        return f"a principal is TYPE:NAME, as in User:alice, not {binding.principal[:100]!r}"
    return host_problem(binding.host)


def host_problem(host: str) -> str | None:
    if host == EVERY_NAME:
        return None
    try:
        plain = str(plain_address(host))
    except ValueError:
        return f"a host is an address or '*', not {host[:100]!r}"
    return None if plain == host else f"the address {host} is written {plain}"


def plain_address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    """An address in the form that it has in rules and of connections. Raises ValueError."""
    address = ipaddress.ip_address(host)
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return mapped if mapped is not None else address


def kept_host(host: str) -> str:
    """An address as rules, quotas and connections have it; what is none stays as it is."""
    try:
        return str(plain_address(host))
    except ValueError:
        return host


def in_pieces(bindings: Sequence[AclBinding]) -> list[DeleteAcls]:
    """The entries that delete these rules: one, or if they are too many several, those that allow first, so
    that nothing is open in between that was not before."""
    if len(bindings) > DELETED_AT_ONCE_MAX or sum(one.size for one in bindings) > DELETED_BYTES_MAX:
        bindings = sorted(bindings, key=lambda binding: -binding.permission)
    pieces: list[list[AclBinding]] = [[]]
    size = 0
    for binding in bindings:
        if len(pieces[-1]) >= DELETED_AT_ONCE_MAX or size + binding.size > DELETED_BYTES_MAX:
            pieces.append([])
            size = 0
        pieces[-1].append(binding)
        size += binding.size
    return [DeleteAcls(bindings=tuple(piece)) for piece in pieces if piece]


DELETED_BYTES_MAX: Final = 768 * 1024
"""Bytes of rules in one entry that deletes them: below what may be proposed."""


def _put(catalog: Catalog, plain: object) -> None:
    match plain:
        case [int(changed_at), *rows]:
            bindings: tuple[AclBinding, ...] = codec.from_plain_as(tuple[AclBinding, ...], rows)
            catalog.acls = table_of(bindings, RaftIndex(changed_at))
        case _:
            raise InvalidInput(f"ACLs are an index and rows, not {str(plain)[:60]}")


ACLS: Final = Noun(
    commands=(CreateAcls, DeleteAcls),
    table=Table(
        begin=lambda catalog: catalog.acls.begin_image(),
        canonical=lambda catalog: catalog.acls.canonical(),
        put=_put,
        since_version=5,
        is_empty=lambda catalog: catalog.acls.changed_at == 0,
    ),
)
