"""The loop that drives every group of a broker over one disk.

Always in this order: **deliver, tick, persist, release, resolve**. No message leaves and no proposal
resolves before the fsync that it rests on; only what a leader sends leaves before its own fsync, so that
all disks of a group work at once, since a leader counts itself by what it has synced.

A turn handles the groups for which there is a message, a proposal or a deadline, and nothing else: an idle
group costs its heartbeat. What arrived since the last turn goes out in one write and one fdatasync, for all
groups together.

`Driver` is synchronous and knows no clock; the simulator calls `turn`. `raftlog.raft.runner` is its shell.
It must not know what an entry means, nor how a message travels.
"""

from __future__ import annotations

import heapq
from collections import defaultdict, deque
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Final, Protocol

from raftlog.errors import RaftlogError
from raftlog.raft.events import Cause, Events, Kind
from raftlog.raft.group import RaftGroup
from raftlog.raft.messages import Addressed, Append, Heartbeat, HeartbeatReply, Message, payload_size
from raftlog.raft.progress import PeerWindow
from raftlog.raft.ration import Ration
from raftlog.raft.values import Role
from raftlog.storage.entry import Entry
from raftlog.types import METADATA_GROUP, BrokerId, GroupKey, RaftIndex, Term

if TYPE_CHECKING:
    from raftlog.storage.store import Store, WriteTicket

INBOX_MESSAGES_MAX: Final = 20_000
"""Messages that wait for a turn; more are dropped, which Raft repairs."""
TURN_STEPS_MAX: Final = 100
"""Messages after which a turn takes no more from the inbox; signs of life do not count."""
FILES_MAX: Final = 16
"""Groups that begin a file in one turn, each with the first record of a partition: a folder and a file take
0.3 ms, and longer while the file system's journal is written."""
PART_MESSAGES: Final = 50
"""Messages of one delivery that are taken together: a frame may hold some for each group of a broker."""
PART_BYTES: Final = 1 << 20
"""Bytes of appends among them; one that is larger is taken alone."""

TURN_BYTES_MAX: Final = 4 << 20
"""Bytes of appends after which a turn takes no more from the inbox: checked, written to the log and later to
their segments they take ten milliseconds."""

INBOX_BYTES_MAX: Final = 128 << 20
"""Bytes of appends among them; one frame is taken however long it is."""

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


def _parts(messages: Sequence[Message]) -> Iterator[tuple[Sequence[Message], int]]:
    """A long delivery in parts, with the bytes of the appends in each."""
    begin = size = 0
    for end, message in enumerate(messages):
        more = payload_size(message) if type(message) is Append else 0
        if end - begin == PART_MESSAGES or (size + more > PART_BYTES and end > begin):
            yield messages[begin:end], size
            begin, size = end, 0
        size += more
    if begin < len(messages):
        yield messages[begin:], size


class StateMachine(Protocol):
    """What a group's committed entries are for. Called from the driver's turn; nothing here may block or
    raise: an exception is our bug and stops the broker, since trying again would apply an entry twice.
    """

    @property
    def applied_index(self) -> RaftIndex:
        """The last entry whose effect the machine holds. Read once, by `Driver.add`: the committed entries
        behind it are applied again, a bounded number a turn."""
        ...

    def apply(self, entries: Sequence[Entry], now: float) -> None:
        """Committed entries of every kind, in order, each exactly once in the life of the process."""
        ...

    def restore(self, state: bytes, index: RaftIndex) -> None:
        """A leader's snapshot that ends at `index` replaced the log: forget all, take `state`. It is empty,
        with index 0, when the log starts from nothing."""
        ...

    def leadership_changed(self, role: Role, term: Term, leader: BrokerId | None) -> None:
        """Role, term or leader are no longer what the last call said. A LEADER may propose from here on;
        all that this replica knew to be committed has been applied."""
        ...

    def truncated(self, from_index: RaftIndex) -> None:
        """Uncommitted entries from `from_index` on are gone; others may come in their place."""
        ...


