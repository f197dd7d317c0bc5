"""The Kafka protocol: bytes in, bytes out, no I/O.

`codec` reads and writes any message of any version, `produce`, `fetch` and `heartbeat` are the same by
hand where speed counts, `api` and `errors` are the protocol's tables. kio is known only to `schema`.
"""
