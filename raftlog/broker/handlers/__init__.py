"""One Kafka API, one file. `raftlog.broker.registry` says which versions of each are served."""
