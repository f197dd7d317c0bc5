"""A fourth broker is added, gets its share, and an old one is drained and removed, under load."""

from __future__ import annotations

import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from typing import Final

from tests.cluster.trial import NotWhole, Trial, create_topic

COMMAND_TIMEOUT_S: Final = 180
OTHER_TOPIC: Final = "other"
OTHER_PARTITIONS: Final = 12
CALM_S: Final = 1.0
"""What a step leaves behind comes to light within that."""


def raftlog(trial: Trial, *arguments: str) -> str:
    """What `raftlog cluster …` prints; raises NotWhole when it fails."""
    command = [sys.executable, "-m", "raftlog", "cluster", *arguments, "--bootstrap", trial.cluster.bootstrap]
    done = subprocess.run(command, capture_output=True, text=True, timeout=COMMAND_TIMEOUT_S)
    if done.returncode != 0:
        raise NotWhole(f"raftlog cluster {' '.join(arguments)}: {done.stdout}{done.stderr}")
    return done.stdout.strip()


def steps(
    trial: Trial, other_partitions: int = OTHER_PARTITIONS, calm_s: float = CALM_S
) -> Iterator[tuple[str, float, float]]:
    """What was done, the seconds it took, and the longest gap without an acknowledged write meanwhile."""
    create_topic(trial.cluster.bootstrap, OTHER_TOPIC, other_partitions, 3)
    leaving = trial.coordinator()

    def timed(what: str, begin: float) -> tuple[str, float, float]:
        end = time.monotonic()
        trial.run(calm_s)
        return what, end - begin, trial.gaps(begin, time.monotonic()).cluster.length

    begin = time.monotonic()
    newcomer, address = trial.cluster.newcomer(4)
    raftlog(trial, "add", f"4@{address}")
    newcomer.start()
    yield timed("broker 4 added and started", begin)

    begin = time.monotonic()
    raftlog(trial, "rebalance")
    trial.wait_whole()
    share = _share(trial)
    if max(share.values()) - min(share.values()) > 1 or len(share) != 4:
        raise NotWhole(f"replicas after the rebalance: {dict(share)}")
    yield timed(f"rebalanced: replicas {dict(sorted(share.items()))}", begin)

    begin = time.monotonic()
    raftlog(trial, "drain", str(leaving))
    trial.wait_whole(at_home=False)
    share = _share(trial)
    if share[leaving]:
        raise NotWhole(f"broker {leaving} still keeps {share[leaving]} replicas")
    yield timed(f"broker {leaving} drained, which coordinated: replicas {dict(sorted(share.items()))}", begin)

    begin = time.monotonic()
    assert trial.broker(leaving).stop() == 0, trial.broker(leaving).log_tail()
    yield timed(f"broker {leaving} stopped", begin)

    begin = time.monotonic()
    trial.cluster.forget(leaving)
    raftlog(trial, "remove", str(leaving))
    yield timed(f"broker {leaving} removed", begin)

    victim = trial.leaders()[0]
    begin = time.monotonic()
    trial.broker(victim).kill()
    trial.await_progress()
    trial.broker(victim).start()
    trial.wait_whole(at_home=False)
    yield timed(f"broker {victim} killed and restarted", begin)


def _share(trial: Trial) -> Counter[int]:
    """How many replicas each broker keeps."""
    topics = trial.admin.list_topics(timeout=10).topics.values()
    return Counter(host for topic in topics for one in topic.partitions.values() for host in one.replicas)
