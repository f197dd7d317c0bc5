"""The protocol's tables against kio's: which versions, which are flexible, which errors are retriable."""

from __future__ import annotations

import pytest

from raftlog.protocol.api import VERSIONS, ApiKey, request_is_flexible, response_header_is_flexible
from raftlog.protocol.errors import ErrorCode
from raftlog.protocol.schema import message_class


@pytest.mark.parametrize("api", list(ApiKey))
def test_versions_and_headers_are_those_of_the_schemas(api: ApiKey) -> None:
    from kio.schema.index import schema_name_map

    versions = VERSIONS[api]
    assert sorted(schema_name_map[api.name.lower()]) == list(range(versions.first, versions.last + 1))
    for version in (versions.first, versions.last, min(versions.flexible, versions.last)):
        request = message_class(api, version, "request")
        assert request.__api_key__ == api
        assert request.__flexible__ == request_is_flexible(api, version)
        header = message_class(api, version, "response").__header_schema__
        assert header.__flexible__ == response_header_is_flexible(api, version)


def test_errors_are_those_of_kafka() -> None:
    from kio.schema.errors import ErrorCode as KioErrorCode

    assert {(e.value, e.name, e.retriable) for e in ErrorCode} == {
        (int(e), e.name.upper(), e.retriable) for e in KioErrorCode
    }


def test_an_error_that_is_not_known_yet_is_a_server_error() -> None:
    assert ErrorCode.of(30_000) is ErrorCode.UNKNOWN_SERVER_ERROR
    assert ErrorCode.of(6) is ErrorCode.NOT_LEADER_OR_FOLLOWER
