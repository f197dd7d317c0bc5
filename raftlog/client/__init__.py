"""The client of the Kafka protocol on Trio. Its public names are those of `raftlog`.

It stands apart from the broker: protocol, records, types and errors are all that it knows of the package.
`connection` and `cluster` do the I/O; `accumulator`, `assignment`, `assignors`, `isolation`, `metadata`,
`partitioner`, `settings` and `transactions` decide, without an event loop; `producer`, `sending`,
`transactional`, `fetcher`, `group` and `consumer` join the two.
"""
