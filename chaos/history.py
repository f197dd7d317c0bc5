"""What clients did, what they were told, and what was done to the brokers meanwhile.

An operation ended *ok*, it *failed* and surely did not happen, or its end is *unknown*: a time-out, a lost
connection, a client that died (Jepsen's model). Getting this right is half the value of a history: what is
called failed and happened all the same is a violation, so whoever is not sure says unknown.

A *log* is what a partition is of: a topic's name, and for topics that are deleted and created again the name
with a number, `churn@3`, since each of them is another log. Moments are seconds since the run began. A
history is written as lines of JSON, the first of which says the format's version and what was run.
"""

from __future__ import annotations

import dataclasses
import gzip
import json
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import IO, Any, Final, TypeVar, cast

VERSION: Final = 1

NEVER: Final = float("inf")


class Outcome(Enum):
    OK = "ok"
    FAILED = "failed"
    UNKNOWN = "unknown"


@dataclass(slots=True, kw_only=True)
class Operation:
    """`client` did something from `began` to `ended`; `why` is the error that it was told."""

    client: str
    began: float = 0.0
    ended: float = NEVER
    outcome: Outcome = Outcome.UNKNOWN
    why: str = ""


@dataclass(slots=True, kw_only=True)
class Send(Operation):
    """One record. `offset` is -1 as long as nobody said where it lies; `expected` is -1 where any will do."""

    log: str
    partition: int
    value: str
    offset: int = -1
    key: str = ""
    expected: int = -1


@dataclass(slots=True, kw_only=True)
class Read(Operation):
    """Records of one partition that a client was handed at once, in that order. `is_fresh`: the first since
    the client was given the partition. `group`: empty for a client that reads by itself."""

    log: str
    partition: int
    records: list[tuple[int, str]]
    is_fresh: bool = False
    group: str = ""


@dataclass(slots=True, kw_only=True)
class Bounds(Operation):
    """Where a partition begins and ends, as a broker said."""

    log: str
    partition: int
    low: int = -1
    high: int = -1


@dataclass(slots=True, kw_only=True)
class Commit(Operation):
    """A member of a group committed the offset of the next record that it wants."""

    group: str
    log: str
    partition: int
    offset: int


@dataclass(slots=True, kw_only=True)
class Committed(Operation):
    """What is committed, as somebody was told who is no member; -1 for nothing."""

    group: str
    log: str
    partition: int
    offset: int = -1


@dataclass(slots=True, kw_only=True)
class FinalRead(Operation):
    """A partition from end to end, read by a fresh client after all faults."""

    log: str
    partition: int
    low: int = -1
    high: int = -1
    records: list[tuple[int, str]] = field(default_factory=list)


@dataclass(slots=True, kw_only=True)
class Transaction(Operation):
    """`values` were sent to a log together. `is_commit`: what its producer asked for, or would have. `inputs`
    are the (partition, offset) in `source` of which the values are copies, one each."""

    log: str
    is_commit: bool = True
    values: list[str] = field(default_factory=list)
    source: str = ""
    inputs: list[tuple[int, int]] = field(default_factory=list)


@dataclass(slots=True, kw_only=True)
class Counted(Operation):
    """What a stream processing app that counts the records of a log said of a key, in order, to readers of
    what is committed."""

    log: str
    key: str
    counts: list[int] = field(default_factory=list)


@dataclass(slots=True, kw_only=True)
class TopicChange(Operation):
    """`action` is created or deleted; `topic_id` is what the brokers called this one."""

    action: str
    log: str
    topic_id: str = ""


@dataclass(slots=True, kw_only=True)
class Replica(Operation):
    """What a stopped broker has on its disk of a partition, as a digest; `why` says what is wrong with it."""

    broker: int
    log: str
    partition: int
    digest: str = ""
    bytes: int = 0


@dataclass(slots=True, kw_only=True)
class Led(Operation):
    """Who leads a partition, and in which epoch, as a client was told; -1 for nobody."""

    log: str
    partition: int
    broker: int
    epoch: int = -1


@dataclass(slots=True, kw_only=True)
class Fault(Operation):
    """What was done to brokers, until it was taken back. `seen` is its effect, as it was looked at; a fault
    that had none failed."""

    kind: str
    what: str
    brokers: list[int]
    seen: str = ""


@dataclass(slots=True, kw_only=True)
class Goal(Operation):
    """What a scenario asks for besides the properties that hold always: it failed or is ok, or it is unknown
    where a limit was missed only by what the machine stood still. `measured` and `limit`: the figure that was
    seen, and what it may be at most; below nothing where there is none."""

    what: str
    seen: str = ""
    measured: float = -1.0
    limit: float = -1.0


@dataclass(slots=True, kw_only=True)
class Stall(Operation):
    """The machine stood still, whatever the brokers did. `what`: its clock, its disk, or its processors."""

    what: str


@dataclass(slots=True, kw_only=True)
class Note(Operation):
    """Something that must not happen at all, by whom it happened to: a client that hangs or gives up."""

    text: str


