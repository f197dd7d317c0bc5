"""Compare-and-append on the wire: how a Produce says which offset its batch must get.

A field that Kafka does not have, in the tagged fields of a partition of the request (KIP-482): an int64. Who
does not know a tagged field passes over it, and would append all the same. So it is sent only to a broker
that says in ApiVersions, on the very connection, that it knows the feature.
"""

from __future__ import annotations

from typing import Final

FEATURE: Final = "raftlog.expected_offset"
"""Among the features that a broker supports (KIP-584). It is never finalized: each leader decides alone."""
TAG: Final = 0x7261
"""Kafka numbers a struct's tagged fields from 0 on, without gaps, and has come to 4: it does not get here."""
FIELD: Final = "expected_offset"
NOT_GIVEN: Final = -1
"""What a writer of a request gives for the field when the batch may get any offset; it is not sent then."""
