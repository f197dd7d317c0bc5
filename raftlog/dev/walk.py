"""The way of a produced batch through the broker that leads its partition. `make docs` writes it into
docs/architecture.md, and the console shows it beside a record that it follows."""

from __future__ import annotations

import importlib
from types import CodeType
from typing import Any, Final

PRODUCE: Final = (
    (
        "broker/connection.py",
        "Connection._serve",
        "receives into a fresh buffer; from there on the batch is never copied",
    ),
    ("broker/connection.py", "Connection._handle", "waits while too much of this client is unanswered"),
    (
        "broker/dispatch.py",
        "Dispatcher.dispatch",
        "opens a place for the answer, decodes the request and calls its handler",
    ),
    ("broker/handlers/produce.py", "handle", "finds the replica of each partition and gives it its batch"),
    (
        "partition/producing.py",
        "Producing.produce",
        "refuses a batch that is too large, damaged or not for this replica",
    ),
    (
        "partition/producing.py",
        "Producing._judge",
        "compares the producer's epoch and sequence with what came before",
    ),
    (
        "partition/producing.py",
        "Producing._append",
        "stamps base offset and leader epoch into the buffer, and proposes it",
    ),
    (
        "raft/leading.py",
        "Leading.propose",
        "appends it to the group's log, keeps the callback and wakes the driver",
    ),
    (
        "storage/group_log.py",
        "GroupLog.append",
        "gives it the next index; it is in memory, pending for the write-ahead log",
    ),
    ("raft/runner.py", "Runner._turn", "begins the next turn of all groups of the broker"),
    (
        "raft/driver.py",
        "Driver.begin",
        "sends the entry to the followers, before the leader's own disk has it",
    ),
    ("storage/store.py", "Store.write", "puts what is pending of all groups into one block"),
    (
        "storage/store.py",
        "WriteTicket.sync",
        "writes the block and waits for one fdatasync, in the loop or in a thread",
    ),
    ("raft/driver.py", "Driver.synced", "tells each group in the block that its part is on the disk"),
    (
        "raft/leading.py",
        "Leading.commit",
        "commits what a majority has on disk, after the own sync or a follower's answer",
    ),
    (
        "storage/group_log.py",
        "GroupLog.commit_to",
        "appends the batch to its segment, and the high watermark moves",
    ),
    ("raft/driver.py", "Driver.finish", "takes from each group what may be applied and answered"),
    (
        "partition/partition.py",
        "Partition.apply",
        "notes the producer's sequence and wakes the fetches that wait",
    ),
    (
        "broker/handlers/produce.py",
        "_Pending.resolve",
        "has one partition's result; the last one makes the answer",
    ),
    ("broker/outbox.py", "Outbox.complete", "sends the answer, in the order of the requests"),
)
"""File, function, and what it does."""


IN_A_THREAD: Final = ("raft/sync_thread.py", "SyncThread.submit", "WriteTicket.sync")
"""File, function, and the step that is begun by it where a sync is waited for in a thread, which is not
watched."""


def place(name: str) -> int:
    """A function's step."""
    return next(number for number, (_, function, _) in enumerate(PRODUCE) if function == name)


def codes() -> dict[CodeType, int]:
    """Which step a function's code is."""
    found = {_code(file, name): number for number, (file, name, _) in enumerate(PRODUCE)}
    file, name, step = IN_A_THREAD
    return {**found, _code(file, name): place(step)}


def _code(file: str, name: str) -> CodeType:
    target: Any = importlib.import_module("raftlog." + file.removesuffix(".py").replace("/", "."))
    for part in name.split("."):
        target = getattr(target, part)
    code: CodeType = target.__code__
    return code
