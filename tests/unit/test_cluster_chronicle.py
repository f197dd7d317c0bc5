"""What became of a broker, in words."""

from __future__ import annotations

from dataclasses import replace

import pytest

from raftlog.cluster.chronicle import told
from raftlog.metadata.catalog import BrokerInfo
from raftlog.types import BrokerId

ONE = BrokerInfo(
    id=BrokerId(1),
    host="a",
    port=9092,
    peer_host="a",
    peer_port=9192,
    rack=None,
    fenced=False,
    draining=False,
)


@pytest.mark.parametrize(
    ("before", "now", "words"),
    [
        (None, ONE, "is part of the cluster now (a:9092)"),
        (None, replace(ONE, port=0), "is part of the cluster now (not started yet)"),
        (ONE, None, "was removed from the cluster"),
        (ONE, replace(ONE, fenced=True), "is lost"),
        (replace(ONE, fenced=True), ONE, "is there (a:9092)"),
        (ONE, replace(ONE, draining=True), "is draining"),
        (replace(ONE, draining=True), ONE, "is given replicas again"),
        (ONE, replace(ONE, host="b", peer_port=9), "has moved: clients find it at b:9092, brokers at a:9"),
    ],
)
def test_a_change_has_words(before: BrokerInfo | None, now: BrokerInfo | None, words: str) -> None:
    assert (told(before, now) or "").startswith(words)


def test_what_is_the_same_is_not_told() -> None:
    assert told(ONE, replace(ONE, rack="r")) is None
