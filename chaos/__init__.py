"""Chaos: real brokers, real clients and real faults, and a judgement of what the clients were told.

    python -m chaos list
    python -m chaos run --scenario part-kill --time 300 --seed 7
    python -m chaos check runs/part-kill-7/history.jsonl.gz

A run has five parts that know little of each other. The *stage* is the brokers, as processes. A *workload* is
clients that write down what they did in a *history*. A *scenario* is a schedule of *faults*. When all faults
are over and the clients have ended, *checkers* read the history, and nothing else. The suite uses what every
user has: the Kafka protocol through three client libraries, the `raftlog` command, and `raftlog.testing`.
"""
