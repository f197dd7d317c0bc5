"""Connectors, and workers on real brokers."""
