"""HTTP beside the Kafka listener: probes, metrics, a JSON API and events, for people and watchers.

Served in the broker's own event loop, so nothing here runs for longer than about a millisecond at a time.
"""
