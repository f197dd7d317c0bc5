"""How proposals end when leadership does: what may still happen is never said to be impossible."""

from __future__ import annotations

from raftlog.raft.messages import Append, HeartbeatReply, Vote
from raftlog.raft.values import Outcome
from raftlog.types import BrokerId, RaftIndex, Term
from tests.unit.raft_cluster import KEY, Cluster


def test_an_entry_that_left_with_the_answer_to_an_acknowledgement_may_still_happen() -> None:
    """Found by the simulation: an acknowledgement makes the leader send at once what was proposed since its
    last turn; when a newer term arrives in the same turn, that is on its way all the same."""
    cluster = Cluster(3)
    leader = cluster.elect(1)
    cluster.run(0.5)
    node = cluster[leader]
    term, last = node.group.term, node.log.last_index
    proposal = cluster.propose(leader, b"x")
    cluster.sent.clear()
    node.driver.receive(BrokerId(2), [HeartbeatReply(KEY, term, last, 1)])
    newer = Term(term + 1)
    node.driver.receive(BrokerId(3), [Vote(KEY, newer, RaftIndex(last), term, True, False)])
    cluster.turn(node)
    sent = [m for _, _, _, m in cluster.sent if isinstance(m, Append) and proposal.entry in m.entries]
    assert sent and not node.group.is_leader
    assert proposal.outcome is Outcome.MAY_STILL_HAPPEN
