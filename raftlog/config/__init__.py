"""Every setting: one table, how it is loaded, how it is shown.

config = BrokerConfig.load(file=path, environ=os.environ, overrides=["num.partitions=3"])
config.int("num.partitions")
TopicConfig(topic.configs, config).int("retention.ms")
"""

from raftlog.config.addresses import Listener, is_every_interface, parse_host_port, parse_listener
from raftlog.config.describe import (
    ConfigEntry,
    ConfigSource,
    Synonym,
    describe_broker,
    describe_topic,
    markdown,
)
from raftlog.config.keys import ConfigKey, ConfigType
from raftlog.config.load import load_settings
from raftlog.config.table import BROKER_CONFIGS, TOPIC_CONFIGS
from raftlog.config.values import BrokerConfig, TopicConfig, config_error

__all__ = [
    "BROKER_CONFIGS",
    "TOPIC_CONFIGS",
    "BrokerConfig",
    "ConfigEntry",
    "ConfigKey",
    "ConfigSource",
    "ConfigType",
    "Listener",
    "Synonym",
    "TopicConfig",
    "config_error",
    "describe_broker",
    "describe_topic",
    "is_every_interface",
    "load_settings",
    "markdown",
    "parse_host_port",
    "parse_listener",
]
