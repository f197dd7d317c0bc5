"""How bytes become durable: the write-ahead log, segments, checkpoints, recovery, retention.

`store.Store` is the way in; `group_log.GroupLog` is one group's log, with its parts beside it. `disk` is the
only door to the file system. Nothing here is async, knows the clock or the network, or what an entry means.
"""
