"""What consoles are told of the cluster's features (KIP-584)."""

from __future__ import annotations

from typing import Any

import pytest
import trio

from raftlog.metadata.catalog import METADATA_LEVEL
from raftlog.metadata.commands import LEVEL_KNOWN
from raftlog.metadata.features import TRANSACTION_EPOCHS_LEVEL, TRANSACTION_VERSION
from raftlog.protocol.api import ApiKey
from raftlog.types import RaftIndex
from tests.memory.broker_fakes import FakeNode, Peer, Served


@pytest.mark.parametrize("version", [3, 4])
async def test_features_say_what_is_finalized(version: int, nursery: trio.Nursery) -> None:
    node = FakeNode()
    served = Served(node, nursery)
    peer = await served.connect()
    software = {"client_software_name": "test", "client_software_version": "1"}
    del node.catalog.features[METADATA_LEVEL]
    node.catalog.features_chosen_at = RaftIndex(0)
    for level in (1, 2, LEVEL_KNOWN):
        if level > 1:
            node.catalog.features[METADATA_LEVEL] = level
        answer = await peer.ask(ApiKey.API_VERSIONS, version, **software)
        finalized = {one.name: one.max_version_level for one in answer.finalized_features}
        offered = 2 if level >= TRANSACTION_EPOCHS_LEVEL else 1
        assert finalized == {
            "metadata.version": 25,
            METADATA_LEVEL: level,
            TRANSACTION_VERSION: offered,
        }
        last = {one.api_key: one.max_version for one in answer.api_keys}
        told = last[ApiKey.PRODUCE], last[ApiKey.TXN_OFFSET_COMMIT], last[ApiKey.END_TXN]
        assert told == ((13, 5, 5) if offered == 2 else (11, 4, 4)), "never one without the other"
        assert answer.finalized_features_epoch == level
        supported = {one.name: (one.min_version, one.max_version) for one in answer.supported_features}
        assert supported == {
            "metadata.version": (25, 25),
            METADATA_LEVEL: (1, LEVEL_KNOWN),
            TRANSACTION_VERSION: (1, 2),
            "raftlog.expected_offset": (1, 1),
        }
    await served.aclose()


async def test_older_clients_are_told_nothing_of_features(nursery: trio.Nursery) -> None:
    served = Served(FakeNode(), nursery)
    peer = await served.connect()
    answer = await peer.ask(ApiKey.API_VERSIONS, 2)
    assert answer.api_keys and not getattr(answer, "finalized_features", ())
    await served.aclose()


async def change(peer: Peer, level: int, *, version: int = 1, kind: int = 2, **more: Any) -> Any:
    update = {"feature": TRANSACTION_VERSION, "max_version_level": level, "upgrade_type": kind}
    update["allow_downgrade"] = kind == 2
    asked = {"feature_updates": [{**update, **more}], "validate_only": False, "timeout": 1000}
    return await peer.ask(ApiKey.UPDATE_FEATURES, version, **asked)


async def offered(peer: Peer) -> tuple[int, int, int]:
    """The level of the feature, its epoch, and the last Produce that is told."""
    software = {"client_software_name": "test", "client_software_version": "1"}
    answer = await peer.ask(ApiKey.API_VERSIONS, 4, **software)
    (level,) = (one.max_version_level for one in answer.finalized_features if one.name == TRANSACTION_VERSION)
    (produce,) = (one.max_version for one in answer.api_keys if one.api_key == ApiKey.PRODUCE)
    return level, answer.finalized_features_epoch, produce


@pytest.mark.parametrize("version", [0, 1, 2])
async def test_an_administrator_takes_the_second_protocol_back_and_offers_it_again(
    version: int, nursery: trio.Nursery
) -> None:
    served = Served(FakeNode(), nursery)
    peer = await served.connect()
    level, epoch, produce = await offered(peer)
    assert (level, produce) == (2, 13)
    answer = await change(peer, 1, version=version, kind=1)
    code = answer.error_code if version == 2 else answer.results[0].error_code
    assert code.name == "invalid_update_version", "to go down is to be said"
    assert await offered(peer) == (2, epoch, 13)
    answer = await change(peer, 1, version=version)
    assert answer.error_code == 0 and (version == 2 or answer.results[0].error_code == 0)
    level, next_epoch, produce = await offered(peer)
    assert (level, produce) == (1, 11) and next_epoch > epoch
    answer = await change(peer, 2, version=version, kind=1)
    assert answer.error_code == 0
    level, last_epoch, produce = await offered(peer)
    assert (level, produce) == (2, 13) and last_epoch > next_epoch
    await served.aclose()


@pytest.mark.parametrize(
    ("level", "more", "code"),
    [
        (0, {}, "invalid_update_version"),
        (3, {"kind": 1}, "invalid_update_version"),
        (1, {"kind": 9}, "invalid_update_version"),
        (1, {"feature": "kraft.version"}, "invalid_update_version"),
        (1, {"feature": METADATA_LEVEL}, "invalid_update_version"),
        (25, {"feature": "metadata.version", "kind": 1}, "none"),
        (2, {"kind": 1}, "none"),
    ],
)
async def test_what_is_asked_of_features(
    level: int, more: dict[str, Any], code: str, nursery: trio.Nursery
) -> None:
    served = Served(FakeNode(), nursery)
    peer = await served.connect()
    answer = await change(peer, level, version=2, **more)
    assert answer.error_code.name == code
    await served.aclose()


async def test_a_feature_that_is_named_twice_and_one_that_is_only_validated(nursery: trio.Nursery) -> None:
    served = Served(FakeNode(), nursery)
    peer = await served.connect()
    down = {"feature": TRANSACTION_VERSION, "max_version_level": 1, "upgrade_type": 2}
    before = await offered(peer)
    asked = {"feature_updates": [down, down], "validate_only": False, "timeout": 1000}
    assert (await peer.ask(ApiKey.UPDATE_FEATURES, 2, **asked)).error_code.name == "invalid_request"
    asked = {"feature_updates": [down], "validate_only": True, "timeout": 1000}
    assert (await peer.ask(ApiKey.UPDATE_FEATURES, 2, **asked)).error_code == 0
    assert await offered(peer) == before
    await served.aclose()
