"""Filters of DescribeAcls and DeleteAcls: which rules they mean (KIP-290).

What names a resource or a principal is looked up; anything else is a walk over all rules, in steps.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from typing import Final

import trio

from raftlog.metadata.acl_table import AclBinding, Acls
from raftlog.metadata.acls import kept_host
from raftlog.rights import ANY, MATCH, Operation, Pattern, Permission, ResourceKind

AT_A_TIME: Final = 2_000
"""Rules that are looked at before others have their turn: half a millisecond."""


@dataclass(frozen=True, slots=True)
class AclFilter:
    """None and ANY mean whatever."""

    kind: int
    name: str | None
    pattern: int
    principal: str | None
    host: str | None
    operation: int
    permission: int

    @property
    def problem(self) -> str | None:
        """Why nobody can be meant by it, or None."""
        if self.kind != ANY and self.kind not in list(ResourceKind):
            return f"there is no resource type {self.kind}"
        if self.pattern not in (ANY, MATCH, Pattern.LITERAL, Pattern.PREFIXED):
            return f"there is no pattern type {self.pattern}"
        if self.operation != ANY and self.operation not in list(Operation):
            return f"there is no operation {self.operation}"
        if self.permission not in (ANY, Permission.DENY, Permission.ALLOW):
            return f"there is no permission {self.permission}"
        return None

    async def find(self, acls: Acls) -> list[AclBinding]:
        """The rules that are meant, as they were when the call began."""
        found: list[AclBinding] = []
        wanted = self if self.host is None else replace(self, host=kept_host(self.host))
        for number, binding in enumerate(self._candidates(acls), 1):
            if wanted._means(binding):
                found.append(binding)
            if number % AT_A_TIME == 0:
                await trio.lowlevel.checkpoint()
        return found

    def _candidates(self, acls: Acls) -> Sequence[AclBinding]:
        if self.name is not None:
            kinds = list(ResourceKind) if self.kind == ANY else [ResourceKind(self.kind)]
            return list(chain.from_iterable(self._of_name(acls, kind, self.name) for kind in kinds))
        return list(acls if self.principal is None else acls.of_principal(self.principal))

    def _of_name(self, acls: Acls, kind: int, name: str) -> Iterable[AclBinding]:
        if self.pattern == MATCH:
            return acls.matching(kind, name)
        patterns = list(Pattern) if self.pattern == ANY else [Pattern(self.pattern)]
        return chain.from_iterable(acls.of_pattern(kind, pattern, name) for pattern in patterns)

    def _means(self, binding: AclBinding) -> bool:
        return (
            self.kind in (ANY, binding.kind)
            and self.pattern in (ANY, MATCH, binding.pattern)
            and self.principal in (None, binding.principal)
            and self.host in (None, binding.host)
            and self.operation in (ANY, binding.operation)
            and self.permission in (ANY, binding.permission)
        )
