"""What a leader does in its term: replicate, count, answer reads, hand over.

A `Leadership` lives as long as one broker leads one group in one term, so that no acknowledgement of an old
term is counted in a new one. It works on SyncObj's own next and match indexes, which `engine` hands to it.

Invariants:

- The leader commits an index when a majority of the voters, itself included, has it on disk, and the entry
  there is of the leader's term (Raft §5.4.2).
- An acknowledgement never lowers the next index of a follower. Nothing lowers the match index of a voter,
  unless the voter says that it lost its log.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Final

from raftlog.errors import SafetyError
from raftlog.raft.membership import Memberships
from raftlog.raft.messages import (
    Append,
    AppendReject,
    Heartbeat,
    Message,
    Rejoin,
    Snapshot,
    TimeoutNow,
    Welcome,
)
from raftlog.raft.progress import (
    APPEND_BYTES_MAX,
    APPEND_ENTRIES_MAX,
    PROBE_BYTES_MAX,
    FollowerProgress,
    PeerWindow,
    Progress,
)
from raftlog.raft.reads import Reads
from raftlog.raft.values import Membership, RaftTiming
from raftlog.storage.entry import Entry
from raftlog.storage.group_log import GroupLog
from raftlog.types import BrokerId, GroupKey, RaftIndex, Term

WELL_BEATS: Final = 3
"""Heartbeats. A follower is well when it has answered within so many and has not said meanwhile that it lost
its log; a change of members needs followers that are well."""
SNAPSHOT_RETRY: Final = 5.0
"""Seconds before an unanswered snapshot is sent again: it may be large, and on its way."""

Send = Callable[[BrokerId, Message], None]


class Leadership:
    """One term of leading one group."""

    def __init__(
        self,
        key: GroupKey,
        term: Term,
        self_id: BrokerId,
        log: GroupLog,
        next_index: dict[Progress, int],
        match_index: dict[Progress, int],
        memberships: Memberships,
        timing: RaftTiming,
        send: Send,
        *,
        window_of: Callable[[BrokerId], PeerWindow],
        on_room: Callable[[], None],
        on_snapshot: Callable[[BrokerId], None],
        electors: set[BrokerId] | None = None,
        state_is_all: bool = False,
    ) -> None:
        """`electors`: where no voter had an entry, those that can vote for another leader without having been
        welcomed by this one."""
        self.term = term
        self.first_index = log.last_index
        """The index of this term's no-op: everything from here on is of this term."""
        self.sent_index = log.last_index
        """The leader has gone over its followers with the entries up to here. A follower whose window was
        full may not have been sent them."""
        self._last_heard: dict[Progress, float] = {}
        self.reads = Reads(timing, self.first_index)
        self._key = key
        self._self_id = self_id
        self._log = log
        self._next = next_index
        self._match = match_index
        self._memberships = memberships
        self._timing = timing
        self._send = send
        self._window_of = window_of
        self._on_room = on_room
        self._on_snapshot = on_snapshot
        self._electors = electors
        self._state_is_all = state_is_all
        self._membership_at_begin = memberships.current
        self._peers: tuple[Progress, ...] = ()
        self._voters: tuple[Progress, ...] = ()
        self._transfer: tuple[Progress, float] | None = None
        self._last_append: Append | None = None
        self._last_append_end = RaftIndex(0)
        self._last_append_size = 0

    def set_membership(self, membership: Membership, peers: Mapping[BrokerId, Progress], now: float) -> None:
        """The configuration that counts is the latest in the log, committed or not (Raft §6)."""
        assert self._self_id in membership.voters, (self._self_id, membership)
        self._voters = tuple(peers[b] for b in sorted(membership.voters) if b != self._self_id)
        self._peers = tuple(peers[b] for b in sorted(membership.members) if b != self._self_id)
        self.reads.set_voters(self._voters)
        for peer in self._peers:
            if peer not in self._last_heard:
                self._last_heard[peer] = now
                peer.share(self._window_of(peer.broker), self._on_room)
        for peer in [p for p in self._last_heard if p not in self._peers]:
            peer.reset()
            del self._last_heard[peer]

    # Replication

    def replicate(self, now: float) -> None:
        """Send every follower what its window allows of what it lacks."""
        last_index = self._log.last_index
        self.sent_index = last_index
        for peer in self._peers:
            if self._next[peer] > last_index:
                peer.window.forget(peer)
            elif peer.may_send:
                self._replicate_to(peer, now)

    def _replicate_to(self, peer: Progress, now: float) -> None:
        last_index = self._log.last_index
        # This runs in the middle of a turn too, when a follower acknowledges. It then offers what was
        # proposed since the last `replicate`.
        self.sent_index = last_index
        next_index = self._next[peer]
        while peer.may_send:
            if not peer.probing:
                if next_index > last_index:
                    break
                is_committed = next_index <= self._log.commit_index
                if not peer.window.may_send(peer, is_committed=is_committed):
                    break
            append = self._append_from(next_index)
            if append is None:
                self._send_snapshot(peer, now)
                return
            if peer.probing and self._last_append_size > PROBE_BYTES_MAX:
                append = append._replace(entries=[])
            self._send(peer.broker, append)
            if peer.probing:  # until it is answered, what comes next is not known
                peer.paused = True
                return
            next_index += len(append.entries)
            peer.sent(next_index - 1, self._last_append_size)
        self._next[peer] = next_index

    def _append_from(self, next_index: int) -> Append | None:
        """The append that begins with the entry at `next_index`, with as many entries as fit. None when the
        log has no such entry any more: it begins behind that, or was compacted there. The last append is
        kept, since all followers that keep up get the same one."""
        log = self._log
        last = self._last_append
        now_at = (next_index - 1, log.last_index, log.commit_index)
        if last is not None and (last.prev_index, self._last_append_end, last.commit_index) == now_at:
            return last
        prev_index = RaftIndex(next_index - 1)
        prev_term = log.term_at(prev_index)
        if prev_term is None or not log.entries.has_from(RaftIndex(next_index)):
            return None
        entries: list[Entry] = []
        if next_index <= log.last_index:
            entries = log.entries.read(RaftIndex(next_index), APPEND_BYTES_MAX, APPEND_ENTRIES_MAX)
        append = Append(self._key, self.term, prev_index, prev_term, log.commit_index, entries)
        self._last_append = append
        self._last_append_end = log.last_index
        self._last_append_size = sum([len(entry.payload) for entry in entries])
        return append

    def _send_snapshot(self, peer: Progress, now: float) -> None:
        """The follower's log ends before the leader's begins. So the leader sends the state, and later the
        entries behind it. Where the entries are data, the state is that of the log's start, and all entries
        follow. Where they are commands (`state_is_all`), it is the newest snapshot."""
        if now - peer.snapshot_sent_at < SNAPSHOT_RETRY:
            return
        log = self._log
        index = RaftIndex(log.first_index - 1)
        if self._state_is_all and log.saved.index > index:
            index = log.saved.index
        elif not log.entries.has_from(RaftIndex(index + 1)):
            # Entries that compaction has been over cannot be sent one by one. The follower is given the files
            # beside Raft, and answers here when it has them (`Filled`).
            peer.probe(paused=True)
            return
        index_term = log.term_at(index)
        assert index_term is not None, (index, log.first_index)
        following = log.entries.read(RaftIndex(index + 1), 1, 1) if index < log.last_index else []
        offset = following[0].base_offset if following else log.log_end_offset
        peer.probe(paused=True)
        peer.snapshot_sent_at, peer.snapshot_index = now, index
        self._next[peer] = index + 1
        # The membership as of that index: a later change may still be undone.
        membership = self._memberships.at(index).encode()
        snapshot = Snapshot(self._key, self.term, index, index_term, offset, membership, log.saved.state)
        self._send(peer.broker, snapshot)
        self._on_snapshot(peer.broker)

    def on_match(self, peer: Progress, match_index: RaftIndex, now: float) -> bool:
        """The follower holds everything up to `match_index` on disk. True when its match index moved."""
        self._last_heard[peer] = now
        known = self._match[peer]
        if match_index > self._log.last_index:
            raise SafetyError(
                f"broker {peer.broker} acknowledged {match_index} of {self._log.last_index} entries: a data"
                " folder was put back that is older than the others (restore all from copies of one moment)"
            )
        if match_index > known:
            self._match[peer] = match_index
            if self._next[peer] <= match_index:
                self._next[peer] = match_index + 1
        if not peer.probing or match_index >= self._next[peer] - 1:
            peer.acked(match_index)
        if self._next[peer] <= self._log.last_index and peer.may_send:
            self._replicate_to(peer, now)
        if self._transfer is not None:
            self._continue_transfer()
        return match_index > known

    def on_reject(self, peer: Progress, reject: AppendReject, now: float) -> None:
        """The follower lacks `prev_index`: go back to where the logs may agree, a whole term at a time."""
        self._last_heard[peer] = now
        match = self._match[peer]
        if reject.hint_index < match and peer not in self._voters:
            # A learner was removed, deleted and added again, and an acknowledgement of its old log came late.
            # A learner is in no majority, so that its match index may fall.
            match = self._match[peer] = 0
        stale = reject.prev_index != self._next[peer] - 1 if peer.probing else reject.prev_index <= match
        if stale or reject.hint_index < match:
            return
        log = self._log
        index = min(reject.hint_index, reject.prev_index - 1)
        while index > match:
            term = log.term_at(RaftIndex(index))
            if term is None or term <= reject.hint_term:
                break
            index -= 1
        self._next[peer] = max(index, match) + 1
        peer.probe()
        self._replicate_to(peer, now)

    def on_rejoin(self, peer: Progress, rejoin: Rejoin, now: float) -> None:
        """The follower lost its log. The leader no longer counts what the follower acknowledged before. It
        says so, and fills the follower, once it knows that it still leads: its process may have been stopped,
        and the follower may have acknowledged entries of a successor. The follower asks again with each
        heartbeat."""
        peer.rejoined_at = now
        if peer.rejoin_nonce != rejoin.nonce:
            peer.reset()
            peer.rejoin_nonce, peer.rejoin_round = rejoin.nonce, self.reads.round + 1
            peer.lost_since, peer.lost_index = now, self._log.last_index
            self._match[peer] = 0
            self._next[peer] = self._log.last_index + 1
        peer.is_welcome = peer.is_welcome or self._leads_without(peer, now)
        if not peer.is_welcome:
            return
        self._last_heard[peer] = now
        if self._electors is not None:
            self._electors.add(peer.broker)
        commit_index = self._log.commit_index if self.has_committed else RaftIndex(0)
        self._send(peer.broker, Welcome(self._key, self.term, rejoin.nonce, commit_index))
        self._replicate_to(peer, now)

    def _leads_without(self, peer: Progress, now: float) -> bool:
        """Whether nobody has replaced this leader, or will, with the vote that `peer` has forgotten: so many
        other voters have answered this leader since `peer` said that it lost its log, and no candidate counts
        that vote any more. A membership that is not committed may be unknown to the others, so the one before
        it counts as well."""
        current, committed = self._memberships.current, self._memberships.at(self._log.commit_index)
        is_as_at_begin = current == committed == self._membership_at_begin
        if self._electors is not None and is_as_at_begin and 2 * len(self._electors) <= len(current.voters):
            return True  # a new group: who lost its log elects nobody until it is welcomed
        # Of three, the third has to answer, and knows whether it is that candidate. What a learner
        # acknowledges commits nothing; once it votes again, who counts on its old vote is out of date.
        voters = current.voters | committed.voters
        is_counted = peer.broker in voters and len(voters) > 3
        if is_counted and now <= peer.lost_since + self._timing.vote_life:
            return False
        answered = {other.broker for other in self._peers if other.acked_round >= peer.rejoin_round}
        answered = (answered | {self._self_id}) - {peer.broker}
        return all(
            2 * len(answered & voters) >= len(voters) + (peer.broker not in voters)
            for voters in (current.voters, committed.voters)
        )

    def holds(self, broker: BrokerId, index: RaftIndex) -> bool:
        """Whether a follower is known to have everything up to `index` on its disk."""
        return any(peer.broker == broker and self._match[peer] >= index for peer in self._peers)

    def _is_well(self, peer: Progress, now: float) -> bool:
        """Whether the follower has answered this leader lately, and has not said lately that it lost its log.
        Such a follower knows, on its disk, that it may vote. A membership that needs the votes of other
        followers might elect nobody. A leader that has just begun gives its followers time to answer
        (`_last_heard`), but who has answered no heartbeat of it may have lost its disk before."""
        since = now - WELL_BEATS * self._timing.heartbeat
        return self._last_heard[peer] >= since and peer.has_its_log(since, now)

    def can_do_without(self, peer: Progress, now: float) -> bool:
        """Whether the voters without `peer`, this leader among them, are a majority that can elect and that
        holds every committed entry. Then `peer` may drop its log, and is not counted on for a while."""
        commit_index = self._log.commit_index
        holding = [
            other
            for other in self._voters
            if other is not peer and self._is_well(other, now) and self._match[other] >= commit_index
        ]
        can = 2 * (1 + len(holding)) > len(self._voters) + 1
        if can:
            peer.let_go(now, self._timing, others=len(self._voters))
        return can

    def refuse_change(self, wanted: Membership, now: float) -> str | None:
        """Why the group may not change to `wanted`; None when it may."""
        commit_index = self._log.commit_index
        if not self.has_committed:
            return "this leader has not committed an entry of its term yet"  # (Ongaro's fix of 2015)
        reason = self._memberships.refuse(wanted, self._self_id, commit_index)
        if reason is not None:
            return reason
        current = self._memberships.current
        for peer in self._peers:
            if peer.broker not in wanted.voters - current.voters:
                continue
            if self._match[peer] < commit_index:
                return f"broker {peer.broker} has not caught up"
            if not self._is_well(peer, now):
                return f"broker {peer.broker} does not answer, or does not know yet that it has caught up"
        if current.voters - wanted.voters:
            stay = [peer for peer in self._voters if peer.broker in wanted.voters]
            if 2 * (1 + sum(self._is_well(peer, now) for peer in stay)) <= len(wanted.voters):
                return "too few of those that stay answer, and have what they should: they could not elect"
        return None

    def followers(self, now: float) -> tuple[FollowerProgress, ...]:
        """How far each member is, as far as this leader has heard."""
        return tuple([self._progress_of(peer, now) for peer in self._peers])

    def _progress_of(self, peer: Progress, now: float) -> FollowerProgress:
        silent = now - self._last_heard[peer]
        if silent > self._timing.election_min:
            state = "silent"
        elif self._next[peer] <= self._log.cleaning.clean_index:
            state = "copy"
        elif now - peer.snapshot_sent_at < SNAPSHOT_RETRY and peer.probing:
            state = "snapshot"
        else:
            state = "probing" if peer.probing else "streaming"
        match, following = RaftIndex(self._match[peer]), RaftIndex(self._next[peer])
        is_voter, size = peer in self._voters, peer.bytes_under_way
        return FollowerProgress(peer.broker, is_voter, match, following, size, silent, state)

    # Counting

    @property
    def has_committed(self) -> bool:
        """This term's no-op is committed, and with it all that came before (Raft §8)."""
        return self._log.commit_index >= self.first_index

    def committable_index(self) -> RaftIndex:
        """The highest index that may be committed now; the commit index when none is."""
        log = self._log
        synced = min(log.entries.synced_index, log.last_index)
        voters = self._voters
        if voters:
            match = self._match
            indexes = [match[peer] for peer in voters]
            indexes.append(synced)
            indexes.sort()
            index = min(indexes[(len(indexes) - 1) // 2], synced)
        else:
            index = synced
        if index < self.first_index:
            return log.commit_index
        return RaftIndex(max(index, log.commit_index))

    def has_quorum(self, now: float, bytes_heard: Mapping[BrokerId, float]) -> bool:
        """Whether the leader has heard a majority within `election_min` (check-quorum, Raft thesis §6.2).
        Part of a message counts too: the follower that sends it lives."""
        since = now - self._timing.election_min
        heard = 1
        for peer in self._voters:
            heard += self._last_heard[peer] > since or bytes_heard.get(peer.broker, since) > since
        return 2 * heard > len(self._voters) + 1

    # Heartbeats and reads

    def beat(self, now: float) -> None:
        """Tell every follower who leads; asks for a new round of answers."""
        self._last_append = None  # it holds memory, and the followers that keep up have had it
        self.reads.begin_round(now)
        for peer in self._peers:  # what is under way to a silent one counts as lost: others share its room
            if peer.bytes_under_way and now - self._last_heard[peer] > self._timing.election_max:
                peer.probe(paused=True)
        self.announce_commit()
        if self._transfer is not None and now >= self._transfer[1]:
            self._transfer = None

    def announce_commit(self) -> None:
        """Let the followers know the commit index now, not with the next message."""
        heartbeat = Heartbeat(self._key, self.term, self._log.commit_index, self.reads.round)
        for peer in self._peers:
            self._send(peer.broker, heartbeat)

    def on_heartbeat_reply(self, peer: Progress, match_index: RaftIndex, round_: int, now: float) -> bool:
        """As on_match; also repairs what was lost, and moves the round that a majority answered."""
        if round_ > self.reads.round:
            raise SafetyError(f"broker {peer.broker} answers round {round_}, {self.reads.round} was the last")
        peer.paused = False  # the probe or its answer was lost, if there is one
        moved = self.on_match(peer, peer.counted(match_index, round_), now)
        self.reads.answered(peer, round_, now)
        next_index = self._next[peer]
        # A follower that started again may answer less than it acknowledged before. It is asked what matches.
        if peer.probing or match_index < next_index - 1:
            self._probe(peer, now)
        return moved

    def on_idle_reply(self, peer: Progress, match_index: RaftIndex, round_: int, now: float) -> bool:
        """Take the usual answer to a heartbeat: the follower has the leader's whole log on its disk, which
        the leader knew. False when the answer says anything else, or when a read or a hand-over waits for
        an answer: then it is for `on_heartbeat_reply`."""
        last_index = self._log.last_index
        if peer.probing or match_index != last_index or self._match.get(peer) != last_index:
            return False
        if (
            self.reads.is_waiting
            or self._transfer is not None
            or self._timing.lease
            or round_ > self.reads.round
        ):
            return False
        self._last_heard[peer] = now
        if round_ > peer.acked_round:
            peer.acked_round = round_
        return True

    def _probe(self, peer: Progress, now: float) -> None:
        """Ask with an empty append whether the follower has what it was sent and did not acknowledge. A
        follower that lacks it refuses the append, and the leader sends the entries again."""
        prev_index = RaftIndex(self._next[peer] - 1)
        prev_term = self._log.term_at(prev_index)
        if prev_term is None:
            self._send_snapshot(peer, now)
        elif not peer.paused:
            commit_index = self._log.commit_index
            probe = Append(self._key, self.term, prev_index, prev_term, commit_index, [])
            self._send(peer.broker, probe)

    def take_reads(self, applied_index: RaftIndex) -> list[Callable[[bool], None]]:
        """The reads that may be answered, in the order of arrival."""
        return self.reads.take(applied_index) if self.has_committed else []

    # Handing over

    @property
    def is_transferring(self) -> bool:
        return self._transfer is not None

    def successor(self, now: float, among: Collection[BrokerId] | None) -> BrokerId | None:
        """The voter that could take over soonest while the disk of this broker stalls. It was heard lately,
        and holds the most of all that were. It must have entries on its disk that this broker's disk lacks.
        A voter without such entries has a disk that stalls as well, maybe the same one. It would lead no
        better, and each hand-over costs the clients a retry."""
        since, synced = now - self._timing.election_min, self._log.entries.synced_index
        voters = [p for p in self._voters if among is None or p.broker in among]
        ahead = [p for p in voters if self._last_heard[p] > since and self._match[p] > synced]
        return max(ahead, key=lambda peer: self._match[peer]).broker if ahead else None

    def transfer(self, to: BrokerId, now: float) -> str | None:
        """Start handing over; returns why not."""
        if self._transfer is not None:
            return f"a transfer to broker {self._transfer[0].broker} is under way"
        target = next((peer for peer in self._voters if peer.broker == to), None)
        if target is None:
            return f"broker {to} is no other voter of this group"
        if now - self._last_heard[target] > self._timing.election_min:
            return f"broker {to} has not been heard for {now - self._last_heard[target]:.1f} s"
        # The target is elected although its voters hear this leader. So no lease of this term holds from here
        # on, also when the request is late and this leader has given the transfer up meanwhile.
        self.reads.end_lease()
        self._transfer = (target, now + self._timing.election_min)
        self._continue_transfer()
        return None

    def _continue_transfer(self) -> None:
        assert self._transfer is not None
        target = self._transfer[0]
        if self._match[target] == self._log.last_index:
            self._send(target.broker, TimeoutNow(self._key, self.term))
