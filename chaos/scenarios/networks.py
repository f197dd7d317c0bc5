"""Scenarios in which the network breaks: partitions by nftables, and links by Toxiproxy."""

from __future__ import annotations

from collections import Counter
from typing import Final

from chaos.faults.fault import ids
from chaos.faults.network import CLIENTS, CreepingCut, Cut, Flap, Network, apart, both_ways, one_way
from chaos.faults.processes import Kill, Pause
from chaos.faults.repeats import Repeated
from chaos.faults.toxiproxy import Refused, Toxic, Toxiproxy
from chaos.history import Outcome
from chaos.play import Play
from chaos.scenarios.goals import (
    CONNECTED_MAX_S,
    elections_since,
    few_terms_since,
    served_again,
    served_since,
    whole_soon,
)
from chaos.scenarios.scenario import scenario
from chaos.stage import Links, Wants
from chaos.workloads.direct import produce

CUTS: Final = Wants(links=Links.NAMESPACES)
PROXIES: Final = Wants(links=Links.PROXIES)
REPEATS: Final = Wants(repeats=True, loses_power=True, sync_delay=0.02)
ASKED: Final = 3
"""Times that a leader that is cut off is asked: the first before it can know."""
FLAPS: Final = 4
LONELY_MIN_S: Final = 6.0
LONELY_MAX_S: Final = 60.0
SETTLED_S: Final = 3.0
"""Longer than an election time-out: who is going to ask for votes has done so."""
SMALL: Final = {"log.segment.bytes": 262_144, "raftlog.wal.file.bytes": 1_048_576}


def _network(play: Play) -> Network:
    assert play.stage.network is not None
    return play.stage.network


def _proxies(play: Play) -> Toxiproxy:
    assert play.stage.proxies is not None
    return play.stage.proxies


@scenario("isolate-leader", 6, wants=CUTS)
def isolate_leader(play: Play) -> None:
    """A leader is cut off from the other brokers while clients still reach it (split brain), or from
    everyone: it acknowledges nothing, and serves nothing that has passed."""
    for number in play.rounds():
        began = play.history.now()
        leader, *others = play.leader_first(number % 3)
        clients = play.rng.choice([[], [CLIENTS]])
        with play.suffers(apart(_network(play), [leader], [*others, *clients])):
            if not clients:
                _acknowledges_nothing(play, leader, number % 3)
            play.await_progress()
            play.calm(play.rng.uniform(1, 4))
        play.await_progress()
        served_since(play, began)
        few_terms_since(play, began)


def _acknowledges_nothing(play: Play, leader: int, partition: int) -> None:
    """A goal: a leader that is cut off from the others tells nobody that a record is written."""
    access, address = play.stage.access, play.stage.address(leader)
    told = Counter(produce(play.history, access, address, play.topic, partition) for _ in range(ASKED))
    seen = ", ".join(f"{count} {outcome.value}" for outcome, count in told.items())
    play.goals.met("a leader that is cut off acknowledges nothing", not told[Outcome.OK], seen)


@scenario("stale-tail", 3, wants=Wants(links=Links.NAMESPACES, options=SMALL))
def stale_tail(play: Play) -> None:
    """A leader that clients still reach is cut off with records that it cannot commit, is killed, and comes
    back to others that have gone on, with small segments."""
    for number in play.rounds():
        began = play.history.now()
        leader, *others = play.leader_first(number % 3)
        with play.suffers(apart(_network(play), [leader], others)):
            play.await_progress()
            play.calm(play.rng.uniform(0.2, 2))
            give_back = play.begins(Kill(play.stage.brokers, [leader]))
        give_back()
        play.await_progress()
        served_since(play, began)
        whole_soon(play)


@scenario("partial-partitions", 11, wants=CUTS)
def partial_partitions(play: Play) -> None:
    """One way, one link of three, a leader that hears and is not heard, a leader that is heard and hears
    nobody: whoever reaches a majority both ways goes on."""
    network = _network(play)
    for number in play.rounds():
        began = play.history.now()
        leader, one, other = play.leader_first(number % 3)
        cut: Cut = play.rng.choice(
            [
                one_way(network, [leader], [one, other]),
                one_way(network, [one, other], [leader]),
                one_way(network, [leader], [one]),
                one_way(network, [one], [leader]),
                apart(network, [leader], [one]),
                apart(network, [one], [other]),
            ]
        )
        with play.suffers(cut):
            play.await_progress()
            play.calm(play.rng.uniform(1, 4))
        play.await_progress()
        served_since(play, began, CONNECTED_MAX_S)
        few_terms_since(play, began)


