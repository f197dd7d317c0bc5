"""The loop that drives every group of a broker over one disk.

Always in this order: **deliver, tick, persist, release, resolve**. What a group wants done, and when, it says
in a value (`flow`, which tells what a turn is); this module carries it out, for many groups together. What
arrived since the last turn goes out in one write and one fdatasync.

A turn handles the groups for which there is a message, a proposal or a deadline, and no others: an idle group
costs its heartbeat.

`Driver` is synchronous and knows no clock; the simulator calls `turn`. `raftlog.raft.runner` is its shell.
It must not know what an entry means, nor how a message travels.
"""

from __future__ import annotations

import heapq
from collections import defaultdict, deque
from collections.abc import Callable, Collection, Sequence
from typing import TYPE_CHECKING, Final

from raftlog.errors import RaftlogError
from raftlog.raft.events import Cause, Events, Kind
from raftlog.raft.flow import NOTHING, Ready
from raftlog.raft.group import RaftGroup
from raftlog.raft.inbox import Inbox
from raftlog.raft.machine import StateMachine
from raftlog.raft.messages import Addressed, Append, Heartbeat, HeartbeatReply, Message, payload_size
from raftlog.raft.progress import PeerWindow
from raftlog.raft.ration import Allowance, Ration
from raftlog.raft.replica import Replica
from raftlog.raft.values import Outcome
from raftlog.types import METADATA_GROUP, BrokerId, GroupKey, RaftIndex

if TYPE_CHECKING:
    from raftlog.storage.store import Store, WriteTicket

TURN_STEPS_MAX: Final = 100
"""Messages after which a turn takes no more from the inbox; signs of life do not count."""
TURN_COST_MAX: Final = 4 << 20
"""Bytes of appends after which a turn takes no more from the inbox: checked and written to the log they take
five milliseconds. An entry counts for more than its bytes (`APPEND_ENTRY_COST`)."""
COMMITS_MAX: Final = 4 << 20
"""Bytes that one turn moves to the segments, over all groups. An entry and a file count as what takes as long
to write (`LogEntries.commit_within`): so it moves at most 1,000 entries, or 16 first records. That takes ten
milliseconds, where a follower may hear with one heartbeat that tens of megabytes are committed. The metadata
group does not wait for others."""
READS_MAX: Final = 16
"""Groups that read committed entries from their log in one turn, to apply them: up to 1 MB each, which is in
memory until it is applied."""
WAITING_BYTES_MAX: Final = 64 << 20
"""Bytes of appends that are taken while a sync is under way; more are dropped, which Raft repairs. So a
stalled disk costs a bounded amount of memory, however many groups go on sending."""
UNREAD_MAX: Final = 1.0
"""Seconds that an election, or a leader without a majority, waits for messages that are here and were not
delivered yet."""
TIMER_GRID: Final = 0.1
"""Seconds. Wake-ups of an idle broker a second: ten, however many groups it has."""

FOREVER: Final = float("inf")

Send = Callable[[BrokerId, Sequence[Message]], None]


class _Member:
    """A group and what the driver remembers of it."""

    __slots__ = (
        "group",
        "is_active",
        "is_removed",
        "machine",
        "scheduled_at",
        "turning",
    )

    def __init__(self, group: RaftGroup, machine: StateMachine) -> None:
        self.group = group
        self.turning = group.turning
        self.machine = machine
        self.is_active = False
        """This turn, or the next one, handles the group."""
        self.is_removed = False
        self.scheduled_at = FOREVER
        """The group's earliest deadline in the heap; its real one may be later by now."""


