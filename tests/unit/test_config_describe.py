"""Settings as DescribeConfigs and the reference show them."""

from __future__ import annotations

from dataclasses import replace

from raftlog.config import (
    BROKER_CONFIGS,
    TOPIC_CONFIGS,
    BrokerConfig,
    ConfigSource,
    ConfigType,
    Synonym,
    TopicConfig,
    describe_broker,
    describe_topic,
    markdown,
)


def test_a_topics_own_value_comes_first() -> None:
    broker = BrokerConfig.of({"log.retention.hours": "1", "log.retention.ms": "5"})
    (entry,) = describe_topic(TopicConfig({"retention.ms": "9"}, broker), ["retention.ms"])
    assert (entry.value, entry.source, entry.type) == ("9", ConfigSource.DYNAMIC_TOPIC, ConfigType.LONG)
    assert not entry.read_only and not entry.sensitive
    assert entry.synonyms == (
        Synonym("retention.ms", "9", ConfigSource.DYNAMIC_TOPIC),
        Synonym("log.retention.ms", "5", ConfigSource.STATIC_BROKER),
        Synonym("log.retention.hours", "1", ConfigSource.STATIC_BROKER),
        Synonym("log.retention.hours", "168", ConfigSource.DEFAULT),
    )


def test_the_value_is_that_of_the_first_synonym_in_the_topics_unit() -> None:
    topic = TopicConfig({}, BrokerConfig.of({"log.retention.minutes": "2"}))
    (entry,) = describe_topic(topic, ["retention.ms"])
    assert (entry.value, entry.source) == ("120000", ConfigSource.STATIC_BROKER)
    assert entry.synonyms[0] == Synonym("log.retention.minutes", "2", ConfigSource.STATIC_BROKER)


def test_a_default_is_said_to_be_one() -> None:
    entries = describe_topic(TopicConfig({}, BrokerConfig.of({})))
    assert [entry.name for entry in entries] == list(TOPIC_CONFIGS)
    assert all(entry.source is ConfigSource.DEFAULT and entry.synonyms for entry in entries)


def test_a_brokers_settings() -> None:
    config = BrokerConfig.of({"num.partitions": "2", "node.id": "3"})
    entries = {entry.name: entry for entry in describe_broker(config)}
    assert list(entries) == list(BROKER_CONFIGS)
    partitions = entries["num.partitions"]
    assert (partitions.value, partitions.source) == ("2", ConfigSource.STATIC_BROKER)
    assert [synonym.value for synonym in partitions.synonyms] == ["2", "1"]
    assert all(entry.read_only for entry in entries.values()), "none can be changed while the broker runs"
    assert entries["node.id"].source is ConfigSource.STATIC_BROKER
    rack = entries["broker.rack"]
    assert (rack.value, rack.source, rack.synonyms) == (None, ConfigSource.DEFAULT, ())


def test_names_that_are_not_there_are_passed_over() -> None:
    assert [e.name for e in describe_broker(BrokerConfig.of({}), ["nope", "node.id"])] == ["node.id"]
    assert describe_topic(TopicConfig({}, BrokerConfig.of({})), []) == []


def test_secrets_are_not_shown() -> None:
    key = replace(BROKER_CONFIGS["broker.rack"], name="broker.rack", type=ConfigType.PASSWORD)
    original = BROKER_CONFIGS["broker.rack"]
    BROKER_CONFIGS["broker.rack"] = key
    try:
        config = BrokerConfig.of({"broker.rack": "hunter2"})
        (entry,) = describe_broker(config, ["broker.rack"])
        assert entry.sensitive and entry.value is None
        assert "hunter2" not in repr(entry) + repr(config)
    finally:
        BROKER_CONFIGS["broker.rack"] = original


def test_the_reference_has_a_row_for_every_setting() -> None:
    for table in (BROKER_CONFIGS, TOPIC_CONFIGS):
        lines = markdown(table).splitlines()
        assert len(lines) == len(table) + 2
        assert all(line.count(" | ") == 4 for line in lines[2:])
    assert "| `raftlog.durability` | string | `fsync` | fsync, os | What an" in markdown(BROKER_CONFIGS)
