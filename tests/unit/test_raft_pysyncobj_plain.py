"""More of what plain PySyncObj 0.3.17 does, so that the tests of raftlog's groups are seen to test something.

The letters are those of docs/raft.md. What one scenario shows on both is in the two files beside this one; so
are the tests of the groups.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from pysyncobj.node import Node

from tests.unit.raft_script import Lost, Plain

A, B, C = 1, 2, 3

LEAKY = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
"""The library leaves the file open that it reads its journal's state from."""


def led_by_a(**settings: object) -> Plain:
    """Three brokers that know A as their leader, and nothing on its way."""
    script = Plain(3, **settings)
    script.elect(A, [B])
    script.replicate(A, [B, C])
    script.forget()
    return script


def patient(script: Plain, node: int) -> None:
    """It does not begin an election."""
    script.objects[node]._SyncObj__raftElectionDeadline = script.now + 1000


# b: an acknowledgement moves back what is sent next


def test_plain_sends_again_what_is_under_way() -> None:
    script = led_by_a()
    for payload in (b"one", b"two", b"three"):
        script.propose(A, payload)
    script.turn(A)
    appends = script.take("append", of=A, to=B)
    assert len(appends) == 3
    script.deliver(appends[:1])
    script.deliver(script.take("ack", of=B, to=A))
    script.turn(A)
    again = [entry[0] for flight in script.take("append", of=A, to=B) for entry in flight.message["entries"]]
    assert len(again) == 2 and b"two" in again[0] and b"three" in again[1]


# e: membership


def members(script: Plain, node: int) -> set[int]:
    return {other.id for other in script.objects[node].otherNodes} | {node}


def test_plain_takes_two_changes_at_once() -> None:
    script = led_by_a(dynamicMembershipChange=True)
    leader = script.objects[A]
    committed = leader.raftCommitIndex
    for stranger in (4, 5):
        leader.addNodeToCluster(Node(stranger))
    script.turn(A)
    assert members(script, A) == {1, 2, 3, 4, 5}
    assert leader.raftCommitIndex == committed, "neither is committed"


def test_plain_fails_at_an_ack_of_who_was_removed() -> None:
    script = led_by_a(dynamicMembershipChange=True)
    script.propose(A, b"x")
    script.turn(A)
    script.deliver(script.take("append", of=A, to=C))
    late = script.take("ack", of=C, to=A)
    script.objects[A].removeNodeFromCluster(Node(C))
    script.turn(A)
    assert members(script, A) == {A, B}
    with pytest.raises(KeyError):
        script.deliver(late)


@LEAKY
def test_plain_counts_by_its_old_members_after_a_restart(tmp_path: Path) -> None:
    script = Plain(1, dynamicMembershipChange=True, journalFile=str(tmp_path / "journal"))
    script.campaign(A)
    script.turn(A)
    script.objects[A].addNodeToCluster(Node(B))
    script.turn(A)
    assert members(script, A) == {A, B}
    script.objects[A].destroy()
    script.start(A)
    assert members(script, A) == {A}, "its log says otherwise"
    script.campaign(A)
    assert script.leads(A), "by itself, of two"
    script.objects[A].destroy()


# h: a restart applies everything again, in one tick


@LEAKY
def test_plain_applies_its_whole_log_in_one_tick(tmp_path: Path) -> None:
    script = Plain(1, journalFile=str(tmp_path / "journal"))
    script.campaign(A)
    for number in range(300):
        script.propose(A, b"%d" % number)
    script.turn(A)
    script.objects[A].destroy()
    script.start(A)
    assert script.objects[A].applied == []
    script.campaign(A)
    script.turn(A)
    assert len(script.objects[A].applied) == 300
    script.objects[A].destroy()


# i: forwarding and callbacks


def test_plain_takes_an_old_answer_for_that_to_a_lost_write() -> None:
    """Request ids begin at 1 again after a restart."""
    script = led_by_a()
    patient(script, B)
    script.propose(B, b"first")
    script.deliver(script.take("other", of=B, to=A))
    script.turn(A)
    late = script.take("other", of=A, to=B)
    assert [flight.message["type"] for flight in late] == ["apply_command_response"]
    script.crash(B)
    script.start(B)
    patient(script, B)
    script.turn(A)
    script.deliver(script.take("heartbeat", of=A, to=B) + script.take("append", of=A, to=B))
    patient(script, B)
    script.propose(B, b"second")
    script.take("other", of=B, to=A)  # lost
    script.deliver(late)
    script.replicate(A, [B, C])
    with pytest.raises(Lost, match="second"):
        script.check()


def test_plain_applies_an_entry_twice_when_its_callback_raises() -> None:
    script = Plain(1)
    script.campaign(A)
    script.turn(A)

    def fail(result: object, error: int) -> None:
        raise ValueError("a callback")

    script.objects[A].write(b"x", callback=fail)
    script.turn(A)
    with pytest.raises(ValueError, match="a callback"):
        script.turn(A)
    script.turn(A)
    assert script.objects[A].applied == [b"x", b"x"]


# k: a snapshot message moves the commit index


def test_plain_commits_a_divergent_tail_at_a_snapshot_message() -> None:
    """Also when the message holds no snapshot, as one does for a follower below the start of the log."""
    script = led_by_a()
    stale = [script.propose(A, b"stale %d" % number) for number in range(3)]
    script.forget()
    script.elect(C, [B])
    for number in range(3):
        script.propose(C, b"new %d" % number)
    script.replicate(C, [B])
    leader = script.objects[C]
    message = {
        "type": "append_entries",
        "term": leader.raftCurrentTerm,
        "commit_index": leader.raftCommitIndex,
        "serialized": None,
    }
    script.objects[A]._SyncObj__onMessageReceived(Node(C), message)
    script.turn(A)
    assert script.objects[A].applied == [write.payload for write in stale]


# m: backtracking


def test_plain_goes_back_one_index_a_round_trip() -> None:
    script = led_by_a()
    for number in range(30):
        script.propose(A, b"stale %d" % number)
    script.forget()
    script.elect(C, [B])
    script.forget()
    for number in range(40):
        script.propose(C, b"new %d" % number)
    script.replicate(C, [B])
    script.forget()
    rounds = 0
    while script.log(A) != script.log(C):
        script.turn(C)
        script.deliver(script.take("append", to=A) + script.take("heartbeat", to=A))
        script.deliver(script.take("ack", of=A, to=C))
        rounds += 1
        assert rounds < 200
    assert rounds >= 30


# n: flow control


def test_plain_sends_the_whole_tail_in_one_tick() -> None:
    script = led_by_a(appendEntriesBatchSizeBytes=1000)
    for _ in range(300):
        script.objects[A].write(bytes(100))
    script.turn(A)
    script.turn(A)
    script.forget()  # C hears nothing of it, and says so
    script.objects[A]._SyncObj__onMessageReceived(
        Node(C), {"type": "next_node_idx", "next_node_idx": 3, "reset": True, "success": False}
    )
    script.turn(A)
    appends = script.take("append", of=A, to=C)
    assert len(appends) > 30 and sum(len(flight.message["entries"]) for flight in appends) >= 300
