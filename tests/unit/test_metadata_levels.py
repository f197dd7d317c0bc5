"""A rolling upgrade: the metadata level goes up with the last broker, and never down."""

from __future__ import annotations

from typing import Final

import pytest

from raftlog.metadata.brokers import RegisterBroker
from raftlog.metadata.catalog import METADATA_LEVEL
from raftlog.metadata.commands import COMMANDS, LEVEL_KNOWN, decode_command, encode_command, refused_before
from raftlog.metadata.features import FeatureSet, SetFeature, known_to_all
from raftlog.metadata.noun import Command, Refused
from raftlog.metadata.state import MetadataState
from raftlog.metadata.topics import COMPACTION_LEVEL, AlterTopicConfig, CreateTopic
from raftlog.types import BrokerId, RaftIndex

KNOWN_TO_ALL: Final = frozenset(
    (
        "initialize_cluster",
        "create_topic",
        "delete_topic",
        "create_partitions",
        "alter_topic_config",
        "move_partition",
        "finish_move",
        "cancel_move",
        "register_broker",
        "fence_broker",
        "drain_broker",
        "unregister_broker",
        "set_feature",
        "allocate_producer_ids",
        "commit_offsets",
        "delete_offsets",
        "delete_group",
        "expire_offsets",
    )
)
"""The commands that every build knows: level 1. A command that is added takes a higher one."""


def register(number: int, level: int) -> RegisterBroker:
    return RegisterBroker(
        broker_id=BrokerId(number),
        incarnation=bytes([level, number]) * 8,
        host="h",
        port=number,
        peer_host="p",
        peer_port=number,
        metadata_level=level,
    )


def to(level: int) -> SetFeature:
    return SetFeature(name=METADATA_LEVEL, level=level)


def test_the_level_goes_up_with_the_last_broker_and_never_down() -> None:
    state = MetadataState()
    index = 0

    def apply(command: RegisterBroker | SetFeature) -> object:
        nonlocal index
        index += 1
        return state.apply(command, RaftIndex(index))

    for number in (1, 2, 3):
        apply(register(number, 1))
    for number in (1, 2, 3):
        assert known_to_all(state.catalog.brokers.values()) == 1
        assert isinstance(apply(to(2)), Refused) and state.catalog.metadata_level == 1
        apply(register(number, 2))
    assert known_to_all(state.catalog.brokers.values()) == 2
    assert apply(to(2)) == FeatureSet(METADATA_LEVEL, 2) and state.catalog.metadata_level == 2
    assert isinstance(apply(to(1)), Refused) and isinstance(apply(to(0)), Refused)
    old = apply(register(3, 1))
    assert isinstance(old, Refused) and "level 1, and the cluster is at 2" in old.detail
    again = MetadataState()
    again.restore(state.to_bytes())
    assert again.catalog == state.catalog and again.digest() == state.digest()


def test_level_1_is_written_as_builds_that_know_no_levels_read_it() -> None:
    assert b"metadata_level" not in encode_command(register(1, 1))
    assert decode_command(encode_command(register(1, 2))) == register(1, 2)


def test_a_command_that_an_older_build_does_not_know_says_so() -> None:
    assert {kind for kind, command in COMMANDS.items() if command.needs_level == 1} == KNOWN_TO_ALL


@pytest.mark.parametrize("policy", ["compact", "compact,delete"])
def test_a_topic_is_not_compacted_while_a_broker_would_delete_it(policy: str) -> None:
    """An older build knows the command, and would act upon it wrongly."""
    compact, delete = {"cleanup.policy": policy}, {"cleanup.policy": "delete"}
    catalog = MetadataState().catalog

    def refused(command: Command) -> bool:
        return refused_before(command, 100, catalog, is_full=False) is not None

    def create(configs: dict[str, str]) -> CreateTopic:
        return CreateTopic(name="t", topic_id=bytes(16), partitions=((BrokerId(1),),), configs=configs)

    def alter(configs: dict[str, str]) -> AlterTopicConfig:
        return AlterTopicConfig(topic_id=bytes(16), set=configs, remove=())

    catalog.features[METADATA_LEVEL] = COMPACTION_LEVEL - 1
    assert refused(create(compact)) and refused(alter(compact))
    assert not refused(create(delete)) and not refused(alter(delete)) and not refused(create({}))
    catalog.features[METADATA_LEVEL] = COMPACTION_LEVEL
    assert not refused(create(compact)) and not refused(alter(compact))
    assert COMPACTION_LEVEL <= LEVEL_KNOWN
