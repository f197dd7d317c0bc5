"""Which topic names are allowed: Kafka's rules, as pure functions that return a reason or None.

They are part of what `apply` decides, so they must never differ between builds.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

TOPIC_NAME_MAX: Final = 249
"""Kafka's: a folder named after the topic, a partition and a suffix must fit 255 bytes."""

INTERNAL_TOPICS: Final = frozenset(
    {"__consumer_offsets", "__transaction_state", "__share_group_state", "__cluster_metadata"}
)
"""The names of Kafka's own topics. Clients may read and delete topics of these names, not create or write
them; tools leave them out when they list a cluster's topics."""

_ALLOWED = re.compile(r"[a-zA-Z0-9._-]+")


def topic_name_problem(name: str) -> str | None:
    """Why `name` cannot be a topic's, or None."""
    if not name:
        return "a topic's name cannot be empty"
    if name in (".", ".."):
        return f"a topic's name cannot be {name!r}"
    if len(name) > TOPIC_NAME_MAX:
        return f"a topic's name has at most {TOPIC_NAME_MAX} characters, this one has {len(name)}"
    if _ALLOWED.fullmatch(name) is None:
        return f"a topic's name is made of ASCII letters, digits, '.', '_' and '-', not {name!r}"
    return None


def folded(name: str) -> str:
    """The name as metrics systems see it, to whom '.' and '_' are the same."""
    return name.replace(".", "_")


def topic_collision(name: str, existing: Iterable[str]) -> str | None:
    """The other topic in `existing` that `name` collides with: one that differs in '.' and '_' alone."""
    if "." not in name and "_" not in name:
        return None
    fold = folded(name)
    return next((other for other in existing if other != name and folded(other) == fold), None)
