"""Every setting there is. Loading, DescribeConfigs and the reference in docs/ come from here.

Names, types and defaults are Kafka's where Kafka has the setting; `doc` says where the meaning differs
and why. A setting that raftlog has no use for but that common tools and copied files carry is taken
and marked `ignored`; one that would promise something that is not kept is refused.

A setting is one entry in the file of what it is about. The reference lists them in the order in which they
are put together here.
"""

from __future__ import annotations

from typing import Final

from raftlog.config.keys import ConfigKey
from raftlog.config.table.clients import GROUPS_AND_PRODUCERS
from raftlog.config.table.kafka_only import KAFKAS_ALONE, TAKEN
from raftlog.config.table.logs import LOGS, TOPIC_CREATION
from raftlog.config.table.network import CONNECTIONS, IDENTITY
from raftlog.config.table.own import HTTP, OWN
from raftlog.config.table.security import LOGINS, RIGHTS, STANDARD_AUTHORIZER, TLS
from raftlog.config.table.topics import TOPICS

__all__ = ["BROKER_CONFIGS", "KAFKAS_ALONE", "STANDARD_AUTHORIZER", "TOPIC_CONFIGS"]

_BROKER: Final = (
    *IDENTITY,
    *TLS,
    *RIGHTS,
    *LOGINS,
    *CONNECTIONS,
    *TOPIC_CREATION,
    *LOGS,
    *GROUPS_AND_PRODUCERS,
    *OWN,
    *HTTP,
    *TAKEN,
)

BROKER_CONFIGS: Final[dict[str, ConfigKey]] = {key.name: key for key in _BROKER}
TOPIC_CONFIGS: Final[dict[str, ConfigKey]] = {key.name: key for key in TOPICS}
