"""Every checker, on a right history and on one that is wrong for what it looks for."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from chaos.checkers import CHECKERS, Judgement, judge
from chaos.history import (
    Bounds,
    Commit,
    Committed,
    Counted,
    Fault,
    FinalRead,
    Goal,
    History,
    Led,
    Note,
    Operation,
    Outcome,
    Read,
    Replica,
    Send,
    TopicChange,
    Transaction,
)

OK, FAILED, UNKNOWN = Outcome.OK, Outcome.FAILED, Outcome.UNKNOWN


def led(broker: int, epoch: int, at: float) -> Led:
    return Led(
        client="watch", log="log", partition=0, broker=broker, epoch=epoch, began=at, ended=at, outcome=OK
    )


def send(
    value: str, offset: int = -1, outcome: Outcome = OK, at: float = 1.0, log: str = "log", why: str = ""
) -> Send:
    return Send(
        client=value.partition(":")[0],
        log=log,
        partition=0,
        value=value,
        offset=offset,
        outcome=outcome,
        began=at,
        ended=at + 0.1,
        why=why,
    )


def read(
    *records: tuple[int, str], at: float = 2.0, fresh: bool = False, group: str = "", by: str = "r"
) -> Read:
    return Read(
        client=by,
        log="log",
        partition=0,
        records=list(records),
        began=at,
        ended=at + 0.1,
        outcome=OK,
        is_fresh=fresh,
        group=group,
    )


def final(
    *values: str, high: int | None = None, low: int = 0, outcome: Outcome = OK, log: str = "log"
) -> FinalRead:
    return FinalRead(
        client="look",
        log=log,
        partition=0,
        low=low,
        high=low + len(values) if high is None else high,
        records=list(enumerate(values, low)),
        outcome=outcome,
        began=9.0,
        ended=9.5,
    )


def sparse() -> FinalRead:
    read = final("t:0", high=4, log="sparse")
    read.records.append((2, "t:1"))
    return read


def put(key: str, value: str, offset: int, outcome: Outcome = OK) -> Send:
    one = send(value, offset, outcome, log="dict")
    one.key = key
    return one


def hole() -> FinalRead:
    read = final("a:0", high=3)
    read.records.append((2, "a:1"))
    return read


def bounds(high: int, at: float) -> Bounds:
    return Bounds(
        client="asker", log="log", partition=0, low=0, high=high, began=at, ended=at + 0.1, outcome=OK
    )


def commit(offset: int, at: float, by: str = "m", outcome: Outcome = OK) -> Commit:
    return Commit(
        client=by, group="g", log="log", partition=0, offset=offset, began=at, ended=at + 0.1, outcome=outcome
    )


def committed(offset: int, at: float = 9.0) -> Committed:
    return Committed(
        client="look", group="g", log="log", partition=0, offset=offset, began=at, ended=at + 0.1, outcome=OK
    )


def replica(broker: int, digest: str, outcome: Outcome = OK, why: str = "") -> Replica:
    return Replica(
        client="look", broker=broker, log="log", partition=0, digest=digest, bytes=9, outcome=outcome, why=why
    )


def transaction(
    *values: str, commit: bool = True, outcome: Outcome = OK, inputs: tuple[int, ...] = ()
) -> Transaction:
    return Transaction(
        client="t",
        log="log",
        values=list(values),
        is_commit=commit,
        outcome=outcome,
        source="in" if inputs else "",
        inputs=[(0, offset) for offset in inputs],
    )


def counted(key: str, *counts: int, log: str = "in", outcome: Outcome = OK) -> Counted:
    return Counted(client="look", log=log, key=key, counts=list(counts), outcome=outcome)


def created(log: str, topic_id: str) -> TopicChange:
    return TopicChange(client="churn", action="created", log=log, topic_id=topic_id, outcome=OK)


RIGHT: list[Operation] = [
    send("a:0", 0),
    send("b:0", 1),
    send("plain:0", 2),
    send("a:1", outcome=UNKNOWN, why="KafkaError{code=_MSG_TIMED_OUT,val=-192}"),
    send("a:2", 5),
    send("a:3", outcome=FAILED, why="too large"),
    send("b:1", -1),  # acknowledged, and nobody said where
    read((0, "a:0"), (1, "b:0"), fresh=True),
    read((2, "plain:0"), at=3.0),
    read((0, "a:0"), (1, "b:0"), group="g", by="m", fresh=True),
    commit(2, 4.0),
    bounds(6, 2.0),
    committed(2),
    final("a:0", "b:0", "plain:0", "plain:0", "b:1", "a:2"),
    replica(1, "x"),
    replica(2, "x"),
    led(1, 1, at=0.5),
    led(2, 2, at=2.5),
    created("t@0", "id0"),
    created("t@1", "id1"),
    send("t:0", 0, log="sparse"),
    send("t:1", 2, log="sparse"),
    send("in:0", 0, log="in"),
    Send(client="a", log="log", partition=0, value="a:9", expected=5, outcome=FAILED, began=1.0, ended=1.1),
    FinalRead(
        client="look", log="sparse", partition=0, low=0, high=4, records=[(0, "t:0"), (2, "t:1")], outcome=OK
    ),
    final("in:0", log="in"),
    put("k", "a:7", 0),
    put("k", "a:8", 1),
    final("a:8", log="dict", low=1),
    transaction("t:0", inputs=(0,)),
    transaction("t:1", outcome=UNKNOWN),
    transaction("t:2", commit=False),
    Fault(client="chaos", kind="kill", what="kill 1", brokers=[1], outcome=OK),
    Goal(client="chaos", what="a goal", outcome=OK),
    counted("in-0", 1),
]


def history(operations: list[Operation]) -> History:
    made = History()
    made.operations = operations
    made.head.producers = {"a": True, "b": True, "plain": False}
    made.head.sparse = ["sparse", "dict"]
    made.head.compacted = ["dict"]
    made.head.is_whole = True
    return made


def test_a_right_history_is_good() -> None:
    verdict = judge(history(RIGHT))
    assert verdict.judgement is Judgement.GOOD, [
        (finding.name, finding.unfinished, finding.violations)
        for finding in verdict.findings
        if finding.judgement is not Judgement.GOOD
    ]
    assert all(finding.checked for finding in verdict.findings), "each looked at something"


WRONG: dict[str, list[tuple[str, list[Operation]]]] = {
    "lost": [("not in the log", [send("a:0", 0), final()])],
    "moved": [
        ("it is at", [send("a:0", 1), send("b:0", 5, UNKNOWN), final("a:0", "b:0")]),
        ("for two records", [send("a:0", 0), send("b:0", 0), final("a:0", "b:0")]),
    ],
    "two-values": [
        (
            "was b:0 for one reader and a:0 for another",
            [send("a:0"), send("b:0"), read((0, "a:0")), final("b:0", "a:0")],
        )
    ],
    "read-stays": [("the log ends at 1", [send("a:0"), send("a:1"), read((1, "a:1")), final("a:0")])],
    "duplicated": [("log-0@0 and log-0@1", [send("a:0"), final("a:0", "a:0")])],
    "reordered": [("comes behind", [send("a:0"), send("a:1"), final("a:1", "a:0")])],
    "invented": [
        ("nobody sent", [send("a:0"), final("a:7")]),
        ("is damaged", [send("a:0"), final("?00ff")]),
        ("was sent to t@0-0", [send("a:0", log="t@0"), final("a:0", log="t@1")]),
        ("is damaged", [send("a:0"), read((0, "?61")), final("a:0")]),
    ],
    "undead": [
        ("failed (refused) and is at", [send("a:0", outcome=FAILED, why="refused"), final("a:0")]),
        ("failed and was read", [send("a:0", outcome=FAILED), read((0, "a:0")), final()]),
    ],
    "real-time": [
        ("was known before", [send("b:0", 1, at=1.0), send("a:0", at=2.0), final("a:0", "b:0")]),
        (
            "was known before",
            [send("b:0", outcome=UNKNOWN), read((1, "b:0")), send("a:0", at=3.0), final("a:0", "b:0")],
        ),
    ],
    "dense": [
        ("ends at 5", [send("a:0"), final("a:0", high=5)]),
        ("where 1 should be", [send("a:0"), send("a:1"), hole()]),
    ],
    "reads-in-order": [
        ("not 1", [send("a:0"), read((0, "a:0"), (2, "a:2"))]),
        ("not 1", [read((0, "a:0"), fresh=True), read((0, "a:0"), at=3.0)]),
        ("not 1", [read((0, "a:0"), fresh=True), read((5, "a:5"), at=3.0)]),
    ],
    "recent": [
        ("was told 3", [send("a:0", 3, at=1.0), bounds(3, 2.0)]),
        ("was told 4", [bounds(5, 1.0), bounds(4, 2.0)]),
    ],
    "commits-stay": [
        ("5 was committed", [commit(5, 1.0), commit(4, 2.0)]),
        ("5 was committed", [commit(5, 1.0), read((3, "a:3"), at=2.0, fresh=True, group="g")]),
        ("5 was committed", [commit(5, 1.0), committed(-1)]),
    ],
    "commits-tried": [("at most 5", [commit(5, 1.0), committed(6)])],
    "group-skips": [
        ("nobody got a:1", [read((0, "a:0"), group="g", fresh=True), commit(2, 4.0), final("a:0", "a:1")])
    ],
    "one-owner": [
        (
            "m committed after n",
            [
                read((0, "a:0"), at=1.0, fresh=True, group="g", by="m"),
                commit(1, 1.5, by="m"),
                read((1, "a:1"), at=2.0, fresh=True, group="g", by="n"),
                commit(2, 3.0, by="n"),
                commit(2, 4.0, by="m"),
            ],
        )
    ],
    "torn": [
        ("a:1 is not", [transaction("a:0", "a:1", outcome=UNKNOWN), send("a:0"), final("a:0")]),
        ("was told of a commit", [transaction("a:0"), send("b:0"), final("b:0")]),
    ],
    "aborted-read": [
        ("and is at log-0@0", [transaction("a:0", commit=False), send("a:0"), final("a:0")]),
        (
            "was read at log-0@0",
            [transaction("a:0", commit=False, outcome=UNKNOWN), read((0, "a:0")), send("b:0"), final("b:0")],
        ),
    ],
    "copied": [
        (
            "copied 2 times",
            [
                transaction("a:0", inputs=(0,)),
                transaction("a:1", inputs=(0,)),
                final("a:0", "a:1"),
                final("i:0", log="in"),
            ],
        ),
        (
            "copied 0 times",
            [transaction("a:0", inputs=(0,)), final("a:0"), final("i:0", "i:1", log="in")],
        ),
    ],
    "unexpected": [
        (
            "a:1 expected",
            [
                send("a:0", 0),
                Send(client="a", log="log", partition=0, value="a:1", expected=0, began=1.0, ended=1.1),
                final("a:0", "a:1"),
            ],
        ),
    ],
    "dictionary": [
        (
            "its last is at 0",
            [put("k", "a:0", 0), put("k", "a:1", 1), put("j", "a:2", 2), final("a:0", high=3, log="dict")],
        ),
        ("its last is at -1", [put("k", "a:0", 0), final(log="dict")]),
    ],
    "counted": [
        ("counted 3 times, and has 2 at place 3", [final("a:0", "a:20", log="in"), counted("a-0", 1, 2, 2)]),
        ("counted 1 times, and ends at 1", [final("a:0", "a:20", log="in"), counted("a-0", 1)]),
        ("counted 2 times, and has 3 at place 2", [final("a:0", "a:20", log="in"), counted("a-0", 1, 3)]),
        (
            "a-1 came 1 times, was counted 0 times",
            [final("a:0", "a:1", log="in"), counted("a-0", 1)],
        ),
        ("a-7 came 0 times", [final("a:0", log="in"), counted("a-0", 1), counted("a-7", 1)]),
    ],
    "replicas-equal": [
        ("differs", [replica(1, "x"), replica(2, "y")]),
        ("a bad CRC", [replica(1, "x", FAILED, "a bad CRC")]),
    ],
    "one-leader": [("epoch 2: 1 and 3", [led(1, 2, at=1.0), led(2, 3, at=2.0), led(3, 2, at=3.0)])],
    "topics": [("has the id of t@0", [created("t@0", "id"), created("t@1", "id")])],
    "clients": [
        ("hangs", [Note(client="a", text="hangs", outcome=FAILED)]),
        ("OUT_OF_ORDER", [send("a:0", outcome=UNKNOWN, why="OUT_OF_ORDER_SEQUENCE_NUMBER")]),
    ],
    "effect": [
        (
            "kill 1: it ran",
            [Fault(client="c", kind="kill", what="kill 1", brokers=[1], outcome=FAILED, why="it ran")],
        ),
        ("not known", [Fault(client="c", kind="kill", what="kill 1", brokers=[1])]),
    ],
    "goals": [("a goal: 9 s", [Goal(client="c", what="a goal", seen="9 s", outcome=FAILED)])],
}


@pytest.mark.parametrize(
    ("name", "text", "operations"),
    [(name, text, operations) for name, cases in WRONG.items() for text, operations in cases],
    ids=[f"{name}-{number}" for name, cases in WRONG.items() for number, _ in enumerate(cases)],
)
def test_a_wrong_history_is_found(name: str, text: str, operations: list[Operation]) -> None:
    verdict = judge(history(operations))
    assert verdict.judgement is Judgement.WRONG
    found = {finding.name: finding for finding in verdict.findings}[name]
    assert found.judgement is Judgement.WRONG, found
    assert any(text in violation.text for violation in found.violations), found.violations


UNFINISHED: dict[str, list[Operation]] = {
    "lost": [send("a:0", 0), final("a:0", outcome=UNKNOWN)],
    "dense": [send("a:0", 0)],
    "replicas-equal": [send("a:0", 0), final("a:0")],
    "load": [final()],
    "counted": [send("in:0", 0, log="in"), final("in:0", log="in"), counted("", outcome=UNKNOWN)],
    "goals": [Goal(client="c", what="a goal", seen="9 s, the machine stood still for 5", outcome=UNKNOWN)],
}


@pytest.mark.parametrize("name", UNFINISHED)
def test_what_could_not_be_looked_at_is_not_good(name: str) -> None:
    verdict = judge(history(UNFINISHED[name]))
    found = {finding.name: finding for finding in verdict.findings}[name]
    assert found.judgement is Judgement.UNKNOWN and found.unfinished
    assert verdict.judgement is Judgement.UNKNOWN


def test_every_checker_has_a_wrong_history() -> None:
    names = {checker_name(checker) for checker in CHECKERS}
    assert names == set(WRONG) | set(UNFINISHED)


def checker_name(checker: Callable[..., object]) -> str:
    from chaos.checkers import View

    return str(checker(View(history([]))).name)  # type: ignore[attr-defined]


def test_a_history_that_is_not_whole_is_not_good() -> None:
    broken = history(RIGHT)
    broken.head.is_whole = False
    assert judge(broken).judgement is Judgement.UNKNOWN


def test_a_duplicate_of_a_producer_that_is_not_idempotent_is_allowed() -> None:
    verdict = judge(history([send("plain:0", 0), final("plain:0", "plain:0"), replica(1, "x")]))
    assert verdict.judgement is Judgement.GOOD
