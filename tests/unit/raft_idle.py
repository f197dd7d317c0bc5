"""What a group still has to do, asked of its parts one by one, as if the driver could not be trusted.

The driver handles the groups that something woke, and no others. `left_out` names those that it would have
to handle although nothing woke them: a group with something to send, to acknowledge, to commit, to apply, to
answer or to tell that is not in the next turn, and that neither the disk nor a deadline brings back.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from raftlog.raft.driver import Driver
from raftlog.raft.group import RaftGroup
from raftlog.raft.leadership import Leadership
from raftlog.types import RaftIndex


def left_out(driver: Driver) -> str | None:
    """The first group that has work and is not awake, with what it has to do. Ask between two turns.

    Most groups have none, and are asked after every turn of a simulation: what a group keeps is read where
    it lies, and what would be counted or compared only where it can come to something.
    """
    for member in driver._members.values():
        if member.is_active:
            continue
        group = member.group
        work = _work(group, driver)
        if group.turning.replica.parts.news.is_waiting:
            work.append("a change to tell its state machine")
        if _is_due_before(group, member.scheduled_at):
            work.append("a deadline that no turn will come for")
        if work:
            return f"{group} is not awake and has {', '.join(work)}"
    return None


def _is_due_before(group: RaftGroup, at: float) -> bool:
    """A damaged entry is left out: a read may have seen it, and its next deadline repairs it."""
    if group.log.damage.rot is not None:
        return False
    # Without damage there is nothing to be repaired in time, and nobody asks for votes before this.
    leading = group.turning.replica.parts.leading
    earliest = (
        group.turning.replica.parts.engine.election_deadline
        if leading.leadership is None
        else leading.beat_due
    )
    return earliest < at and group.turning.next_deadline < at


def _work(group: RaftGroup, driver: Driver) -> list[str]:
    work: list[str] = []
    log, outbox, leading = group.log, group.turning.replica.parts.outbox, group.turning.replica.parts.leading
    leadership, proposals = leading.leadership, leading.proposals
    if outbox._before_sync:
        work.append("messages to send")
    if not outbox.is_hard_state_durable:
        if not _waits_for_disk(log, driver):
            work.append("a term that no write makes durable")
    elif outbox._after_sync:
        work.append("replies to send")
    if group.turning.replica.parts.applying.is_behind:
        work.append("entries to apply")
    waiting = proposals._waiting
    if proposals._ended or (waiting and waiting[0][0].index <= group.applied_index):
        work.append("proposals to answer")
    if leading._failed_reads:
        work.append("reads to refuse")
    if (
        group.turning.replica.parts.news._truncated_from is not None
        or group.turning.replica.parts.news._was_restored
    ):
        work.append("a cut of its log to tell")
    if log.damage.lost is not None:
        return work
    last_index = log.last_index
    if log.entries.synced_index < last_index and not _waits_for_disk(log, driver):
        work.append("entries that no write makes durable")
    if leadership is not None:
        work += _work_of_leader(group, leadership, driver)
        return work
    following = group.turning.replica.parts.following
    if following._owes_ack and group.leader is not None and following.match_index <= log.entries.synced_index:
        work.append("an acknowledgement to give")
    # No more than what is synced is committable.
    if log.commit_index < log.entries.synced_index and following.committable_index > log.commit_index:
        work.append("entries to commit")
    return work


def _waits_for_disk(log: Any, driver: Driver) -> bool:
    """Something of the log is in the write that is being synced, or in the next one."""
    store: Any = getattr(driver.store, "store", driver.store)
    touched = store.touched if hasattr(store, "touched") else store._context.touched
    return log in touched or (driver._ticket is not None and log in driver._ticket.logs)


def _work_of_leader(group: RaftGroup, leadership: Leadership, driver: Driver) -> Iterator[str]:
    log = group.log
    last_index, commit_index = log.last_index, log.commit_index
    # Nothing is committable behind the log's end.
    # A change of members moves what is committable; its own entry's sync brings the group back.
    is_committable = commit_index < last_index and leadership.committable_index() > commit_index
    if is_committable and not _waits_for_disk(log, driver):
        yield "entries to commit"
    if leadership.reads.is_round_wanted:
        yield "a round to ask"
    if leadership.sent_index < last_index:
        yield "entries that were offered to nobody"
    for peer in leadership._peers:
        index = leadership._next[peer]
        if index > last_index or not peer.may_send:
            continue
        is_below = log.term_at(RaftIndex(index - 1)) is None  # it has been sent a snapshot, and answers beats
        window = peer.window
        # For others' acknowledgements, or the next heartbeat's.
        waits = peer in window._waiting or peer in window._granted
        if not is_below and not waits:
            yield "entries to send"
    for round_, index, _ in list(leadership.reads._waiting)[:1]:
        is_applied = max(index, leadership.first_index) <= group.applied_index
        if leadership.has_committed and is_applied and round_ <= leadership.reads.confirmed_round:
            yield "reads to answer"
