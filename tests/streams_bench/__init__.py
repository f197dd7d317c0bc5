"""raftlog.streams, Kafka Streams and Quix Streams with the same loads, on the same brokers, in turn.

    python -m tests.streams_bench --rounds 5

What is measured is the CPU time of the worker's process, kernel included, for a record: not the brokers', and
not by the clock, which a busy machine disturbs. A worker gets an input that is there already, begins anew,
and runs until it has committed `--warm` records of warm-up and then `--records` more; a commit that is seen
is where either begins or ends.
"""
