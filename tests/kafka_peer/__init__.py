"""Apache Kafka from Maven Central, as the other broker that the client suite runs against.

    python -m tests.kafka_peer start --port 19092

resolves the jars once (into $RAFTLOG_KAFKA_CACHE, else ~/.cache/raftlog/kafka), formats fresh storage,
runs KRaft nodes in the foreground and prints `ready bootstrap=…`. Ctrl-C or SIGTERM stops them and
deletes their data.

    python -m tests.kafka_peer run -- pytest tests/client

does the same around a command, which finds the broker in RAFTLOG_TEST_BOOTSTRAP, and exits as it does.
"""
