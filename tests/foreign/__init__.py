"""Clients of other languages: Apache Kafka's own Java client and command-line tools, and kafkajs.

They need Java with Maven, and npm, which `make test` does not ask for: `make test-foreign` runs them. With
RAFTLOG_TEST_BOOTSTRAP they run against three brokers of whatever kind, but for those that kill brokers, and
those that say what raftlog does not have.
"""