@scenario("creeping-cut", 11, wants=CUTS, workload="transactions", seconds=25.0)
def creeping_cut(play: Play) -> None:
    """The coordinator of transactions, or a leader, loses one link after the other while clients reach
    everybody, and gets all of them back at once: what it had under way comes late, to brokers that have gone
    on without it."""
    for number in play.rounds():
        victim = play.rng.choice([play.coordinator(), play.coordinator(), play.leader(number % 2)])
        first = play.leader(number % 2)
        if first == victim:
            first = play.rng.choice(play.others(victim))
        (last,) = play.others([victim, first])
        began = play.history.now()
        creeping = CreepingCut(_network(play), [victim], [[first], [last]])
        with play.suffers(creeping):
            play.calm(play.rng.uniform(0.3, 1.2))
            creeping.spread()
            play.calm(play.rng.uniform(2.5, 4.5))  # longer, and brokers give the connections up
        play.await_progress()
        served_since(play, began, CONNECTED_MAX_S)
        few_terms_since(play, began)
        play.calm(play.rng.uniform(0, 2))


@scenario("half-seen-start", 11, wants=CUTS)
def half_seen_start(play: Play) -> None:
    """A broker is killed, and starts where it does not hear the leader of the metadata, and reaches the
    third: what it would lead is led by others until clients can reach it."""
    for _ in play.rounds():
        coordinator = play.coordinator()
        victim = next(one for one in play.ids if one != coordinator)
        home = next(number for (_, number), hosts in play.replicas().items() if hosts[0] == victim)
        began = play.history.now()
        give_back = play.begins(Kill(play.stage.brokers, [victim]))
        play.calm(1)
        if play.leader(home) == coordinator:  # who cannot hand it over through the cut
            give_back()
            play.await_progress()
            continue
        with play.suffers(one_way(_network(play), [coordinator], [victim])):
            play.stage.brokers[victim].launch()
            play.calm(20)
        play.stage.brokers[victim].wait_ready()
        give_back()
        served_since(play, began, CONNECTED_MAX_S)
        few_terms_since(play, began)
        play.await_progress()


@scenario("ring", 11, wants=Wants(brokers=5, links=Links.NAMESPACES))
def ring(play: Play) -> None:
    """Five brokers, each of which reaches only its two neighbours (majorities-ring), or two pairs that only
    a fifth reaches (bridge)."""
    network = _network(play)
    for number in play.rounds():
        began = play.history.now()
        around = play.rng.sample(play.ids, 5)
        if number % 2 == 0:
            pairs = [(around[at], around[(at + 2) % 5]) for at in range(5)]
            cut = Cut(
                network,
                f"ring {'-'.join(map(str, around))}",
                [link for a, b in pairs for link in both_ways([a], [b])],
            )
        else:
            cut = apart(network, around[:2], around[3:])
            cut.what = f"{cut.what}, bridge {around[2]}"
        with play.suffers(cut):
            play.calm(play.rng.uniform(2, 5))
        play.await_progress()
        served_since(play, began, CONNECTED_MAX_S)
        few_terms_since(play, began)


@scenario("flapping", 12, wants=CUTS)
def flapping(play: Play) -> None:
    """The links of one broker go off and on, about once a second."""
    for _ in play.rounds():
        began = play.history.now()
        leader, *others = play.leader_first(play.rng.randrange(3))
        flap = Flap(_network(play), f"{leader} | {ids(others)}", both_ways([leader], others))
        with play.suffers(flap):
            for _ in range(FLAPS):
                play.calm(play.rng.uniform(0.4, 0.8))
                flap.off()
                play.calm(play.rng.uniform(0.3, 0.7))
                flap.begin()
        play.await_progress()
        served_since(play, began)
        elections_since(play, began, FLAPS + 1)


@scenario("lonely-node", 12, wants=CUTS)
def lonely_node(play: Play) -> None:
    """A broker is cut off from the others, and from clients or not, for up to a minute, and comes back:
    nobody waits for it, and it brings on one election at most."""
    for number in play.rounds():
        began = play.history.now()
        leader, *others = play.leader_first(number % 3)
        lonely = play.rng.choice([leader, others[0]])
        away = apart(_network(play), [lonely], [*play.others(lonely), *play.rng.choice([[], [CLIENTS]])])
        with play.suffers(away):
            play.calm(min(LONELY_MAX_S, max(LONELY_MIN_S, play.left_s / 2)))
            healed = play.history.now()
        play.await_progress()
        play.calm(SETTLED_S)
        served_since(play, began)
        elections_since(play, healed, 1)


