"""The cluster and the run itself: what is on the disks, whether faults were faults, how clients fared."""

from __future__ import annotations

from collections import defaultdict
from itertools import chain

from chaos.checkers.finding import Finding, Log, View, show
from chaos.history import Fault, Goal, Led, Note, Outcome, Replica, Send, TopicChange

TIMED_OUT = ("timed out", "timeout", "_TIMED_OUT", "MSG_TIMED_OUT", "run over")
"""In what a client says when it waited for too long: the fault's doing, and not a wrong answer."""


def replicas_equal(view: View) -> Finding:
    found = Finding(
        "replicas-equal", "all replicas are equal in the end", "different bytes of a partition on two brokers"
    )
    # Replicas compact their logs when they like: their bytes differ, and are sound all the same.
    copies: dict[Log, dict[str, list[Replica]]] = defaultdict(lambda: defaultdict(list))
    for replica in view.history.of(Replica):
        found.checked += 1
        log = replica.log, replica.partition
        if replica.outcome is Outcome.FAILED:
            found.violated(f"{show(log)} on broker {replica.broker}: {replica.why}", replica)
        elif replica.outcome is Outcome.UNKNOWN:
            found.unfinished = replica.why
        else:
            copies[log][replica.digest].append(replica)
    for log, digests in copies.items():
        if len(digests) > 1 and log[0] not in view.history.head.compacted:
            sizes = [f"{one.bytes} bytes on broker {one.broker}" for each in digests.values() for one in each]
            found.violated(f"{show(log)} differs: {', '.join(sizes)}", *chain(*digests.values()))
    if not found.checked:
        found.unfinished = "no disk was looked at"
    return found


def faults_had_effect(view: View) -> Finding:
    found = Finding(
        "effect", "every fault had its effect", "a kill after which the process ran, a cut that lost nothing"
    )
    for fault in view.history.of(Fault):
        found.checked += 1
        if fault.outcome is not Outcome.OK:
            found.violated(f"{fault.what}: {fault.why or 'not known to have had an effect'}", fault)
    return found


def goals_met(view: View) -> Finding:
    found = Finding(
        "goals", "the scenario's own goals are met", "what the scenario asks for, and did not get"
    )
    for goal in view.history.of(Goal):
        found.checked += 1
        if goal.outcome is Outcome.FAILED:
            found.violated(f"{goal.what}: {goal.seen}", goal)
        elif goal.outcome is Outcome.UNKNOWN:
            found.unfinished = f"{goal.what}: {goal.seen}"
    return found


def clients_fare_well(view: View) -> Finding:
    """A time-out is a fault's doing. A refusal that ends an idempotent producer is not."""
    found = Finding(
        "clients", "no client hangs, gives up or is refused for good", "a fatal error that no fault explains"
    )
    for note in view.history.of(Note):
        found.checked += 1
        found.violated(f"{note.client}: {note.text}", note)
    for send in view.sends:
        found.checked += 1
        if send.outcome is Outcome.UNKNOWN and send.why and not any(word in send.why for word in TIMED_OUT):
            found.violated(f"{send.value}: {send.why}", send)
    return found


def one_leader(view: View) -> Finding:
    """As clients are told."""
    found = Finding("one-leader", "an epoch has one leader", "two brokers that lead a partition in one epoch")
    leaders: dict[tuple[Log, int], Led] = {}
    for led in view.history.of(Led):
        if led.broker < 0 or led.epoch < 0:
            continue
        found.checked += 1
        other = leaders.setdefault(((led.log, led.partition), led.epoch), led)
        if other.broker != led.broker:
            place = show((led.log, led.partition))
            found.violated(f"{place}, epoch {led.epoch}: {other.broker} and {led.broker}", other, led)
    return found


def topics_are_new(view: View) -> Finding:
    """A topic that is created again has an id of its own. That its log is another is seen by its records."""
    found = Finding(
        "topics", "a topic that is created again is another", "an id that comes back, or a topic that stays"
    )
    seen: dict[str, TopicChange] = {}
    for change in view.history.of(TopicChange):
        if change.outcome is not Outcome.OK:
            continue
        found.checked += 1
        if change.action == "created" and change.topic_id:
            other = seen.setdefault(change.topic_id, change)
            if other is not change and other.log != change.log:
                found.violated(f"{change.log} has the id of {other.log}", other, change)
    return found


def something_happened(view: View) -> Finding:
    """A run in which nothing is acknowledged shows nothing."""
    found = Finding("load", "records were acknowledged", "a run that shows nothing")
    found.checked = sum(send.outcome is Outcome.OK for send in view.history.of(Send))
    if not found.checked:
        found.unfinished = "nothing was acknowledged"
    return found


CHECKERS = (
    replicas_equal,
    one_leader,
    topics_are_new,
    clients_fare_well,
    faults_had_effect,
    goals_met,
    something_happened,
)