class _Member:
    """A group and what the driver remembers of it."""

    __slots__ = (
        "group",
        "is_active",
        "is_removed",
        "machine",
        "scheduled_at",
        "seen_changes",
        "told",
    )

    def __init__(self, group: RaftGroup, machine: StateMachine) -> None:
        self.group = group
        self.machine = machine
        self.is_active = False
        """In the list of what this turn, or the next, handles."""
        self.is_removed = False
        self.scheduled_at = FOREVER
        """The earliest deadline that the heap holds for it; its own may be later by now."""
        self.seen_changes = -1
        self.told: tuple[Role, Term, BrokerId | None] = (group.role, group.term, None)


class Driver:
    """The groups of one broker over one Store. Not thread-safe."""

    def __init__(self, store: Store, *, send: Send) -> None:
        """`send` takes messages for a peer; it must not block and may drop them (raftlog.transport.links)."""
        self.store = store
        self.groups: dict[GroupKey, RaftGroup] = {}
        self.on_work: Callable[[], None] = lambda: None
        """Called when there is something to do that no deadline announces; the shell sets it."""
        self.events = Events()
        self.dropped_messages = 0
        self.turns = 0
        self._now = float("-inf")
        self._send = send
        self._bytes_heard: dict[BrokerId, float] = {}
        self._windows: defaultdict[BrokerId, PeerWindow] = defaultdict(PeerWindow)
        self._files = Ration(FILES_MAX)
        self._members: dict[GroupKey, _Member] = {}
        self._inbox: deque[tuple[BrokerId, Sequence[Message], int]] = deque()
        """By sender, with the bytes of the appends."""
        self._urgent: list[tuple[BrokerId, Sequence[Message]]] = []
        """The metadata group's: they go first, since all else hangs on them."""
        self._inbox_messages = self._inbox_bytes = 0
        self._new: list[_Member] = []
        self._active: list[_Member] = []
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
        group.on_work = lambda group: self._activate(member)
        group.on_event = self._note
        group.bytes_heard = self._bytes_heard
        group.window_of = lambda broker: self._windows[broker]
        group.may_begin_file = self._files.take
        self._new.append(member)
        self._activate(member)

    def remove(self, key: GroupKey) -> None:
        """Forget a group. Its pending proposals end as MAY_STILL_HAPPEN in the next turn. The caller deletes
        the log."""
        member = self._members.pop(key)
        del self.groups[key]
        member.group.close()
        member.is_removed = True
        self._activate(member)

    def _note(self, group: RaftGroup, kind: Kind, cause: Cause, other: BrokerId | None) -> None:
        self.events.add(group.key, group.term, kind, cause, other, self._now)

    def notify(self, group: RaftGroup) -> None:
        """The group has work. Proposals say so themselves."""
        self._activate(self._members[group.key])

    def receive(self, sender: BrokerId, messages: Sequence[Message]) -> None:
        """Messages from a peer; they are delivered in the next turn."""
        size = sum([payload_size(message) for message in messages if type(message) is Append])
        is_full = self._inbox_bytes + size > INBOX_BYTES_MAX and self._inbox_bytes
        if self._inbox_messages + len(messages) > INBOX_MESSAGES_MAX or is_full:
            self.dropped_messages += len(messages)
            return
        self._inbox_messages += len(messages)
        urgent = [message for message in messages if message.group == METADATA_GROUP]
        if urgent:
            self._urgent.append((sender, urgent))
            messages = [message for message in messages if message.group != METADATA_GROUP]
            size = sum([payload_size(message) for message in messages if type(message) is Append])
        if len(messages) > PART_MESSAGES or size > PART_BYTES:
            self._inbox.extend([(sender, part, bytes_) for part, bytes_ in _parts(messages)])
        elif messages:
            self._inbox.append((sender, messages, size))
        self._inbox_bytes += size
        self.on_work()

    def hear_bytes(self, peer: BrokerId, now: float) -> None:
        """Part of a frame came from a peer: it lives, although it has had no time to say so."""
        self._bytes_heard[peer] = now

    def yield_leadership(self, now: float) -> int:
        """The disk here stalls: hand over all groups led here of which somebody has more on its disk. How
        many; they go within an election time-out, or stay."""
        return sum([group.yield_leadership(now) for group in self.groups.values()])

    def peer_is_gone(self, broker: BrokerId, now: float) -> None:
        """The process of a peer has ended: groups that it led elect at once."""
        for group in list(self.groups.values()):
            group.peer_is_gone(broker, now)

    @property
    def next_deadline(self) -> float:
        """When a turn is due although nothing arrived."""
        return self._heap[0][0] if self._heap else FOREVER

    @property
    def has_work(self) -> bool:
        """A turn would do something now, whatever the time."""
        if self._active or self._inbox or self._urgent or self._files.is_wanted:
            return True
        if any(window.wants_turn for window in self._windows.values()):
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
        """Deliver, tick, and the write of persist. The caller syncs the ticket, wherever it likes, and calls
        `synced`; until then further turns deliver and tick, and write nothing."""
        self.turns += 1
        self._now = now
        self._go_on(now)
        self._deliver(now)
        self._tick(now)
        self._send_before_sync(now)
        return self._write()

    def _go_on(self, now: float) -> None:
        """With what earlier turns had no time for."""
        for window in self._windows.values():
            window.begin_turn()
        for group in self._files.renew():
            member = self._members.get(group.key)
            if member is not None and member.group is group:
                group.commit_what_is_due(now)
                self._activate(member)

    def _deliver(self, now: float) -> None:
        replies: list[Addressed] = []
        urgent, self._urgent = self._urgent, []
        for sender, messages in urgent:
            self._inbox_messages -= len(messages)
            self._deliver_from(sender, messages, replies, now)
        inbox, left, bytes_left = self._inbox, TURN_STEPS_MAX, TURN_BYTES_MAX
        while inbox and left > 0 and bytes_left > 0:
            sender, messages, size = inbox.popleft()
            self._inbox_messages -= len(messages)
            self._inbox_bytes -= size
            bytes_left -= size
            left -= self._deliver_from(sender, messages, replies, now)
        if replies:
            self._send_all(replies)

    def _deliver_from(
        self, sender: BrokerId, messages: Sequence[Message], replies: list[Addressed], now: float
    ) -> int:
        """How many needed more than to note who is alive."""
        members, steps = self._members, 0
        for message in messages:
            member = members.get(message.group)
            if member is None:
                continue
            if isinstance(message, Heartbeat):
                reply = member.group.hear_idle_heartbeat(sender, message, now)
                if reply is not None:
                    replies.append((sender, reply))
                    if member.group.next_deadline < member.scheduled_at:
                        self._schedule(member)  # its time-out had grown with elections that failed
                    continue
            elif isinstance(message, HeartbeatReply) and member.group.hear_idle_reply(sender, message, now):
                continue
            elif self._ticket is not None and isinstance(message, Append) and not self._has_room(message):
                self.dropped_messages += 1
                continue
            member.group.step(sender, message, now)
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
                member.group.start(now)
                self._schedule(member)
            self._new.clear()
        beats: list[Addressed] = []
        unread: list[_Member] = []
        heap = self._heap
        while heap and heap[0][0] <= now:
            at, _, member = heapq.heappop(heap)
            if at != member.scheduled_at or member.is_removed:
                continue  # an earlier one took its place
            member.scheduled_at = FOREVER
            if member.group.next_deadline > now:
                self._schedule(member)
            elif self._inbox and not member.group.is_leader and now - at < UNREAD_MAX:
                unread.append(member)
            elif member.group.tick(now, UNREAD_MAX if self._inbox else 0.0) and not member.is_active:
                beats += member.group.take_beats()
                self._schedule(member)
            else:
                self._activate(member)
        if beats:
            self._send_all(beats)
        for member in unread:  # what its leader said may wait in the inbox
            self._schedule(member)

    def _send_before_sync(self, now: float) -> None:
        outbox: list[Addressed] = []
        for member in self._active:  # grows while machines propose
            if member.group.changes != member.seen_changes:
                self._announce(member, now)
            messages = member.group.take_messages(now)
            if messages:
                outbox += messages
            if not member.is_removed:
                self._schedule(member)
        if outbox:
            self._send_all(outbox)

    def _announce(self, member: _Member, now: float) -> None:
        group, machine = member.group, member.machine
        member.seen_changes = group.changes
        if group.take_restored():
            machine.restore(group.log.snapshot_state, group.applied_index)
        from_index = group.take_truncated()
        if from_index is not None:
            machine.truncated(from_index)
        told = (group.role, group.term, group.leader)
        if told != member.told:
            member.told = told
            if told[0] is Role.LEADER:
                while group.has_committed:
                    self._apply(member, now)
            machine.leadership_changed(*told)

    def _write(self) -> WriteTicket | None:
        if self._ticket is not None or not self.store.has_pending:
            return None
        ticket = self._ticket = self.store.write()
        self._waiting_bytes = 0
        # Whoever has something in the write is told of its sync, and nobody else: a group that waits for no
        # disk must not be handled in every turn in which others write.
        members = self._members
        self._written = [members[log.key] for log in ticket.logs if log.key in members]
        for member in self._written:
            member.group.on_written()
        return ticket

    def synced(self, now: float) -> None:
        """The ticket that `begin` returned is on the disk."""
        assert self._ticket is not None
        self.store.synced(self._ticket)
        self._ticket = None
        for member in self._written:
            if not member.is_removed:
                member.group.on_synced(now)
                if not member.is_active:
                    self._activate(member)
        self._written = []

    def finish(self, now: float) -> None:
        """Release and resolve what this turn's groups may let go of."""
        active, self._active = self._active, []
        outbox: list[Addressed] = []
        for member in active:
            member.is_active = False
            replies = member.group.take_replies()
            if replies:
                outbox += replies
        if outbox:
            self._send_all(outbox)
        for member in active:
            self._resolve(member, now)

    def _resolve(self, member: _Member, now: float) -> None:
        group = member.group
        if not member.is_removed:
            self._apply(member, now)
            if group.has_committed or group.has_messages or group.changes != member.seen_changes:
                self._activate(member)
        for on_done, outcome, entry in group.take_done():
            on_done(outcome, entry)
        if group.has_reads:
            for on_ready, led in group.take_reads():
                on_ready(led)

    def _apply(self, member: _Member, now: float) -> None:
        entries = member.group.take_committed()
        if entries:
            member.machine.apply(entries, now)

    def abandon(self) -> None:
        """The broker stops, or its disk failed: whatever is pending here ends now, as far as it is known."""
        removed = [member for member in self._active if member.is_removed]
        for member in [*self._members.values(), *removed]:
            try:
                member.group.close()
            except RaftlogError:
                pass  # the disk failed, or the log is not to be relied on: that is why the broker stops
            for on_done, outcome, entry in member.group.take_done():
                on_done(outcome, entry)
            for on_ready, led in member.group.take_reads():
                on_ready(led)

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
        """See that a turn comes for the group's deadline. One that is far off is looked at again shortly
        before, at an instant that many groups share: by then a heartbeat has moved most of them."""
        deadline = member.group.next_deadline
        if self._now + 2 * TIMER_GRID < deadline < FOREVER:
            deadline = deadline // TIMER_GRID * TIMER_GRID
        if deadline < member.scheduled_at:
            member.scheduled_at = deadline
            self._heap_count += 1
            heapq.heappush(self._heap, (deadline, self._heap_count, member))
