"""What a broker keeps of a password, made where the password is."""

from __future__ import annotations

import os
import secrets
from typing import Final

from raftlog.metadata.users import ITERATIONS_MIN, NewCredential
from raftlog.protocol.sasl import prepared
from raftlog.protocol.scram import HASHES, SALT_BYTES, keys_of, salted

PASSWORD_BYTES: Final = 16
"""Of a password that is made up: 128 bits, which nobody guesses."""


def new_password() -> str:
    return secrets.token_urlsafe(PASSWORD_BYTES)


def credentials_of(user: str, password: str) -> list[NewCredential]:
    """One for each mechanism. Raises InvalidInput for a name that nobody can have."""
    made = []
    for mechanism in HASHES:
        salt = os.urandom(SALT_BYTES)
        keys = keys_of(mechanism, salted(mechanism, password.encode(), salt, ITERATIONS_MIN))
        made.append(NewCredential(prepared(user), mechanism, salt, ITERATIONS_MIN, *keys))
    return made
