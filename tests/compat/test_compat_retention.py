"""When old records go: at log.retention.check.interval.ms, and not before."""

from __future__ import annotations

import time
from pathlib import Path

from raftlog.testing.processes import broker_process
from tests.badinput import requests
from tests.badinput.batches import batch
from tests.badinput.wire import Raw
from tests.waiting import until

OLD_MS = 1_500_000_000_000


def _produce_old(raw: Raw) -> None:
    """A record that is past every retention when it comes, as a replayed history is."""
    assert requests.create_topic(raw, "old") == 0
    assert requests.produce(raw, "old", batch(timestamp=OLD_MS, max_timestamp=OLD_MS)) == (0, 0)


def test_a_replayed_history_can_be_read_for_a_while(tmp_path: Path) -> None:
    """Five minutes by default, as with Apache Kafka; not until the next second."""
    with broker_process(tmp_path / "data") as broker, Raw(("127.0.0.1", broker.port)) as raw:
        _produce_old(raw)
        time.sleep(2.5)
        assert requests.list_offsets(raw, "old", -2) == (0, 0)
        assert requests.fetch(raw, "old", 0).error == 0


def test_what_is_too_old_goes(tmp_path: Path) -> None:
    options = {"log.retention.check.interval.ms": 100}
    folder = tmp_path / "data"
    with broker_process(folder, options=options) as broker, Raw(("127.0.0.1", broker.port)) as raw:
        _produce_old(raw)
        until("it is gone", lambda: requests.list_offsets(raw, "old", -2) == (0, 1))
        assert requests.produce(raw, "old", batch()) == (0, 1)
