"""AlterUserScramCredentials (51), v0: set the passwords of users, and take them away.

Behaviour: what comes is a salted password, which is as good as a password. The two keys that a login is
checked by are made of it here, and it is forgotten; so it is taken only from who is in TLS or on this
machine. All of a request is one change, answered when it is in force on every broker: connections that were
made with what is replaced have ended. A user with a fault changes nothing, and the others do.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Final, assert_never

import trio

from raftlog.broker.call import Call
from raftlog.broker.changes import audit_change
from raftlog.broker.registry import Answer
from raftlog.broker.scram import MECHANISMS
from raftlog.cluster.metadata_group import ProposalFailed
from raftlog.errors import InvalidInput
from raftlog.metadata.noun import Refused
from raftlog.metadata.users import (
    CHANGES_MAX,
    KEY_BYTES,
    USERS_LEVEL,
    CredentialsAltered,
    NewCredential,
    credential_problem,
)
from raftlog.net.hosts import is_this_machine
from raftlog.protocol.errors import ErrorCode
from raftlog.protocol.sasl import prepared
from raftlog.protocol.scram import keys_of

if TYPE_CHECKING:
    from raftlog.protocol.requests import AlterUserScramCredentialsRequest, ScramCredentialUpsertion

AT_A_TIME: Final = 100
"""Credentials whose keys are made before others have their turn: a millisecond or two."""

Fault = tuple[ErrorCode, str]

OPEN: Final[Fault] = (
    ErrorCode.INVALID_REQUEST,
    "a password is not taken on a connection that others can read: use a listener in TLS, or one on the"
    " broker's own machine",
)


async def handle(call: Call, request: AlterUserScramCredentialsRequest) -> Answer:
    catalog = call.backend.catalog
    changed = [(one.name, int(one.mechanism)) for one in request.upsertions]
    changed += [(one.name, int(one.mechanism)) for one in request.deletions]
    names = list({name: True for name, _ in changed})
    count = Counter(changed)
    faults: dict[str, Fault] = {name: _twice(name) for (name, _), times in count.items() if times > 1}
    if (problem := _problem(call, request)) is not None:
        faults = dict.fromkeys(names, problem)
    put: list[tuple[str, NewCredential]] = []
    drop: list[tuple[str, tuple[str, str]]] = []
    for number, one in enumerate(request.upsertions, 1):
        made = _made(one)
        if isinstance(made, NewCredential):
            put.append((one.name, made))
        else:
            faults.setdefault(one.name, made)
        if number % AT_A_TIME == 0:
            await trio.lowlevel.checkpoint()
    for gone in request.deletions:
        mechanism, user = MECHANISMS.get(gone.mechanism, ""), _prepared(gone.name)
        if not mechanism:
            faults.setdefault(gone.name, _no_mechanism(gone.mechanism))
        elif mechanism not in catalog.users.of(user):
            faults.setdefault(gone.name, _missing(user, mechanism))
        else:
            drop.append((gone.name, (user, mechanism)))
    put = [each for each in put if each[0] not in faults]
    drop = [each for each in drop if each[0] not in faults]
    if put or drop:
        outcome = await call.backend.users.alter([new for _, new in put], [gone for _, gone in drop])
        for name, _ in (*put, *drop):
            if (fault := _fault(name, outcome)) is not None:
                faults[name] = fault
        for event, user, mechanism in (
            *(("password set", new.user, new.mechanism) for name, new in put if name not in faults),
            *(("password removed", *gone) for name, gone in drop if name not in faults),
        ):
            audit_change(call, event, user=user, mechanism=mechanism)
    for name, (_, text) in faults.items():
        call.refuse(name, text)
    return {"results": [_result(name, faults.get(name)) for name in names]}


def refused(request: AlterUserScramCredentialsRequest, code: ErrorCode, text: str) -> Answer:
    """To who may not change users."""
    named = [one.name for one in request.upsertions] + [one.name for one in request.deletions]
    return {"results": [_result(name, (code, text)) for name in dict.fromkeys(named, True)]}


def _problem(call: Call, request: AlterUserScramCredentialsRequest) -> Fault | None:
    """What stands against all of a request."""
    level = call.backend.catalog.metadata_level
    if len(request.upsertions) + len(request.deletions) > CHANGES_MAX:
        return ErrorCode.INVALID_REQUEST, f"{CHANGES_MAX} changes at once are the most"
    if level < USERS_LEVEL:
        return (
            ErrorCode.UNSUPPORTED_VERSION,
            f"a broker of the cluster does not know users yet (level {level})",
        )
    return OPEN if request.upsertions and not _is_private(call) else None


def _fault(name: str, outcome: CredentialsAltered | Refused | ProposalFailed) -> Fault | None:
    match outcome:
        case CredentialsAltered():
            user = _prepared(name)
            gone = next((mechanism for missing, mechanism in outcome.missing if missing == user), None)
            return None if gone is None else _missing(user, gone)
        case Refused():
            return ErrorCode.UNACCEPTABLE_CREDENTIAL, outcome.detail
        case ProposalFailed():
            return ErrorCode.REQUEST_TIMED_OUT, str(outcome)
        case _:
            assert_never(outcome)


def _is_private(call: Call) -> bool:
    return call.backend.config.is_encrypted(call.origin.listener) or is_this_machine(call.origin.host)


def _made(one: ScramCredentialUpsertion) -> NewCredential | Fault:
    mechanism = MECHANISMS.get(one.mechanism)
    if mechanism is None:
        return _no_mechanism(one.mechanism)
    if len(one.salted_password) != KEY_BYTES[mechanism]:
        return (
            ErrorCode.UNACCEPTABLE_CREDENTIAL,
            f"a salted password of {mechanism} has {KEY_BYTES[mechanism]} bytes",
        )
    try:
        name = prepared(one.name)
    except InvalidInput as error:
        return ErrorCode.UNACCEPTABLE_CREDENTIAL, str(error)
    keys = keys_of(mechanism, one.salted_password)
    made = NewCredential(name, mechanism, one.salt, one.iterations, keys.stored_key, keys.server_key)
    problem = credential_problem(made)
    return made if problem is None else (ErrorCode.UNACCEPTABLE_CREDENTIAL, problem)


def _prepared(name: str) -> str:
    try:
        return prepared(name)
    except InvalidInput:
        return name


def _twice(name: str) -> Fault:
    return ErrorCode.DUPLICATE_RESOURCE, f"user {name!r} is named more than once"


def _no_mechanism(number: int) -> Fault:
    return ErrorCode.UNSUPPORTED_SASL_MECHANISM, f"there is no mechanism {number} for users with a password"


def _missing(name: str, mechanism: str) -> Fault:
    return ErrorCode.RESOURCE_NOT_FOUND, f"user {name!r} has no password for {mechanism}"


def _result(name: str, fault: Fault | None) -> dict[str, object]:
    code, text = fault or (ErrorCode.NONE, None)
    return {"user": name, "error_code": code, "error_message": text}
