"""Random faults on a Raft group, one seed a run: what was committed stays, and after healing all agree.

The links lose, delay, repeat and reorder; brokers lose power and stall; leadership is handed over; members
come and go; logs are cut at the front. Invariants are checked after every turn (tests/unit/raft_cluster.py).
"""

from __future__ import annotations

import itertools
import random

import pytest

from raftlog.errors import StorageError
from raftlog.raft.events import Cause
from raftlog.raft.messages import Message
from raftlog.raft.values import Membership, Outcome
from raftlog.types import BrokerId, RaftIndex
from tests.sim.raft_disk_store import DiskStore, batch_of, compact
from tests.unit.raft_cluster import Broker, Cluster, Proposal
from tests.unit.raft_store import MemoryLog

STEPS = 120


def drop_before(log: MemoryLog, index: RaftIndex) -> None:
    log.drop_before(index, int(index).to_bytes(8, "big"))


class Chaos:
    """One run."""

    def __init__(self, seed: int, *, size: int, membership: bool = False, on_disk: bool = False) -> None:
        self.rng = random.Random(seed)
        brokers, voters = size + (2 if membership else 0), range(1, size + 1)
        if on_disk:
            disks = itertools.count(1000 * seed)
            self.cluster = Cluster(
                brokers,
                seed=seed,
                voters=voters,
                new_store=lambda broker: DiskStore(next(disks)),
                encode=batch_of,
                eager_commit=True,
            )
        else:
            self.cluster = Cluster(brokers, seed=seed, voters=voters)
        self.drop_before = compact if on_disk else drop_before
        self.size = size
        self.proposals: list[Proposal] = []
        self.last: Proposal | None = None
        self.count = 0
        self.cluster.sync_time = self.sync_time
        self.slow: set[int] = set()
        actions = [
            (self.propose, 40),
            (self.run, 30),
            (self.crash, 6),
            (self.restart, 8),
            (self.disturb, 5),
            (self.heal, 8),
            (self.slow_disk, 4),
            (self.transfer, 4),
            (self.compact, 3),
        ]
        if size > 1:
            actions += [(self.partition, 5), (self.one_way, 3), (self.part_kill, 6), (self.contest, 4)]
        if size > 2:
            actions.append((self.wipe, 3))
        actions.append((self.power_loss_while_writing, 6))
        if on_disk and size > 2:
            actions.append((self.rot, 4))
        if membership:
            actions.append((self.change_membership, 12))
        self.actions = [action for action, _ in actions]
        self.weights = [weight for _, weight in actions]

    def sync_time(self, broker: int) -> float:
        if broker in self.slow:
            return self.rng.choice([0.05, 0.3, 1.5])
        return self.rng.choice([0.0, 0.0005, 0.002])

    def play(self) -> None:
        for _ in range(STEPS):
            self.rng.choices(self.actions, self.weights)[0]()
        self.finish()

    def finish(self) -> None:
        cluster = self.cluster
        cluster.heal()
        self.slow.clear()
        for broker in list(cluster.down):
            cluster.restart(broker)
        try:
            cluster.run_until(self.try_to_commit, within=12.0)
        except AssertionError:
            if self.too_much_is_lost():
                return
            raise
        members = cluster[cluster.elect()].group.membership.members
        for broker in [b for b in cluster.brokers if b not in members]:
            cluster.crash(broker)
        cluster.converge()
        cluster.check_all()
        self.judge()

    def too_much_is_lost(self) -> bool:
        """Latent damage came to light in so many replicas that no majority may vote: the group waits for an
        operator, and has told nobody that anything is lost."""
        for broker in self.cluster.brokers.values():
            voters = [self.cluster[voter].group for voter in broker.group.voters]
            if 2 * sum(group.is_trusted for group in voters) <= len(voters):
                return self.cluster.leader is None
        return False

    def try_to_commit(self) -> bool:
        """A proposal of after the healing has been committed; until then one is always under way."""
        if self.last is not None and self.last.outcome is Outcome.COMMITTED:
            return True
        leader = self.cluster.leader
        if leader is not None and (self.last is None or self.last.outcome is not None):
            self.count += 1
            self.last = self.cluster.maybe_propose(leader, b"last%d" % self.count)
            if self.last is not None:
                self.proposals.append(self.last)
        return False

    def judge(self) -> None:
        committed = self.cluster.committed
        for proposal in self.proposals:
            there = committed.get(proposal.entry.index) == (proposal.entry.term, proposal.payload)
            if proposal.outcome is Outcome.COMMITTED:
                assert there, f"lost: {proposal}"
            elif proposal.outcome is Outcome.WILL_NOT_HAPPEN:
                assert not there, f"happened all the same: {proposal}"
        payloads = [payload for _, payload in committed.values() if payload.startswith(b"p")]
        assert len(payloads) == len(set(payloads))

    # Actions

    def any(self) -> Broker | None:
        brokers = list(self.cluster.brokers.values())
        return self.rng.choice(brokers) if brokers else None

    def propose(self) -> None:
        leaders = [b for b in self.cluster.brokers.values() if b.group.is_leader]
        if not leaders:
            return
        broker = self.rng.choice(leaders)
        for _ in range(self.rng.choice([1, 1, 1, 5, 40])):
            self.count += 1
            proposal = self.cluster.maybe_propose(broker.id, b"p%d" % self.count)
            if proposal is not None:
                self.proposals.append(proposal)

    def run(self) -> None:
        self.cluster.run(self.rng.choice([0.001, 0.01, 0.05, 0.2, 1.0, 3.0]))

    def crash(self) -> None:
        broker = self.any()
        if broker is not None:
            self.cluster.crash(broker.id)

    def restart(self) -> None:
        if self.cluster.down:
            self.cluster.restart(self.rng.choice(sorted(self.cluster.down)))

    def partition(self) -> None:
        everyone = self.cluster.everyone
        self.rng.shuffle(everyone)
        at = self.rng.randrange(1, len(everyone))
        self.cluster.cut(everyone[:at], everyone[at:])

    def one_way(self) -> None:
        one, other = self.rng.sample(self.cluster.everyone, 2)
        self.cluster.cut([one], [other], both=False)

    def disturb(self) -> None:
        loss, slow = self.rng.choice([0.0, 0.02, 0.3]), self.rng.choice([0.002, 0.02, 0.4])

        def rule(sender: int, receiver: int, message: Message) -> float | None:
            if self.rng.random() < loss:
                return None
            return self.rng.uniform(0.0005, slow)  # reorders

        self.cluster.rules = [rule]
        self.cluster.duplicates = self.rng.choice([0.0, 0.0, 0.2])

    def heal(self) -> None:
        self.cluster.heal()
        self.slow.clear()

    def slow_disk(self) -> None:
        self.slow.add(self.rng.choice(self.cluster.everyone))

    def part_kill(self) -> None:
        """Writes that only a bare majority has; then a member of it loses power, another is cut off, and
        who lagged is in the new majority (Jepsen on NATS)."""
        cluster, leader = self.cluster, self.cluster.leader
        if leader is None:
            return
        cluster.heal()
        others = [b for b in cluster.everyone if b != leader]
        self.rng.shuffle(others)
        lagging, keeping = others[: len(others) // 2], others[len(others) // 2 :]
        cluster.cut(lagging, [leader, *keeping])
        victim = self.rng.choice([leader, *keeping])
        self.slow = {victim} if self.rng.random() < 0.7 else set()
        self.propose()
        cluster.run(self.rng.choice([0.003, 0.01, 0.04]))
        if victim in cluster.brokers:
            cluster.crash(victim)
        self.slow.clear()
        cluster.heal()
        if len(keeping) > 1 or self.rng.random() < 0.5:
            cluster.isolate(leader if victim != leader else keeping[0])
        cluster.run(self.rng.choice([0.0, 3.0]))
        if victim in cluster.down:
            cluster.restart(victim)
        cluster.run(self.rng.choice([0.5, 4.0]))

    def contest(self) -> None:
        """Several ask for votes at once, and some voters lose power just after."""
        cluster = self.cluster
        for broker in list(cluster.brokers.values()):
            broker.group.turning.replica.step_down(Cause.AS_ASKED)  # whoever led does no more
            if self.rng.random() < 0.6 and self.may_campaign(broker):
                broker.group.turning.replica.parts.elections.campaign(
                    cluster.now, transfer=True
                )  # as if pre-votes had been won
            broker.group.turning.wake()
        cluster.run(self.rng.choice([0.001, 0.002, 0.003, 0.005]))
        for broker in list(cluster.brokers.values()):
            if self.rng.random() < 0.3:
                cluster.crash(broker.id)
                cluster.restart(broker.id)
                if self.may_campaign(cluster[broker.id]):
                    cluster[broker.id].group.turning.replica.parts.elections.campaign(
                        cluster.now, transfer=True
                    )
        cluster.run(self.rng.choice([0.005, 0.5]))

    @staticmethod
    def may_campaign(broker: Broker) -> bool:
        return broker.group.is_trusted and broker.id in broker.group.voters

    def power_loss_while_writing(self) -> None:
        self.propose()
        self.cluster.run(self.rng.choice([0.0005, 0.0015, 0.0025, 0.004]))
        for broker in list(self.cluster.brokers):
            if self.rng.random() < 0.5:
                self.cluster.crash(broker)
                if self.rng.random() < 0.7:
                    self.cluster.restart(broker)

    def wipe(self) -> None:
        """An empty disk under the same id; one at a time, or too much is lost to go on."""
        cluster = self.cluster
        if (
            cluster.down
            or not self.all_trusted
            or any(len(b.group.voters) < 3 for b in cluster.brokers.values())
        ):
            return
        cluster.wipe(self.rng.choice(cluster.everyone))

    def rot(self) -> None:
        """A bit of one broker's files turns over while it is down. A folder that refuses to open is emptied,
        as an operator would."""
        cluster = self.cluster
        if cluster.down or not self.all_trusted:
            return
        victim = self.rng.choice(cluster.everyone)
        disk = cluster[victim].store.disk
        cluster.crash(victim)
        files = [path for path in disk.files("/data") if disk.content(path) and "meta" not in path]
        path = self.rng.choice(files)
        disk.flip_bit(path, self.rng.randrange(8 * len(disk.content(path))))
        try:
            cluster.restart(victim)
        except StorageError:
            cluster.down[victim] = cluster.stopped
            cluster.wipe(victim)

    @property
    def all_trusted(self) -> bool:
        brokers = self.cluster.brokers | self.cluster.down
        return all(broker.group.is_trusted for broker in brokers.values())

    def transfer(self) -> None:
        leader = self.cluster.leader
        if leader is not None:
            group = self.cluster[leader].group
            group.leading.transfer(self.rng.choice(sorted(group.voters)), self.cluster.now)

    def compact(self) -> None:
        broker = self.any()
        if broker is not None and broker.log.commit_index > broker.log.first_index:
            index = self.rng.randrange(broker.log.first_index, broker.log.commit_index)
            if index <= broker.machine.applied_index:
                self.drop_before(broker.log, RaftIndex(index))

    def change_membership(self) -> None:
        leader = self.cluster.leader
        if leader is None or not self.all_trusted:
            return
        group = self.cluster[leader].group
        now: Membership = group.membership
        broker = BrokerId(self.rng.choice(self.cluster.everyone))
        if broker in now.learners:
            wanted = now.with_voter(broker)
        elif broker in now.voters:
            wanted = now.without(broker) if len(now.voters) > 2 else now
        else:
            wanted = now.with_learner(broker)
        if wanted != now:
            group.leading.propose_membership(wanted, self.cluster.now, lambda *_: None)


@pytest.mark.parametrize("seed", range(20))
def test_three_brokers(seed: int) -> None:
    Chaos(seed, size=3).play()


@pytest.mark.parametrize("seed", range(10))
def test_five_brokers(seed: int) -> None:
    Chaos(1000 + seed, size=5).play()


@pytest.mark.parametrize("seed", range(15))
def test_members_come_and_go(seed: int) -> None:
    Chaos(2000 + seed, size=3, membership=True).play()


@pytest.mark.parametrize("seed", range(5))
def test_one_broker(seed: int) -> None:
    Chaos(3000 + seed, size=1).play()


@pytest.mark.parametrize("seed", range(10))
def test_three_brokers_on_disks(seed: int) -> None:
    """The same on the real store: its files, its recovery, its checkpoints."""
    Chaos(4000 + seed, size=3, on_disk=True).play()
