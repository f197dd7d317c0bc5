"""What is advertised, against what clients need (shown by running them against a recording broker)."""

from __future__ import annotations

import pytest

from raftlog.broker.registry import REGISTRY, Api, served
from raftlog.protocol.api import VERSIONS, ApiKey

WHOLE_LIFE = [0, 1, 2, 3, 8, 9, 10, 11, 12, 13, 14, 18, 22]
"""The APIs with which every client gets through producing, consuming and groups."""


@pytest.mark.parametrize("api", list(served()), ids=lambda api: api.key.name)
def test_a_range_is_what_the_codec_knows_and_begins_where_kafka_4_does(api: Api) -> None:
    versions = VERSIONS[api.key]
    assert api.first <= versions.first <= api.last <= versions.last
    assert api.first == (0 if api.key is ApiKey.PRODUCE else versions.first)


@pytest.mark.parametrize("api", list(served()), ids=lambda api: api.key.name)
def test_a_handler_says_what_it_serves(api: Api) -> None:
    assert callable(api.handle)
    says = (api._module.__doc__ or "").partition("\n")[0]
    name, number = says.split(" (")[0], int(says.split("(")[1].split(")")[0])
    assert (name.lower(), number) == (api.key.name.lower().replace("_", ""), api.key)
    spoken_from = 3 if api.key is ApiKey.PRODUCE else api.first
    versions = f"v{spoken_from} to v{api.last}" if spoken_from < api.last else f"v{api.last}"
    assert f", {versions}: " in says


def test_every_api_takes_a_right_but_those_that_come_before_it_is_known_who_asks() -> None:
    free = {api.key for api in served() if api.rule is None}
    assert free == {ApiKey.API_VERSIONS, ApiKey.SASL_HANDSHAKE, ApiKey.SASL_AUTHENTICATE}
    assert str(REGISTRY[ApiKey.INIT_PRODUCER_ID].right) == "IdempotentWrite Cluster"
    assert str(REGISTRY[ApiKey.FETCH].right) == "Read Topic"


def test_every_client_gets_through_its_whole_life() -> None:
    assert set(WHOLE_LIFE) <= set(REGISTRY)
    assert REGISTRY[ApiKey.FETCH].last >= 13  # @platformatic/kafka has no other
    assert REGISTRY[ApiKey.API_VERSIONS].last >= 3  # nor a fallback


def test_what_confuses_clients_is_not_advertised() -> None:
    assert not {ApiKey.GET_TELEMETRY_SUBSCRIPTIONS, ApiKey.PUSH_TELEMETRY} & set(REGISTRY)
    assert REGISTRY[ApiKey.ALTER_CONFIGS].last == 2  # @platformatic/kafka has no other
    assert [api.key for api in served() if api.pipelined] == [ApiKey.PRODUCE, ApiKey.OFFSET_COMMIT]
