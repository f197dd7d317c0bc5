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
    """The first group that has work and is not awake, with what it has to do. Ask between two turns."""
    for member in driver._members.values():
        if member.is_active:
            continue
        group = member.group
        work = list(_work(group, driver))
        if group._news.is_waiting:
            work.append("a change to tell its state machine")
        is_rotten = group.log.rot is not None  # a read may have seen it; its next deadline repairs it
        if group.next_deadline < member.scheduled_at and not is_rotten:
            work.append("a deadline that no turn will come for")
        if work:
            return f"{group} is not awake and has {', '.join(work)}"
    return None


def _work(group: RaftGroup, driver: Driver) -> Iterator[str]:
    if group._outbox._before_sync:
        yield "messages to send"
    if not group._outbox.is_hard_state_durable and not _waits_for_disk(group.log, driver):
        yield "a term that no write makes durable"
    if group._outbox._after_sync and group._outbox.is_hard_state_durable:
        yield "replies to send"
    if group._applying.is_behind:
        yield "entries to apply"
    proposals = group._leading.proposals
    if proposals._ended or (proposals._waiting and proposals._waiting[0][0].index <= group.applied_index):
        yield "proposals to answer"
    if group._leading._failed_reads:
        yield "reads to refuse"
    if group._news._truncated_from is not None or group._news._was_restored:
        yield "a cut of its log to tell"
    if group.log.damage is not None:
        return
    if group.log.synced_index < group.log.last_index and not _waits_for_disk(group.log, driver):
        yield "entries that no write makes durable"
    leadership = group._leading.leadership
    if leadership is not None:
        yield from _work_of_leader(group, leadership, driver)
    else:
        following, is_led = group._following, group.leader is not None
        if following._owes_ack and is_led and following.match_index <= group.log.synced_index:
            yield "an acknowledgement to give"
        if following.committable_index > group.log.commit_index:
            yield "entries to commit"


def _waits_for_disk(log: Any, driver: Driver) -> bool:
    """Something of the log is in the write that is being synced, or in the next one."""
    store: Any = getattr(driver.store, "store", driver.store)
    touched = store.touched if hasattr(store, "touched") else store._context.touched
    return log in touched or (driver._ticket is not None and log in driver._ticket.logs)


def _work_of_leader(group: RaftGroup, leadership: Leadership, driver: Driver) -> Iterator[str]:
    log = group.log
    # A change of members moves what is committable; its own entry's sync brings the group back.
    if leadership.committable_index() > log.commit_index and not _waits_for_disk(log, driver):
        yield "entries to commit"
    if leadership.wants_round:
        yield "a round to ask"
    if leadership.sent_index < log.last_index:
        yield "entries that were offered to nobody"
    for peer in leadership._peers:
        index = leadership._next[peer]
        is_below = log.term_at(RaftIndex(index - 1)) is None  # it has been sent a snapshot, and answers beats
        waits = peer.window.has_to_wait(peer)  # for others' acknowledgements, or the next heartbeat's
        if index <= log.last_index and peer.may_send and not is_below and not waits:
            yield "entries to send"
    for round_, index, _ in list(leadership._reads)[:1]:
        is_applied = max(index, leadership.first_index) <= group.applied_index
        if leadership.has_committed and is_applied and round_ <= leadership.confirmed_round:
            yield "reads to answer"
