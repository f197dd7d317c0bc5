"""Who may do what on this broker, decided by the rules in its catalog.

Decisions are synchronous and remembered; a change of the rules forgets them all. Must not know: requests,
connections, answers. What makes a deny final on every broker is `enforcement.py`'s.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from raftlog.config import BrokerConfig
from raftlog.metadata.acl_table import Acls
from raftlog.metadata.catalog import Catalog
from raftlog.rights import OPERATIONS_OF, Operation, ResourceKind
from raftlog.types import RaftIndex

REMEMBERED_MAX: Final = 20_000
"""Decisions that are remembered: some megabytes. With more all are forgotten, and made again."""
REMEMBERED_NAME_MAX: Final = 255
"""Characters of a name about which a decision is remembered. A client may ask about names of 32 KB."""

SUPER_USER: Final = "super.users"
NO_RULE: Final = "no rule allows it"
NO_RULE_AT_ALL: Final = "allow.everyone.if.no.acl.found"


class Verdict(NamedTuple):
    """`by` is the rule that decided, or what stood in for one."""

    allowed: bool
    by: str


_Question = tuple[str, str, int, int, str | None]


class Authorizer:
    """Of a broker that has one: `authorizer.class.name`."""

    def __init__(self, catalog: Catalog, config: BrokerConfig) -> None:
        self._catalog = catalog
        self._super_users = frozenset(super_users(config))
        self._open_without_rules = config.bool("allow.everyone.if.no.acl.found")
        self._remembered: dict[_Question, bool] = {}
        self._as_of: RaftIndex | None = None

    def __repr__(self) -> str:
        return f"<Authorizer {len(self._catalog.acls)} rules, {len(self._remembered)} remembered>"

    @property
    def acls(self) -> Acls:
        return self._catalog.acls

    @property
    def changed_at(self) -> RaftIndex:
        """The entry that changed the rules last: what was decided before it is to be decided again."""
        return self._catalog.acls.changed_at

    def allows(
        self, principal: str, host: str, operation: Operation, kind: ResourceKind, name: str | None
    ) -> bool:
        """Whether the rules of this moment allow it. A name of None: on any resource of the kind."""
        if self._as_of != self._catalog.acls.changed_at:
            self._remembered.clear()
            self._as_of = self._catalog.acls.changed_at
        question = (principal, host, operation, kind, name)
        known = self._remembered.get(question)
        if known is None:
            known = self.explain(principal, host, operation, kind, name).allowed
            if len(self._remembered) >= REMEMBERED_MAX:
                self._remembered.clear()
            if len(name or "") <= REMEMBERED_NAME_MAX:
                self._remembered[question] = known
        return known

    def is_super_user(self, principal: str) -> bool:
        """Whether no rule stops somebody: also none that denies."""
        return principal in self._super_users

    def explain(
        self, principal: str, host: str, operation: Operation, kind: ResourceKind, name: str | None
    ) -> Verdict:
        """The decision and what it rests on: a super user first, then a rule that denies, then one that
        allows."""
        if self.is_super_user(principal):
            return Verdict(True, SUPER_USER)
        acls = self._catalog.acls
        if name is None:
            found = acls.decide_any(principal, host, operation, kind)
        else:
            found = acls.decide(principal, host, operation, kind, name)
        if found.rule is not None:
            return Verdict(found.allowed, str(found.rule))
        if self._open_without_rules and not found.is_ruled:
            return Verdict(True, NO_RULE_AT_ALL)
        return Verdict(False, NO_RULE)

    def operations(self, principal: str, host: str, kind: ResourceKind, name: str) -> list[Operation]:
        """Those that are allowed on a resource."""
        return [
            operation
            for operation in OPERATIONS_OF[kind]
            if self.allows(principal, host, operation, kind, name)
        ]


def super_users(config: BrokerConfig) -> list[str]:
    """They are separated by `;`: a distinguished name has commas."""
    return [name for part in config.str("super.users").split(";") if (name := part.strip())]


def authorizer_of(catalog: Catalog, config: BrokerConfig) -> Authorizer | None:
    """None where everybody may do everything."""
    return Authorizer(catalog, config) if config.str("authorizer.class.name") else None
