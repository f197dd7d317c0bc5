"""Who may log in with a password (KIP-554). A password leaves this process salted, and in no other form."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from functools import partial
from typing import Any, Final, Protocol

import trio

from raftlog.client.arguments import checked
from raftlog.client.errors import raise_error_in
from raftlog.protocol.api import ApiKey
from raftlog.protocol.encode import Fields

ITERATIONS_DEFAULT: Final = 4096
"""As Kafka's tools have it: each login costs a client so much work, and a broker in PLAIN."""
NUMBERS: Final = {"SCRAM-SHA-256": 1, "SCRAM-SHA-512": 2}
MECHANISMS: Final = {number: name for name, number in NUMBERS.items()}


class Asker(Protocol):
    """Asks brokers: see `raftlog.client.operations.Asker`."""

    async def ask_controller(self, api: ApiKey, fields: Fields, what: str) -> Any: ...


@checked()
class Users:
    """Made by `Operations.users`. Errors and cancellation are those of `Admin`: a call that is cancelled may
    have taken effect."""

    def __init__(self, asker: Asker) -> None:
        self._asker = asker

    async def listed(self) -> dict[str, dict[str, int]]:
        """Every user with a password: mechanism to iterations."""
        answer = await self._ask(ApiKey.DESCRIBE_USER_SCRAM_CREDENTIALS, {"users": None}, "list of users")
        raise_error_in(answer, "list of users")
        return {
            str(one.user): {
                MECHANISMS.get(info.mechanism, str(info.mechanism)): info.iterations
                for info in one.credential_infos
            }
            for one in answer.results
        }

    async def set_password(
        self,
        user: str,
        password: str,
        *,
        mechanisms: Iterable[str] = tuple(NUMBERS),
        iterations: int = ITERATIONS_DEFAULT,
    ) -> None:
        """Let a user log in by these mechanisms with this password, and with no other. Connections that the
        user made with another end. Raises BrokerError."""
        from raftlog.protocol.scram import SALT_BYTES, salted

        upsertions = []
        for mechanism in mechanisms:
            salt = os.urandom(SALT_BYTES)
            work = partial(salted, mechanism, password.encode(), salt, iterations)
            upsertions.append(
                {
                    "name": user,
                    "mechanism": NUMBERS[mechanism],
                    "iterations": iterations,
                    "salt": salt,
                    "salted_password": await trio.to_thread.run_sync(work),
                }
            )
        await self._alter(user, {"upsertions": upsertions, "deletions": []}, "password")

    async def remove(self, user: str) -> None:
        """Take all passwords of a user away, and end the connections that were made with them. Raises
        BrokerError when there is no such user."""
        known: Mapping[str, int] = (await self.listed()).get(user) or NUMBERS
        deletions = [{"name": user, "mechanism": NUMBERS[mechanism]} for mechanism in known]
        await self._alter(user, {"upsertions": [], "deletions": deletions}, "removal")

    async def _alter(self, user: str, fields: Fields, what: str) -> None:
        answer = await self._ask(ApiKey.ALTER_USER_SCRAM_CREDENTIALS, fields, f"{what} of user {user!r}")
        for one in answer.results:
            raise_error_in(one, f"user {user!r}")

    async def _ask(self, api: ApiKey, fields: Fields, what: str) -> Any:
        return await self._asker.ask_controller(api, fields, what)
