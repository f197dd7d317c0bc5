"""The index of ACLs says what a walk over all rules says (KAFKA-7702, KAFKA-14265: indexes missed rules)."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from raftlog.metadata.acl_table import AclBinding, Acls, Decision, table_of
from raftlog.rights import (
    ALLOWED_BY,
    EVERY_NAME,
    EVERYONE,
    OPERATIONS_OF,
    Operation,
    Pattern,
    Permission,
    ResourceKind,
)
from raftlog.types import RaftIndex

NAMES = ["a", "ab", "abc", "abd", "b", "*", "pay", "pay-x"]
KINDS = [ResourceKind.TOPIC, ResourceKind.GROUP]
WHO = ["User:a", "User:b", EVERYONE]
HOSTS = ["10.0.0.1", "10.0.0.2", EVERY_NAME]
OPERATIONS = [Operation.ALL, *OPERATIONS_OF[ResourceKind.TOPIC]]

bindings = st.builds(
    AclBinding,
    st.sampled_from(KINDS),
    st.sampled_from(list(Pattern)),
    st.sampled_from(NAMES),
    st.sampled_from(WHO),
    st.sampled_from(HOSTS),
    st.sampled_from(OPERATIONS),
    st.sampled_from(list(Permission)),
)
rules = st.lists(bindings, max_size=12)
questions = st.tuples(
    st.sampled_from(WHO[:2]),
    st.sampled_from(HOSTS[:2]),
    st.sampled_from(OPERATIONS[1:]),
    st.sampled_from(KINDS),
    st.sampled_from([*NAMES[:5], "pay-x", "pay-y", "abcd"]),
)
AT = RaftIndex(1)


def is_about(binding: AclBinding, kind: int, name: str) -> bool:
    if binding.kind != kind:
        return False
    if binding.pattern == Pattern.PREFIXED:
        return name.startswith(binding.name)
    return binding.name in (name, "*")


def decided(rules: list[AclBinding], who: str, host: str, operation: Operation, kind: int, name: str) -> bool:
    """By the book: SECURITY.md's model, a walk over everything."""
    mine = [
        one
        for one in rules
        if is_about(one, kind, name) and one.principal in (who, "User:*") and one.host in (host, "*")
    ]
    denied = any(
        one.permission == Permission.DENY and one.operation in (operation, Operation.ALL) for one in mine
    )
    allowed = any(
        one.permission == Permission.ALLOW and one.operation in ALLOWED_BY[operation] for one in mine
    )
    return allowed and not denied


@given(rules, rules, st.lists(questions, min_size=1, max_size=5))
@settings(max_examples=400, deadline=None)
def test_the_index_says_what_a_walk_says(
    some: list[AclBinding], gone: list[AclBinding], asked: list[tuple[str, str, Operation, int, str]]
) -> None:
    """Scenario 38, and 35: a deny wins whatever the order and the pattern."""
    table = Acls()
    for binding in some:
        table.add(binding, AT)
    present = set(some)
    for binding in gone:
        assert table.remove(binding, AT) == (binding in present)
        present.discard(binding)
    left = [binding for binding in some if binding not in gone]
    assert set(table) == set(left) and len(table) == len(set(left))
    assert table.bytes == sum(binding.size for binding in set(left))
    for who, host, operation, kind, name in asked:
        found = table.decide(who, host, operation, kind, name)
        assert found.allowed == decided(left, who, host, operation, kind, name)
        assert found.is_ruled == any(is_about(one, kind, name) for one in left) == table.is_ruled(kind, name)
    assert not table._patterns.keys() - {(one.kind, one.pattern, one.name) for one in left}
    assert table == table_of(reversed(left), AT)


@given(rules, questions)
@settings(max_examples=300, deadline=None)
def test_any_resource_means_one_that_could_be_named(
    some: list[AclBinding], asked: tuple[str, str, Operation, int, str]
) -> None:
    """KIP-679: whether a producer may write to anything at all. Names that begin alike are tried."""
    who, host, operation, kind, _ = asked
    table = table_of(some, AT)
    names = [name + more for name in [*NAMES, "zzz"] for more in ("", "-q7") if name + more != "*"]
    possible = any(decided(some, who, host, operation, kind, name) for name in names)
    assert table.decide_any(who, host, operation, kind).allowed == possible


def test_what_implies_what() -> None:
    for operation in (Operation.READ, Operation.WRITE, Operation.DELETE, Operation.ALTER, Operation.ALL):
        table = table_of([AclBinding(2, 3, "t", "User:a", "*", operation, Permission.ALLOW)], AT)
        assert table.decide("User:a", "h", Operation.DESCRIBE, 2, "t").allowed
        denied = AclBinding(2, 3, "t", "User:a", "*", Operation.READ, Permission.DENY)
        both = table_of([*table, denied], AT)
        assert both.decide("User:a", "h", Operation.DESCRIBE, 2, "t").allowed
        assert both.decide("User:a", "h", Operation.READ, 2, "t") == Decision(False, denied, True)
