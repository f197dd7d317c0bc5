"""The users with whom a cluster begins: nobody can be asked to make the first one before somebody can log in.

A file names them, with what a password is checked by and no password. Every broker that has it proposes them
when it starts. They are taken once, if the cluster has never had a user: what the file says later means
nothing.

A line is `MECHANISM$ITERATIONS:SALT$STORED-KEY:SERVER-KEY NAME`, as PostgreSQL writes a verifier of SCRAM, in
base64.
"""

from __future__ import annotations

import base64
import binascii
import os
import re
import stat
from typing import Final

from raftlog.cluster.changes import Changes
from raftlog.cluster.proposer import Proposer
from raftlog.errors import ConfigError
from raftlog.metadata.catalog import Catalog
from raftlog.metadata.features import known_to_all
from raftlog.metadata.users import (
    CHANGES_MAX,
    PHANTOM_KEY_BYTES,
    USERS_LEVEL,
    AlterCredentials,
    NewCredential,
    credential_problem,
)

SETTING: Final = "raftlog.bootstrap.users.file"
FILE_BYTES_MAX: Final = 1 << 20
_LINE: Final = re.compile(
    r"(?P<mechanism>[^$\s]+)\$(?P<iterations>[0-9]{1,9}):(?P<salt>[^$\s]+)\$(?P<stored>[^:\s]+):(?P<server>\S+)"
    r" (?P<user>\S.*)"
)


class FirstUsers:
    """Those of a file, on their way into the metadata."""

    def __init__(self, credentials: tuple[NewCredential, ...], proposer: Proposer, catalog: Catalog) -> None:
        self._credentials = credentials
        self._proposer = proposer
        self._catalog = catalog

    async def found(self, changes: Changes) -> None:
        """Until there are users. Returns before when a broker of the cluster has a build that does not know
        users: then a restart of this one brings them, once none has."""
        catalog = self._catalog
        while self._credentials and not catalog.users.has_begun:
            if known_to_all(catalog.brokers.values()) < USERS_LEVEL:
                return
            if catalog.metadata_level < USERS_LEVEL:
                await changes.wait()
                continue
            phantom_key = os.urandom(PHANTOM_KEY_BYTES)
            command = AlterCredentials(phantom_key=phantom_key, put=self._credentials, only_first=True)
            await self._proposer.insist(command)


def read_first_users(path: str) -> tuple[NewCredential, ...]:
    """What a file names; nothing without one. Raises ConfigError, without what is in it."""
    if not path:
        return ()
    try:
        with open(path, "rb") as file:
            mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
            data = file.read(FILE_BYTES_MAX + 1)
        if mode & stat.S_IRWXO:
            raise ConfigError(
                f"{SETTING} = {path!r}: everybody on this machine can read it, and pose as the broker to its"
                f" users: chmod o= {path}"
            )
        if len(data) > FILE_BYTES_MAX:
            raise ConfigError(f"{SETTING} = {path!r}: more than {FILE_BYTES_MAX} bytes")
        lines = data.decode().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise ConfigError(f"{SETTING} = {path!r}: {why}") from None
    found = []
    for number, line in enumerate(lines, 1):
        if line.strip() and not line.startswith("#"):
            credential = _credential(line.strip())
            problem = credential if isinstance(credential, str) else credential_problem(credential)
            if problem is not None:
                raise ConfigError(f"{SETTING} = {path!r}: line {number}: {problem}")
            assert isinstance(credential, NewCredential)
            found.append(credential)
    if not 0 < len(found) <= CHANGES_MAX:
        raise ConfigError(f"{SETTING} = {path!r}: {len(found)} credentials; 1 to {CHANGES_MAX} are taken")
    return tuple(found)


def write_first_user(new: NewCredential) -> str:
    """The line of a credential."""
    salt, stored, server = (
        base64.b64encode(each).decode() for each in (new.salt, new.stored_key, new.server_key)
    )
    return f"{new.mechanism}${new.iterations}:{salt}${stored}:{server} {new.user}"


def _credential(line: str) -> NewCredential | str:
    """What a line says, or why it says nothing."""
    found = _LINE.fullmatch(line)
    if found is None:
        return "it is not MECHANISM$ITERATIONS:SALT$STORED-KEY:SERVER-KEY NAME"
    try:
        salt, stored, server = (
            base64.b64decode(found[part], validate=True) for part in ("salt", "stored", "server")
        )
    except (binascii.Error, ValueError):
        return "salt and keys are not base64"
    return NewCredential(found["user"], found["mechanism"], salt, int(found["iterations"]), stored, server)