class Driver:
    """The groups of one broker over one Store. Not thread-safe."""

    def __init__(self, store: Store, *, send: Send) -> None:
        """`send` takes messages for a peer; it must not block and may drop them (raftlog.transport.links)."""
        self.store = store
        self.groups: dict[GroupKey, RaftGroup] = {}
        self.on_work: Callable[[], None] = lambda: None
        """Called when there is something to do that no deadline announces; the shell sets it."""
        self.may_take_over: Callable[[], Collection[BrokerId]] | None = None
        """The brokers that serve clients, to which a stalled disk's leaderships go; None: any. Whoever knows
        them sets it."""
        self.events = Events()
        self._dropped = 0
        """Appends that found no room while a sync was under way."""
        self.turns = 0
        self._now = float("-inf")
        self._send = send
        self._bytes_heard: dict[BrokerId, float] = {}
        self._windows: defaultdict[BrokerId, PeerWindow] = defaultdict(PeerWindow)
        self._commits = Allowance[Replica](COMMITS_MAX)
        self._members: dict[GroupKey, _Member] = {}
        self._reads = Ration[Replica](READS_MAX)
        self._inbox = Inbox()
        self._new: list[_Member] = []
        self._active: list[_Member] = []
        self._unresolved: deque[tuple[_Member, Ready]] = deque()
        """What this turn's groups gave after the sync, and is not carried out yet."""
        self._written: list[_Member] = []
        self._ticket: WriteTicket | None = None
        self._waiting_bytes = 0
        self._heap: list[tuple[float, int, _Member]] = []
        self._heap_count = 0

    # What others call

    def add(self, group: RaftGroup, machine: StateMachine) -> None:
        """Drive the group from the next turn on; its time-outs run from then."""
        assert group.key not in self.groups, group
        group.applied_index = RaftIndex(min(machine.applied_index, group.commit_index))
        member = _Member(group, machine)
        self.groups[group.key] = group
        self._members[group.key] = member
        hooks = group.turning.hooks
        hooks.on_work = lambda replica: self._activate(member)
        hooks.on_event = self._note
        hooks.bytes_heard = self._bytes_heard
        hooks.window_of = lambda broker: self._windows[broker]
        if group.key != METADATA_GROUP:
            hooks.commits = self._commits
        hooks.may_read = self._reads.take
        self._new.append(member)
        self._activate(member)

    def remove(self, key: GroupKey) -> None:
        """Forget a group. Its pending proposals end as MAY_STILL_HAPPEN in the next turn. The caller deletes
        the log."""
        member = self._members.pop(key)
        del self.groups[key]
        member.turning.close()
        member.is_removed = True
        self._activate(member)

    def _note(self, group: Replica, kind: Kind, cause: Cause, other: BrokerId | None) -> None:
        self.events.add(group.key, group.term, kind, cause, other, self._now)

    def receive(self, sender: BrokerId, messages: Sequence[Message]) -> None:
        """Messages from a peer; they are delivered in the next turn."""
        if self._inbox.put(sender, messages):
            self.on_work()

    def hear_bytes(self, peer: BrokerId, now: float) -> None:
        """Part of a frame came from a peer: it lives, although it has had no time to say so."""
        self._bytes_heard[peer] = now

    def yield_leadership(self, now: float) -> int:
        """The disk here stalls: hand over all groups led here of which somebody has more on its disk, and
        serves clients, who do not ask for the metadata's leader. How many; they go within an election
        time-out, or stay."""
        serving = self.may_take_over() if self.may_take_over is not None else None
        yielded = 0
        for group in self.groups.values():
            yielded += group.turning.yield_leadership(now, None if group.key == METADATA_GROUP else serving)
        return yielded

    def peer_is_gone(self, broker: BrokerId, now: float) -> None:
        """The process of a peer has ended: groups that it led elect at once. A heartbeat that waits unread
        would put that off."""
        self._inbox.forget(broker)
        for group in list(self.groups.values()):
            group.turning.peer_is_gone(broker, now)

    @property
    def dropped_messages(self) -> int:
        """Messages for which there was no room."""
        return self._inbox.dropped + self._dropped

    @property
    def next_deadline(self) -> float:
        """When a turn is due although nothing arrived."""
        return self._heap[0][0] if self._heap else FOREVER

    @property
    def has_work(self) -> bool:
        """A turn would do something now, whatever the time."""
        if self._active or not self._inbox.is_empty or self._commits.is_wanted:
            return True
        for window in self._windows.values():
            if window.wants_turn:
                return True
        return self._ticket is None and self.store.has_pending

    def statistics(self) -> dict[str, int]:
        return {
            "groups": len(self.groups),
            "leading": sum(group.is_leader for group in self.groups.values()),
            "turns": self.turns,
            "dropped_messages": self.dropped_messages,
        }

    # The turn

    def turn(self, now: float) -> None:
        """One turn with the sync inline. Raises DiskFailed or SafetyError: the broker must stop."""
        ticket = self.begin(now)
        if ticket is not None:
            ticket.sync()
            self.synced(now)
        self.finish(now)
        if self.store.checkpoint_due:
            job = self.store.begin_checkpoint()
            job.run()
            self.store.finish_checkpoint(job)

    def begin(self, now: float) -> WriteTicket | None:
        """Deliver, tick, and the write. The caller syncs the ticket, in the loop or in a thread, and then
        calls `synced`. Until then further turns write nothing."""
        self.turns += 1
        self._now = now
        self._go_on(now)
        self._deliver(now)
        self._tick(now)
        self._before_sync(now)
        return self._write()

    def _go_on(self, now: float) -> None:
        """With what earlier turns had no time for."""
        for window in self._windows.values():
            window.begin_turn()
        self._reads.renew()  # the groups that wait for it are active
        for replica in self._commits.begin_turn():
            member = self._members.get(replica.key)
            if member is not None and member.turning.replica is replica:
                member.turning.commit_what_is_due(now)
                self._activate(member)

    def _deliver(self, now: float) -> None:
        replies: list[Addressed] = []
        for sender, messages in self._inbox.take_urgent():
            self._deliver_from(sender, messages, replies, now)
        inbox, left, cost_left = self._inbox, TURN_STEPS_MAX, TURN_COST_MAX
        while inbox.has_parts and left > 0 and cost_left > 0:
            part = inbox.take_part()
            cost_left -= part.cost
            left -= self._deliver_from(part.sender, part.messages, replies, now)
        if replies:
            self._send_all(replies)

    def _deliver_from(
        self, sender: BrokerId, messages: Sequence[Message], replies: list[Addressed], now: float
    ) -> int:
        """Returns how many messages needed more than a note of who is alive."""
        members, steps = self._members, 0
        for message in messages:
            member = members.get(message.group)
            if member is None:
                continue
            if isinstance(message, Heartbeat):
                reply = member.turning.hear_idle_heartbeat(sender, message, now)
                if reply is not None:
                    replies.append((sender, reply))
                    if member.turning.next_deadline < member.scheduled_at:
                        self._schedule(member)  # its time-out had grown with elections that failed
                    continue
            elif isinstance(message, HeartbeatReply) and member.turning.hear_idle_reply(sender, message, now):
                continue
            elif self._ticket is not None and isinstance(message, Append) and not self._has_room(message):
                self._dropped += 1
                continue
            member.turning.step(sender, message, now)
            steps += 1
            if not member.is_active:
                self._activate(member)
        return steps

    def _has_room(self, append: Append) -> bool:
        self._waiting_bytes += payload_size(append)
        return self._waiting_bytes <= WAITING_BYTES_MAX

    def _tick(self, now: float) -> None:
        if self._new:
            for member in self._new:
                member.turning.start(now)
                self._schedule(member)
            self._new.clear()
        beats: list[Addressed] = []
        unread: list[_Member] = []
        heap, is_unread = self._heap, self._inbox.has_parts
        while heap and heap[0][0] <= now:
            at, _, member = heapq.heappop(heap)
            if at != member.scheduled_at or member.is_removed:
                continue  # an earlier one took its place
            member.scheduled_at = FOREVER
            if member.turning.next_deadline > now:
                self._schedule(member)
            elif is_unread and not member.group.is_leader and now - at < UNREAD_MAX:
                unread.append(member)
            elif member.turning.tick(now, UNREAD_MAX if is_unread else 0.0) and not member.is_active:
                beats += member.turning.take_beats()
                self._schedule(member)
            else:
                self._activate(member)
        if beats:
            self._send_all(beats)
        for member in unread:  # what its leader said may wait in the inbox
            self._schedule(member)

    def _before_sync(self, now: float) -> None:
        outbox: list[Addressed] = []
        for member in self._active:  # grows while state machines propose
            ready = member.turning.before_sync(now)
            if ready is not NOTHING:
                if ready.has_news:
                    self._tell(member.machine, ready, now)
                outbox += ready.messages
            if not member.is_removed:
                self._schedule(member)
        if outbox:
            self._send_all(outbox)

    def _tell(self, machine: StateMachine, ready: Ready, now: float) -> None:
        if ready.restored is not None:
            machine.restore(*ready.restored)
        if ready.truncated_from is not None:
            machine.truncated(ready.truncated_from)
        for entries in ready.catch_up:
            machine.apply(entries, now)
        if ready.standing is not None:
            machine.leadership_changed(*ready.standing)

    def _write(self) -> WriteTicket | None:
        if self._ticket is not None or not self.store.has_pending:
            return None
        ticket = self._ticket = self.store.write()
        self._waiting_bytes = 0
        # Only groups with something in the write are told of its sync: a group that waits for no disk must
        # not be handled in every turn in which others write.
        members = self._members
        self._written = [members[log.key] for log in ticket.logs if log.key in members]
        for member in self._written:
            member.turning.on_written()
        return ticket

    def synced(self, now: float) -> None:
        """The ticket that `begin` returned is on the disk."""
        assert self._ticket is not None
        self.store.synced(self._ticket)
        self._ticket = None
        for member in self._written:
            if not member.is_removed:
                member.turning.on_synced(now)
                if not member.is_active:
                    self._activate(member)
        self._written = []

    def finish(self, now: float) -> None:
        """Release and resolve."""
        active, self._active = self._active, []
        outbox: list[Addressed] = []
        for member in active:
            member.is_active = False
            ready = member.turning.after_sync()
            if ready is not NOTHING:
                outbox += ready.replies
                self._unresolved.append((member, ready))
        if outbox:
            self._send_all(outbox)
        while self._unresolved:
            self._resolve(*self._unresolved.popleft(), now)

    def _resolve(self, member: _Member, ready: Ready, now: float) -> None:
        if member.is_removed:
            _answer(ready, Outcome.MAY_STILL_HAPPEN)
            return
        if ready.committed:
            try:
                member.machine.apply(ready.committed, now)
            except BaseException:  # the broker stops: nothing is applied again, and `abandon` answers
                self._unresolved.appendleft((member, ready._replace(committed=())))
                raise
        if ready.has_more:
            self._activate(member)
        _answer(ready, Outcome.COMMITTED)

    def abandon(self) -> None:
        """The broker stops, or its disk failed: whatever is pending here ends now, as far as it is known."""
        for _, ready in self._unresolved:
            _answer(ready, Outcome.MAY_STILL_HAPPEN)  # the state machine does not apply it any more
        self._unresolved.clear()
        removed = [member for member in self._active if member.is_removed]
        for member in [*self._members.values(), *removed]:
            try:
                member.turning.close()
            except RaftlogError:
                pass  # the disk failed, or the log is not to be relied on: that is why the broker stops
            _answer(member.turning.after_sync(), Outcome.MAY_STILL_HAPPEN)

    def _send_all(self, outbox: list[Addressed]) -> None:
        by_broker: dict[BrokerId, list[Message]] = {}
        for broker, message in outbox:
            messages = by_broker.get(broker)
            if messages is None:
                by_broker[broker] = [message]
            else:
                messages.append(message)
        for broker, messages in by_broker.items():
            self._send(broker, messages)

    def _activate(self, member: _Member) -> None:
        if not member.is_active:
            member.is_active = True
            self._active.append(member)
            self.on_work()

    def _schedule(self, member: _Member) -> None:
        """See that a turn comes for the group's deadline. A far deadline is put a little earlier, to an
        instant that many groups share, and looked at again there: by then a heartbeat has moved most of
        them."""
        deadline = member.turning.next_deadline
        if self._now + 2 * TIMER_GRID < deadline < FOREVER:
            deadline = deadline // TIMER_GRID * TIMER_GRID
        if deadline < member.scheduled_at:
            member.scheduled_at = deadline
            self._heap_count += 1
            heapq.heappush(self._heap, (deadline, self._heap_count, member))


def _answer(ready: Ready, committed: Outcome) -> None:
    """`committed`: the outcome of those that are, which is another one where nobody has applied them."""
    for on_done, outcome, entry in ready.ended:
        on_done(committed if outcome is Outcome.COMMITTED else outcome, entry)
    for on_ready, led in ready.reads:
        on_ready(led)
