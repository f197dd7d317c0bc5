"""Scenarios in which the network breaks: partitions by nftables, and links by Toxiproxy."""

from __future__ import annotations

from typing import Final

from chaos.faults.fault import ids
from chaos.faults.network import CLIENTS, Cut, Flap, Network, apart, both_ways, one_way
from chaos.faults.processes import Kill, Pause
from chaos.faults.toxiproxy import Refused, Toxic, Toxiproxy
from chaos.play import Play
from chaos.scenarios.scenario import GAP_MAX_S, scenario
from chaos.stage import Links, Wants

CUTS: Final = Wants(links=Links.NAMESPACES)
PROXIES: Final = Wants(links=Links.PROXIES)
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
        cut = apart(_network(play), [leader], [*others, *play.rng.choice([[], [CLIENTS]])])
        with play.suffers(cut):
            play.await_progress()
            play.calm(play.rng.uniform(1, 4))
        play.await_progress()
        gap = play.gap(began)
        play.goal(
            f"no partition waits longer than {GAP_MAX_S:.0f} s",
            gap.length <= GAP_MAX_S,
            f"{gap.length:.2f} s",
        )


@scenario("stale-tail", 3, wants=Wants(links=Links.NAMESPACES, options=SMALL))
def stale_tail(play: Play) -> None:
    """A leader that clients still reach is cut off with records that it cannot commit, is killed, and comes
    back to others that have gone on, with small segments."""
    for number in play.rounds():
        leader, *others = play.leader_first(number % 3)
        with play.suffers(apart(_network(play), [leader], others)):
            play.await_progress()
            play.calm(play.rng.uniform(0.2, 2))
            give_back = play.begins(Kill(play.stage.brokers, [leader]))
        give_back()
        play.await_progress()
        play.await_whole()


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
        gap = play.gap(began)
        play.goal(
            f"no partition waits longer than {GAP_MAX_S:.0f} s",
            gap.length <= GAP_MAX_S,
            f"{gap.length:.2f} s",
        )


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
        gap = play.gap(began)
        play.goal(
            f"no partition waits longer than {GAP_MAX_S:.0f} s",
            gap.length <= GAP_MAX_S,
            f"{gap.length:.2f} s",
        )
        play.await_progress()


@scenario("ring", 11, wants=Wants(brokers=5, links=Links.NAMESPACES))
def ring(play: Play) -> None:
    """Five brokers, each of which reaches only its two neighbours (majorities-ring), or two pairs that only
    a fifth reaches (bridge)."""
    network = _network(play)
    for number in play.rounds():
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


@scenario("flapping", 12, wants=CUTS)
def flapping(play: Play) -> None:
    """The links of one broker go off and on, about once a second."""
    for _ in play.rounds():
        leader, *others = play.leader_first(play.rng.randrange(3))
        flap = Flap(_network(play), f"{leader} | {ids(others)}", both_ways([leader], others))
        with play.suffers(flap):
            for _ in range(4):
                play.calm(play.rng.uniform(0.4, 0.8))
                flap.off()
                play.calm(play.rng.uniform(0.3, 0.7))
                flap.begin()
        play.await_progress()


@scenario("slow-links", 4, wants=PROXIES)
def slow_links(play: Play) -> None:
    """Every link between brokers takes longer than a heartbeat, with jitter, and now and then one breaks."""
    proxies = _proxies(play)
    links = [f"{a}-{b}" for a in play.ids for b in play.ids if a != b]
    for _ in play.rounds():
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
            play.calm(play.rng.uniform(2, 4))
            broker = play.rng.choice(play.ids)
            own = [link for link in links if str(broker) in link.split("-")]
            with play.suffers(Refused(proxies, f"links of {broker} refused", [broker], own)):
                play.calm(play.rng.uniform(0.5, 2))
            play.calm(1)
        play.await_progress()


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
        play.calm(play.rng.uniform(0.5, 1))
        give_back()
        play.await_progress()


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
        play.suffer(toxic, play.rng.uniform(1, 3))
        play.await_progress()
        play.suffer(Kill(play.stage.brokers, [play.leader(number % 3)]), play.rng.uniform(0.2, 1))
        play.await_progress()
