"""More logs and more segments than the process may have open files, and the longest names."""

from __future__ import annotations

from pathlib import Path

import pytest

from raftlog.testing.processes import BrokerProcess, broker_process
from tests.badinput import requests
from tests.badinput.batches import batch, records
from tests.badinput.wire import Raw

FEW_FILES = 1024
"""What `ulimit -n` says on many systems."""


def _open_files(broker: BrokerProcess) -> int:
    return len(list(Path(f"/proc/{broker.pid}/fd").iterdir()))


def _write_and_restart(broker: BrokerProcess, partitions: int, limit: int) -> None:
    """Write to every partition, read from all, and have the same after a restart and after a kill."""
    with Raw(("127.0.0.1", broker.port)) as raw:
        assert requests.create_topic(raw, "many", partitions=partitions) == 0
        for number in range(partitions):
            assert requests.produce(raw, "many", batch(), partition=number) == (0, 0)
            if number % 100 == 0:
                assert _open_files(broker) < limit * 3 // 4
    for end in (lambda: None, broker.stop, broker.kill):
        end()
        if not broker.is_running:
            broker.start()
        with Raw(("127.0.0.1", broker.port)) as raw:
            for number in range(partitions):
                found = requests.fetch(raw, "many", 0, partition=number)
                assert (found.error, found.high_watermark) == (0, 1), number
                assert found.records
        assert _open_files(broker) < limit * 3 // 4
    assert " ERROR " not in broker.log_path.read_text()


def test_more_partitions_than_descriptors(tmp_path: Path) -> None:
    with broker_process(tmp_path / "data", open_files_max=160) as broker:
        _write_and_restart(broker, 200, 160)


@pytest.mark.slow
@pytest.mark.long
def test_3000_partitions_with_1024_descriptors(tmp_path: Path) -> None:
    with broker_process(tmp_path / "data", open_files_max=FEW_FILES) as broker:
        _write_and_restart(broker, 3000, FEW_FILES)


@pytest.mark.slow
@pytest.mark.long
def test_1008_small_segments_with_1024_descriptors(tmp_path: Path) -> None:
    options: dict[str, object] = {"log.segment.bytes": 1024}
    with broker_process(tmp_path / "data", options=options, open_files_max=FEW_FILES) as broker:
        with Raw(("127.0.0.1", broker.port)) as raw:
            assert requests.create_topic(raw, "small") == 0
            for offset in range(1008):
                assert requests.produce(raw, "small", batch(records(1, bytes(1000)))) == (0, offset)
        assert len(list((tmp_path / "data").glob("small-0.*/*.log"))) == 1008
        for end in (broker.kill, broker.stop):
            end()
            broker.start()
            with Raw(("127.0.0.1", broker.port)) as raw:
                for offset in range(1008):
                    found = requests.fetch(raw, "small", offset)
                    assert (found.error, found.high_watermark) == (0, 1008)
                    assert found.records


def test_the_longest_topic_names(tmp_path: Path) -> None:
    names = ["t" * length for length in (220, 221, 249)]
    with broker_process(tmp_path / "data") as broker:
        for end in (0, 1, 2):
            with Raw(("127.0.0.1", broker.port)) as raw:
                for name in names:
                    if end == 0:
                        assert requests.metadata(raw, name)  # makes it
                    assert requests.produce(raw, name, batch()) == (0, end), len(name)
            broker.kill()
            broker.start()