@scenario("slow-links", 4, wants=PROXIES)
def slow_links(play: Play) -> None:
    """Every link between brokers takes longer than a heartbeat, with jitter. One breaks now and then, and a
    leader is killed, so that the next one finds out over slow links what the others have."""
    proxies = _proxies(play)
    links = [f"{a}-{b}" for a in play.ids for b in play.ids if a != b]
    for number in play.rounds():
        delay = play.rng.randint(40, 125)
        slow = Toxic(
            proxies,
            f"links {delay} ms each way",
            play.ids,
            links,
            "latency",
            latency=delay,
            jitter=delay // 4,
        )
        with play.suffers(slow):
            play.calm(play.rng.uniform(1, 3))
            broker = play.rng.choice(play.ids)
            own = [link for link in links if str(broker) in link.split("-")]
            with play.suffers(Refused(proxies, f"links of {broker} refused", [broker], own)):
                play.calm(play.rng.uniform(0.5, 2))
            play.calm(play.rng.uniform(0, 1))
            leader = play.leader(number % 3)
            play.suffer(Kill(play.stage.brokers, [leader]), play.rng.uniform(2, 4))
            play.calm(play.rng.uniform(0, 2))
            healed = play.history.now()
        play.await_progress()
        served_again(play, healed)
        whole_soon(play)


@scenario("lost-links", 14, wants=PROXIES)
def lost_links(play: Play) -> None:
    """Links between brokers are reset under load, or cut what they carry in pieces, and brokers stand still:
    what was sent comes again, and late. Then the leader is killed."""
    proxies = _proxies(play)
    links = [f"{a}-{b}" for a in play.ids for b in play.ids if a != b]
    for number in play.rounds():
        reset = play.rng.randint(50, 300)
        toxic = Toxic(proxies, "links are reset", play.ids, links, "reset_peer", toxicity=0.5, timeout=reset)
        leader, *others = play.leader_first(number % 3)
        with play.suffers(toxic):
            for _ in range(3):
                play.suffer(Pause(play.stage.brokers, [play.rng.choice(others)]), play.rng.uniform(0.1, 0.4))
                play.calm(play.rng.uniform(0.2, 0.5))
            give_back = play.begins(Kill(play.stage.brokers, [leader]))
        healed = play.history.now()
        play.calm(play.rng.uniform(0.5, 1))
        give_back()
        play.await_progress()
        served_again(play, healed)


@scenario("late-copies", 14, wants=REPEATS)
def late_copies(play: Play) -> None:
    """What brokers send each other comes again, at once or seconds late, while disks are slow and leaders are
    killed, stand still or lose their power."""
    _late_copies(play)


@scenario("late-decisions", 14, wants=REPEATS, workload="transactions", seconds=25.0)
def late_decisions(play: Play) -> None:
    """As late-copies, with transactions: what was decided about one comes again in the next."""
    _late_copies(play)


def _late_copies(play: Play) -> None:
    brokers = play.stage.brokers
    for number in play.rounds():
        share, late_s = play.rng.uniform(0.1, 0.5), play.rng.uniform(0.1, 4)
        with play.suffers(Repeated(play.stage.repeats, share, late_s)):
            play.calm(play.rng.uniform(1, 3))
            victims = [play.leader(number % 2)]
            loses_power, kind = play.stage.power_loss(victims), play.rng.choice([Kill, Pause])
            play.suffer(play.rng.choice([loses_power, kind(brokers, victims)]), play.rng.uniform(0.5, 3))
            play.await_progress()
            healed = play.history.now()
        play.calm(play.rng.uniform(0, 1))
        served_again(play, healed)


@scenario("lost-replies", 14, wants=PROXIES)
def lost_replies(play: Play) -> None:
    """Answers to clients are lost: connections are reset after so many bytes, or go silent, while leaders are
    killed; producers repeat what they do not know."""
    proxies = _proxies(play)
    clients = [f"clients-{broker}" for broker in play.ids]
    for number in play.rounds():
        if number % 2 == 0:
            cut = play.rng.randint(200, 5_000)
            toxic = Toxic(
                proxies,
                f"answers end after {cut} bytes",
                play.ids,
                clients,
                "limit_data",
                streams=["downstream"],
                bytes=cut,
            )
        else:
            toxic = Toxic(
                proxies,
                "connections are reset",
                play.ids,
                clients,
                "reset_peer",
                streams=["downstream"],
                toxicity=0.5,
                timeout=play.rng.randint(50, 500),
            )
        healed = play.suffer(toxic, play.rng.uniform(1, 3))
        play.await_progress()
        served_again(play, healed)
        play.suffer(Kill(play.stage.brokers, [play.leader(number % 3)]), play.rng.uniform(0.2, 1))
        play.await_progress()
