"""What topics a member's subscription names: the little of the consumer protocol that a broker reads.

    version i16 | topic count i32 | topics as (length i16, UTF-8) | …

Later versions only add behind that (ConsumerProtocolSubscription in Kafka's message definitions).
"""

from __future__ import annotations

import struct


def subscribed_topics(metadata: bytes) -> frozenset[str] | None:
    """The topics, or None when the bytes are not a consumer's subscription."""
    try:
        version, count = struct.unpack_from(">hi", metadata)
        # A topic takes at least two bytes: a count that lies is not looped over.
        if version < 0 or not 0 <= count <= len(metadata) // 2:
            return None
        topics, position = set(), 6
        for _ in range(count):
            (length,) = struct.unpack_from(">h", metadata, position)
            end = position + 2 + length
            if length < 0 or end > len(metadata):
                return None
            topics.add(metadata[position + 2 : end].decode())
            position = end
    except (struct.error, UnicodeDecodeError):
        return None
    return frozenset(topics)
