"""The table of ACLs, indexed for the question that every request asks: may this principal do that?

Pure: a decision is a function of the rules and of the question. Invariant: the index says what a walk over
all rules would say; `tests/property/test_acls.py` holds both together.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final, NamedTuple

import cbor2

from raftlog.metadata import codec
from raftlog.rights import (
    ALLOWED_BY,
    EVERY_NAME,
    EVERYONE,
    Operation,
    Pattern,
    Permission,
    ResourceKind,
    words,
)
from raftlog.types import BEFORE_ALL, RaftIndex

ROW_BYTES: Final = 16
"""About what a rule takes in an image beside its strings."""


class AclBinding(NamedTuple):
    """One rule: `principal`, from `host`, is allowed or denied `operation` on what the pattern names.

    A row of numbers and texts, since there may be many.
    """

    kind: int
    pattern: int
    name: str
    principal: str
    host: str
    operation: int
    permission: int

    @property
    def size(self) -> int:
        """About what it takes in an image, in bytes."""
        return ROW_BYTES + sum(len(text.encode()) for text in (self.name, self.principal, self.host))

    def __str__(self) -> str:
        verb = "may" if self.permission == Permission.ALLOW else "may not"
        star = "*" if self.pattern == Pattern.PREFIXED else ""
        operation, kind = words(Operation(self.operation)), words(ResourceKind(self.kind))
        where = "" if self.host == EVERY_NAME else f" from {self.host}"
        return f"{self.principal} {verb} {operation} {kind} '{self.name}{star}'{where}"


class Decision(NamedTuple):
    """What the rules say: `rule` is the one that decided, None when none matched; `is_ruled` whether any rule
    at all is about the resource."""

    allowed: bool
    rule: AclBinding | None
    is_ruled: bool


_Rules = dict[str, dict[AclBinding, None]]
"""The rules about one pattern, by principal."""


class Acls:
    """All rules. `changed_at` is the entry that changed them last: equal entries are equal rules."""

    def __init__(self) -> None:
        self._all: dict[AclBinding, None] = {}
        self._patterns: dict[tuple[int, int, str], _Rules] = {}
        """By kind, pattern and name."""
        self._lengths: dict[int, dict[int, int]] = {}
        """How many prefixes there are of each length, by kind."""
        self._of: dict[str, dict[AclBinding, None]] = {}
        """By principal."""
        self.bytes = 0
        """About what the rules take in an image."""
        self.changed_at = BEFORE_ALL

    def __len__(self) -> int:
        return len(self._all)

    def __iter__(self) -> Iterator[AclBinding]:
        return iter(self._all)

    def __contains__(self, binding: object) -> bool:
        return binding in self._all

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Acls) and self._all.keys() == other._all.keys()

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"<Acls {len(self._all)} rules changed_at={self.changed_at}>"

    def add(self, binding: AclBinding, index: RaftIndex) -> None:
        if binding in self._all:
            return
        key = (binding.kind, binding.pattern, binding.name)
        if key not in self._patterns and binding.pattern == Pattern.PREFIXED:
            lengths = self._lengths.setdefault(binding.kind, {})
            lengths[len(binding.name)] = lengths.get(len(binding.name), 0) + 1
        self._all[binding] = None
        self._patterns.setdefault(key, {}).setdefault(binding.principal, {})[binding] = None
        self._of.setdefault(binding.principal, {})[binding] = None
        self.bytes += binding.size
        self.changed_at = index

    def remove(self, binding: AclBinding, index: RaftIndex) -> bool:
        """Whether there was such a rule."""
        if binding not in self._all:
            return False
        del self._all[binding]
        self.bytes -= binding.size
        self.changed_at = index
        _discard(self._of, binding)
        key = (binding.kind, binding.pattern, binding.name)
        _discard(self._patterns[key], binding)
        if not self._patterns[key]:
            del self._patterns[key]
            if binding.pattern == Pattern.PREFIXED:
                lengths = self._lengths[binding.kind]
                lengths[len(binding.name)] -= 1
                if not lengths[len(binding.name)]:
                    del lengths[len(binding.name)]
        return True

    def is_ruled(self, kind: int, name: str) -> bool:
        """Whether any rule is about the resource."""
        return next(self._about(kind, name), None) is not None

    def decide(self, principal: str, host: str, operation: int, kind: int, name: str) -> Decision:
        """A matching deny first, then a matching allow; an operation is allowed by what implies it, too."""
        allowing = ALLOWED_BY[operation]
        allowed_by: AclBinding | None = None
        is_ruled = False
        for rules in self._about(kind, name):
            is_ruled = True
            for who in (principal, EVERYONE):
                for binding in rules.get(who, ()):
                    if binding.host != host and binding.host != EVERY_NAME:
                        continue
                    if binding.permission == Permission.DENY:
                        if binding.operation == operation or binding.operation == Operation.ALL:
                            return Decision(False, binding, True)
                    elif allowed_by is None and binding.operation in allowing:
                        allowed_by = binding
        return Decision(allowed_by is not None, allowed_by, is_ruled)

    def decide_any(self, principal: str, host: str, operation: int, kind: int) -> Decision:
        """Whether there may be a resource of the kind on which the operation is allowed: a rule allows names
        that no rule denies (KIP-679). It looks at the principal's rules until it finds one such."""
        allowed: list[AclBinding] = []
        names: set[str] = set()
        prefixes: set[str] = set()
        for who in (principal, EVERYONE):
            for binding in self._of.get(who, ()):
                if binding.kind != kind or binding.host not in (host, EVERY_NAME):
                    continue
                if binding.permission == Permission.ALLOW:
                    if binding.operation in ALLOWED_BY[operation]:
                        allowed.append(binding)
                elif binding.operation in (operation, Operation.ALL):
                    if binding.pattern == Pattern.LITERAL and binding.name == EVERY_NAME:
                        return Decision(False, binding, True)
                    (names if binding.pattern == Pattern.LITERAL else prefixes).add(binding.name)
        for binding in allowed:
            is_literal = binding.pattern == Pattern.LITERAL
            if is_literal and binding.name == EVERY_NAME:
                return Decision(True, binding, True)
            if is_literal and binding.name in names:
                continue
            if not any(binding.name[:length] in prefixes for length in range(1, len(binding.name) + 1)):
                return Decision(True, binding, True)
        return Decision(False, None, bool(allowed))

    def matching(self, kind: int, name: str) -> Iterator[AclBinding]:
        """Every rule about a resource."""
        for rules in self._about(kind, name):
            for bindings in rules.values():
                yield from bindings

    def of_pattern(self, kind: int, pattern: int, name: str) -> Iterator[AclBinding]:
        """The rules of exactly this pattern."""
        for bindings in self._patterns.get((kind, pattern, name), {}).values():
            yield from bindings

    def of_principal(self, principal: str) -> Iterator[AclBinding]:
        return iter(self._of.get(principal, ()))

    def _about(self, kind: int, name: str) -> Iterator[_Rules]:
        """The rules of every pattern that includes the name."""
        patterns = self._patterns
        if (found := patterns.get((kind, Pattern.LITERAL, name))) is not None:
            yield found
        if name != EVERY_NAME and (found := patterns.get((kind, Pattern.LITERAL, EVERY_NAME))) is not None:
            yield found
        for length in self._lengths.get(kind, ()):
            if length <= len(name) and (found := patterns.get((kind, Pattern.PREFIXED, name[:length]))):
                yield found

    # Images

    def canonical(self) -> bytes:
        if self.changed_at == BEFORE_ALL:
            return b""
        return cbor2.dumps([self.changed_at, *map(list, sorted(self._all))])

    def begin_image(self) -> AclsEncoding:
        return AclsEncoding(self.changed_at, list(self._all))


def _discard(table: dict[str, dict[AclBinding, None]], binding: AclBinding) -> None:
    rows = table[binding.principal]
    del rows[binding]
    if not rows:
        del table[binding.principal]


def table_of(bindings: Iterable[AclBinding], changed_at: RaftIndex) -> Acls:
    table = Acls()
    for binding in bindings:
        table.add(binding, changed_at)
    table.changed_at = changed_at
    return table


class AclsEncoding:
    """The table on its way into an image, as it was when that was begun."""

    def __init__(self, changed_at: RaftIndex, bindings: list[AclBinding]) -> None:
        self._left = bindings
        self._rows: list[bytes] = [cbor2.dumps(changed_at)]

    def encode_some(self, cost_max: int) -> int:
        some, self._left = self._left[-cost_max:], self._left[:-cost_max]
        self._rows += [cbor2.dumps(list(binding)) for binding in some]
        return 0 if self._left else max(cost_max - len(some), 1)

    def take_image(self) -> list[bytes]:
        assert not self._left, len(self._left)
        return codec.array_of(self._rows)
