"""Start and stop, as an operator sees them. How fast: `python -m tests.footprint`."""

from __future__ import annotations

import signal
import time
from pathlib import Path

from raftlog.testing.processes import BrokerProcess
from tests.badinput import requests
from tests.badinput.batches import batch
from tests.badinput.wire import Raw


def test_a_broker_starts_stops_and_starts_again(tmp_path: Path) -> None:
    """What was written is there again, at the same offsets; a stop is clean, with connections open."""
    broker = BrokerProcess(tmp_path / "data")
    for life in range(2):
        broker.start()
        with Raw(("127.0.0.1", broker.port)) as raw:
            if not life:
                assert requests.create_topic(raw, "kept") == 0
            assert requests.produce(raw, "kept", batch()) == (0, life)
            assert requests.list_offsets(raw, "kept", -2) == (0, 0)
            waiting = requests.fetch_body("kept", life + 1, max_wait_ms=60_000)
            raw.send(len(waiting).to_bytes(4, "big"))  # a frame that is never finished
            assert broker.stop() == 0, broker.log_tail()
            assert raw.wait_closed() == b""


def test_a_signal_during_the_start_ends_it(tmp_path: Path) -> None:
    for delay_s in (0.0, 0.25):
        broker = BrokerProcess(tmp_path / f"data-{delay_s}")
        broker.launch()
        try:
            time.sleep(delay_s)
            code = broker.stop()
        finally:
            if broker.is_running:
                broker.kill()
        # Before the broker can listen to signals, SIGTERM ends it as it ends any process.
        assert code in (0, -signal.SIGTERM), broker.log_tail()
        broker.start()
        assert broker.stop() == 0, broker.log_tail()


def test_two_brokers_do_not_share_a_folder(tmp_path: Path) -> None:
    first = BrokerProcess(tmp_path / "data").start()
    try:
        second = BrokerProcess(tmp_path / "data")
        second.launch()
        assert second.wait(60) == 2
        assert "data" in second.log_tail()
        with Raw(("127.0.0.1", first.port)) as raw:
            assert requests.create_topic(raw, "still-served") == 0
    finally:
        first.kill()


def test_a_port_that_is_taken_is_said(tmp_path: Path) -> None:
    first = BrokerProcess(tmp_path / "one").start()
    try:
        second = BrokerProcess(tmp_path / "two", port=first.port)
        second.launch()
        assert second.wait(60) == 2
        assert str(first.port) in second.log_tail()
    finally:
        first.kill()
