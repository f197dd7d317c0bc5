"""Kafka Streams on three brokers, exactly once, while the broker that coordinates is killed five times."""

from __future__ import annotations

import time
from collections import defaultdict
from pathlib import Path

import pytest

from raftlog.testing.processes import ClusterProcesses
from tests.foreign.commands import Background, JavaTools
from tests.foreign.kills import STOP_MAX_S, kill_coordinators, longest_stop
from tests.foreign.streams import Flow


@pytest.mark.slow
def test_each_word_is_counted_once(
    apps: JavaTools, java: JavaTools, mortal: ClusterProcesses, tmp_path: Path
) -> None:
    bootstrap = mortal.bootstrap
    for topic in ("words", "counts"):
        java(
            *("TopicCommand", "--bootstrap-server", bootstrap, "--create", "--topic", topic),
            *("--partitions", 3, "--replication-factor", 3),
        )
    application = Background(
        apps.source("WordCount", bootstrap, "word-count", "words", "counts", tmp_path / "state")
    )
    try:
        with Flow(bootstrap, "words", "counts") as flow:
            application.until("the first count", lambda: flow.read)

            def goes_on(when: str) -> None:
                application.until(f"counts {when}", flow.has_read_since(time.monotonic()))

            begun = len(flow.read)
            kill_coordinators(mortal, "word-count", goes_on)
            ended = len(flow.read)
            sent = flow.end()
            application.until("all is counted", lambda: len(flow.read) >= sent)
            moments = [moment for moment, _, _ in flow.read[begun:ended]]
    finally:
        application.stop()
    counts: dict[str, list[int]] = defaultdict(list)
    for _, word, count in flow.read:
        counts[word].append(int(count))
    assert counts == {word: list(range(1, many + 1)) for word, many in flow.sent.items()}
    assert [each for each in application.said if "error" in each] == []
    assert longest_stop(moments) < STOP_MAX_S
