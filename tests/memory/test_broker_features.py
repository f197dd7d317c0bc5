"""What consoles are told of the cluster's features (KIP-584)."""

from __future__ import annotations

import pytest
import trio

from raftlog.metadata.catalog import METADATA_LEVEL
from raftlog.metadata.commands import LEVEL_KNOWN
from raftlog.protocol.api import ApiKey
from tests.memory.broker_fakes import FakeNode, Served


@pytest.mark.parametrize("version", [3, 4])
async def test_features_say_what_is_finalized(version: int, nursery: trio.Nursery) -> None:
    node = FakeNode()
    served = Served(node, nursery)
    peer = await served.connect()
    software = {"client_software_name": "test", "client_software_version": "1"}
    del node.catalog.features[METADATA_LEVEL]
    for level in (1, 2):
        if level > 1:
            node.catalog.features[METADATA_LEVEL] = level
        answer = await peer.ask(ApiKey.API_VERSIONS, version, **software)
        finalized = {one.name: one.max_version_level for one in answer.finalized_features}
        assert finalized == {"metadata.version": 25, METADATA_LEVEL: level}
        assert answer.finalized_features_epoch == level
        supported = {one.name: (one.min_version, one.max_version) for one in answer.supported_features}
        assert supported == {"metadata.version": (25, 25), METADATA_LEVEL: (1, LEVEL_KNOWN)}
    await served.aclose()


async def test_older_clients_are_told_nothing_of_features(nursery: trio.Nursery) -> None:
    served = Served(FakeNode(), nursery)
    peer = await served.connect()
    answer = await peer.ask(ApiKey.API_VERSIONS, 2)
    assert answer.api_keys and not getattr(answer, "finalized_features", ())
    await served.aclose()
