"""The console of a cluster that it is not a part of: `raftlog console`. Whatever speaks Kafka's protocol is
looked at with the package's own client and nothing else, so that it may be Apache Kafka."""
