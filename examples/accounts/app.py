"""The app: what is on an account is what its events have made of it, and nobody withdraws what is not there.

raftlog streams run examples/accounts/app.py:app
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from raftlog import streams as rs


@dataclass(frozen=True)
class Account:
    """An account as of its last event."""

    balance: int = 0

    def apply(self, event: dict[str, Any]) -> Account:
        sign = 1 if event["type"] == "deposited" else -1
        return replace(self, balance=self.balance + sign * event["amount"])


app = rs.App("accounts", guarantee="exactly_once", commit_ms=50)
accounts = app.aggregate("account-events", name="accounts", initial=Account, apply=Account.apply)


@app.commands("account-commands", accounts, replies="account-replies")
def handle(command: dict[str, Any], account: Account, version: int) -> Any:
    """A teller's wish. It says which version of the account the teller has seen."""
    if command.get("expect") != version:
        return rs.Refused("conflict", balance=account.balance)
    if command["type"] == "withdraw":
        if account.balance < command["amount"]:
            return rs.Refused("balance", balance=account.balance)
        return [{"type": "withdrawn", "amount": command["amount"], "teller": command["teller"]}]
    return [{"type": "deposited", "amount": command["amount"], "teller": command["teller"]}]