KINDS: Final[Mapping[str, type[Operation]]] = {
    kind.__name__: kind
    for kind in (
        Send,
        Read,
        Bounds,
        Commit,
        Committed,
        FinalRead,
        Transaction,
        Counted,
        TopicChange,
        Replica,
        Led,
        Fault,
        Goal,
        Stall,
        Note,
    )
}

Op = TypeVar("Op", bound=Operation)


@dataclass(slots=True, kw_only=True)
class Head:
    """What was run. `producers` says of each writer whether it is idempotent."""

    scenario: str = ""
    workload: str = ""
    seed: int = 0
    seconds: float = 0.0
    brokers: int = 0
    commit: str = ""
    machine: str = ""
    at: str = ""
    plant: str = ""
    secured: bool = False
    """Clients logged in, in TLS, and brokers knew each other by a secret."""
    producers: dict[str, bool] = field(default_factory=dict)
    sparse: list[str] = field(default_factory=list)
    """Logs in whose offsets there are holes."""
    compacted: list[str] = field(default_factory=list)
    """Logs of which only the last value of each key has to stay."""
    rounds: int = 0
    """How often the scenario did what it does."""
    is_whole: bool = False
    """Everything was done that was planned: a history that is not whole is not good."""


class NotAHistory(Exception):
    """A file that is none, or of a version that this code does not know."""


class History:
    """Operations in the order in which they began. Any thread may write."""

    def __init__(self, head: Head | None = None) -> None:
        self.head = head or Head()
        self.operations: list[Operation] = []
        self.acknowledged: Counter[str] = Counter()
        """Records by client, so far."""
        self._started = time.monotonic()
        self._lock = threading.Lock()

    def now(self) -> float:
        """Seconds since the history began."""
        return time.monotonic() - self._started

    def begin(self, operation: Op) -> Op:
        """Enter what is about to be done: call it before, and `end` after, never the other way round."""
        with self._lock:
            operation.began = self.now()
            self.operations.append(operation)
        return operation

    def end(self, operation: Operation, outcome: Outcome, why: str = "") -> None:
        """What became of it."""
        with self._lock:
            operation.ended = self.now()
            operation.outcome = outcome
            operation.why = why
            if isinstance(operation, Send) and outcome is Outcome.OK:
                self.acknowledged[operation.client] += 1

    def enter(self, operation: Operation, began: float) -> None:
        """What is known only now that it is over, and went well."""
        with self._lock:
            operation.began, operation.ended, operation.outcome = began, self.now(), Outcome.OK
            self.operations.append(operation)

    def note(self, client: str, text: str) -> None:
        self.end(self.begin(Note(client=client, text=text)), Outcome.FAILED)

    def of(self, kind: type[Op]) -> Iterator[Op]:
        """Every operation of a kind, of those that have been entered when this begins."""
        with self._lock:
            entered = list(self.operations)
        return (one for one in entered if isinstance(one, kind))

    def save(self, path: Path) -> None:
        """Write it; a name that ends in .gz is compressed."""
        with _open(path, "wt") as file:
            head = {"history": VERSION, **dataclasses.asdict(self.head)}
            file.write(json.dumps(head) + "\n")
            for operation in self.operations:
                file.write(json.dumps(_encode(operation), separators=(",", ":")) + "\n")

    @classmethod
    def load(cls, path: Path) -> History:
        """Raises NotAHistory."""
        try:
            with _open(path, "rt") as file:
                head = json.loads(file.readline())
                if head.pop("history", None) != VERSION:
                    raise NotAHistory(f"{path} is no history of version {VERSION}")
                history = cls(Head(**head))
                history.operations = [_decode(json.loads(line)) for line in file]
        except (ValueError, KeyError, TypeError, AttributeError, EOFError, gzip.BadGzipFile) as error:
            raise NotAHistory(f"{path}: {error!r}") from error
        return history


def _open(path: Path, mode: str) -> IO[Any]:
    if path.suffix == ".gz":
        return cast(IO[Any], gzip.open(path, mode, 6))
    return path.open(mode)


def _encode(operation: Operation) -> dict[str, Any]:
    """Without what is as it is by default: most of a history is sends, and every byte is there often."""
    fields: dict[str, Any] = {"is": type(operation).__name__}
    for one in dataclasses.fields(operation):
        value = getattr(operation, one.name)
        if value != one.default:
            fields[one.name] = value.value if isinstance(value, Outcome) else value
    for name in ("began", "ended"):
        if name in fields:
            fields[name] = round(fields[name], 6)
    return fields


def _decode(fields: dict[str, Any]) -> Operation:
    kind = KINDS[fields.pop("is")]
    if "outcome" in fields:
        fields["outcome"] = Outcome(fields["outcome"])
    if "records" in fields:
        fields["records"] = [(int(offset), str(value)) for offset, value in fields["records"]]
    if "inputs" in fields:
        fields["inputs"] = [(int(partition), int(offset)) for partition, offset in fields["inputs"]]
    return kind(**fields)
