"""DescribeUserScramCredentials (50), v0: who may log in with a password, and by which mechanisms.

Behaviour: never a key. null and no names mean all users. One that is not there is an error of its own.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING

from raftlog.broker.call import Call
from raftlog.broker.registry import Answer
from raftlog.broker.scram import NUMBERS
from raftlog.metadata.user_table import Credential
from raftlog.protocol.errors import ErrorCode

if TYPE_CHECKING:
    from raftlog.protocol.requests import DescribeUserScramCredentialsRequest


def handle(call: Call, request: DescribeUserScramCredentialsRequest) -> Answer:
    users = call.backend.catalog.users
    asked = Counter(user.name for user in request.users or ()) or Counter(dict.fromkeys(users, 1))
    results = [
        _twice(name) if count > 1 else _described(name, users.of(name)) for name, count in asked.items()
    ]
    return {"error_code": ErrorCode.NONE, "error_message": None, "results": results}


def _described(name: str, known: Mapping[str, Credential]) -> dict[str, object]:
    infos = [
        {"mechanism": NUMBERS[mechanism], "iterations": credential.iterations}
        for mechanism, credential in sorted(known.items())
    ]
    return {
        "user": name,
        "error_code": ErrorCode.NONE if known else ErrorCode.RESOURCE_NOT_FOUND,
        "error_message": None if known else f"there is no user {name!r}",
        "credential_infos": infos,
    }


def _twice(name: str) -> dict[str, object]:
    return {
        "user": name,
        "error_code": ErrorCode.DUPLICATE_RESOURCE,
        "error_message": f"user {name!r} is named more than once",
        "credential_infos": [],
    }
