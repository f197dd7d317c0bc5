"""Bytes that no well-meaning client sends, against a real broker that others are using meanwhile."""
