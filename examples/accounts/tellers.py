"""Tellers, who change accounts that others change, too; and what must be true of the log in the end, worked
out from the log alone."""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

import trio

import raftlog

ACCOUNTS: Final = ("ann", "bob", "cid")
TELLERS: Final = 4
WISHES: Final = 15
"""Of each teller."""
TRIES_MAX: Final = 100
"""Of one wish: each conflict is somebody else's success."""

Command = tuple[int, int]
"""Its partition and offset."""


class Replies:
    """Hands each reply to who waits for it."""

    def __init__(self) -> None:
        self._told: dict[Command, dict[str, Any]] = {}
        self._news = trio.Event()

    async def keep_reading(self, client: raftlog.Client, *, task_status: trio.TaskStatus[None]) -> None:
        """Until it is cancelled."""
        async with client.consumer(
            "account-replies",
            auto_offset_reset="earliest",
            isolation_level="read_committed",
            fetch_max_wait_ms=50,
        ) as consumer:
            task_status.started()
            async for record in consumer:
                reply = json.loads(record.value)
                partition, offset = reply["command"]
                self._told[partition, offset] = reply
                news, self._news = self._news, trio.Event()
                news.set()

    async def to(self, command: Command) -> dict[str, Any]:
        """The reply to a command."""
        while command not in self._told:
            await self._news.wait()
        return self._told.pop(command)


class Teller:
    """Has seen accounts as they were when somebody last told."""

    def __init__(self, name: str, producer: raftlog.Producer, replies: Replies) -> None:
        self.name = name
        self.refused: Counter[str] = Counter()
        self._producer = producer
        self._replies = replies
        self._versions = dict.fromkeys(ACCOUNTS, 0)
        self._rng = random.Random(name)

    async def work(self) -> None:
        """All wishes, one after the other."""
        for _ in range(WISHES):
            await self._fulfil(
                self._rng.choice(ACCOUNTS),
                {"type": self._rng.choice(("deposit", "withdraw")), "amount": self._rng.randint(1, 50)},
            )

    async def _fulfil(self, account: str, wish: dict[str, Any]) -> None:
        for _ in range(TRIES_MAX):
            command = {**wish, "teller": self.name, "expect": self._versions[account]}
            at = await self._producer.send(
                "account-commands", json.dumps(command).encode(), key=account.encode()
            )
            reply = await self._replies.to((at.partition, at.offset))
            self._versions[account] = reply["version"]
            if "refused" not in reply:
                return
            self.refused[reply["refused"]] += 1
            if reply["refused"] != "conflict":
                return
        raise AssertionError(f"{self.name} was in conflict {TRIES_MAX} times")


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the log says."""

    commands: int
    events: int
    unanswered: int
    wrong: int
    """Replies whose version is not that of the events so far, and balances below nothing."""

    @property
    def is_right(self) -> bool:
        return not (self.unanswered or self.wrong)

    def __str__(self) -> str:
        return (
            f"{self.commands} commands, {self.events} events, {self.unanswered} without a reply,"
            f" {self.wrong} wrong"
        )


def judge(commands: int, events: Iterable[raftlog.Record], replies: Iterable[raftlog.Record]) -> Verdict:
    """Play all events again, and hold the replies against them: each change has made the next version."""
    versions, balances, wrong = Counter[str](), Counter[str](), 0
    for record in events:
        event, account = json.loads(record.value), record.key.decode()
        versions[account] += 1
        balances[account] += event["amount"] * (1 if event["type"] == "deposited" else -1)
        wrong += balances[account] < 0
    answered: set[Command] = set()
    told: dict[str, list[int]] = {account: [] for account in versions}
    for record in replies:
        reply = json.loads(record.value)
        wrong += (*reply["command"],) in answered
        answered.add((*reply["command"],))
        if "refused" not in reply:
            told.setdefault(record.key.decode(), []).append(reply["version"])
    for account, found in told.items():
        wrong += found != list(range(1, versions[account] + 1))
    return Verdict(commands, versions.total(), commands - len(answered), wrong)
