"""Who may do what, as an administrator asks for it (KIP-140, KIP-290). The calls are Kafka's own."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

from raftlog.client.arguments import checked
from raftlog.client.errors import raise_error_in
from raftlog.protocol.api import ApiKey
from raftlog.protocol.encode import Fields
from raftlog.rights import ANY, EVERY_NAME, MATCH, Operation, Pattern, Permission, ResourceKind

AT_ONCE: Final = 500
"""Rules of one request; raftlog takes 1,000. So many are in force together."""


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Acl:
    """A rule: `principal`, as in `User:alice`, is allowed or denied an operation on what is called `name`, or
    begins with it. A literal name of `*` means every name."""

    kind: ResourceKind
    name: str
    principal: str
    operation: Operation
    pattern: Pattern = Pattern.LITERAL
    permission: Permission = Permission.ALLOW
    host: str = EVERY_NAME
    """An address, or `*`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AclFilter:
    """Which rules are meant; None is any. With `applying` those of every pattern that includes the name."""

    kind: ResourceKind | None = None
    name: str | None = None
    principal: str | None = None
    operation: Operation | None = None
    pattern: Pattern | None = None
    permission: Permission | None = None
    host: str | None = None
    applying: bool = False

    def fields(self) -> dict[str, Any]:
        return {
            "resource_type_filter": self.kind or ANY,
            "resource_name_filter": self.name,
            "pattern_type_filter": MATCH if self.applying else self.pattern or ANY,
            "principal_filter": self.principal,
            "host_filter": self.host,
            "operation": self.operation or ANY,
            "permission_type": self.permission or ANY,
        }


class Asker(Protocol):
    """Asks brokers, and again while an error may pass: `raftlog.client.admin.Admin` does."""

    async def ask_controller(self, api: ApiKey, fields: Fields, what: str) -> Any: ...


@checked()
class Acls:
    """Made by `Operations.acls`. Errors and cancellation are those of `Admin`: a call that is cancelled may
    have taken effect. Where there is no authorizer, BrokerError (SECURITY_DISABLED)."""

    def __init__(self, asker: Asker) -> None:
        self._asker = asker

    def __repr__(self) -> str:
        return f"<Acls of {self._asker!r}>"

    async def create(self, acls: Iterable[Acl]) -> None:
        """Add rules; those that are there already stay. On raftlog they are in force on every broker when the
        call returns, and up to AT_ONCE together."""
        wanted = list(acls)
        for first in range(0, len(wanted), AT_ONCE):
            some = wanted[first : first + AT_ONCE]
            answer = await self._asker.ask_controller(
                ApiKey.CREATE_ACLS, {"creations": [_creation(acl) for acl in some]}, "ACLs"
            )
            for acl, result in zip(some, answer.results, strict=True):
                raise_error_in(result, f"an ACL of {acl.principal} on {acl.name!r}")

    async def list(self, which: AclFilter | None = None) -> Sequence[Acl]:
        """The rules that are meant, all without a filter."""
        fields = (which or AclFilter()).fields()
        answer = await self._asker.ask_controller(ApiKey.DESCRIBE_ACLS, fields, "ACLs")
        raise_error_in(answer, "ACLs")
        return sorted(
            _acl(resource.resource_type, resource.resource_name, resource.pattern_type, row)
            for resource in answer.resources
            for row in resource.acls
        )

    async def delete(self, which: AclFilter) -> Sequence[Acl]:
        """Remove the rules that are meant, and give them."""
        answer = await self._asker.ask_controller(ApiKey.DELETE_ACLS, {"filters": [which.fields()]}, "ACLs")
        (result,) = answer.filter_results
        raise_error_in(result, "ACLs")
        return sorted(
            _acl(row.resource_type, row.resource_name, row.pattern_type, row) for row in result.matching_acls
        )


def _creation(acl: Acl) -> dict[str, Any]:
    return {
        "resource_type": acl.kind,
        "resource_name": acl.name,
        "resource_pattern_type": acl.pattern,
        "principal": acl.principal,
        "host": acl.host,
        "operation": acl.operation,
        "permission_type": acl.permission,
    }


def _acl(kind: int, name: str, pattern: int, row: Any) -> Acl:
    return Acl(
        kind=ResourceKind(kind),
        name=name,
        pattern=Pattern(pattern),
        principal=row.principal,
        host=row.host,
        operation=Operation(row.operation),
        permission=Permission(row.permission_type),
    )
