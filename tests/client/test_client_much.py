"""Many times what a broker may hold in memory is written to it in one life, and every record is taken."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio

from tests import secured
from tests.secured import broker_process

MEMORY = 16 << 20
"""The least that `raftlog.memory.max.bytes` may be."""


@pytest.mark.parametrize(
    ("size", "count", "batch"),
    [
        pytest.param(1000, 80_000, 1 << 20, id="in large requests"),
        pytest.param(  # each costs 2 KiB beside its bytes
            *(10, 8_000, 1), id="in requests of one record", marks=(pytest.mark.slow, pytest.mark.long)
        ),
    ],
)
async def test_a_broker_takes_many_times_its_memory(
    tmp_path: Path, size: int, count: int, batch: int
) -> None:
    options = {"raftlog.memory.max.bytes": str(MEMORY)}
    with broker_process(tmp_path, options=options) as broker:
        async with (
            secured.open_client(broker.bootstrap) as client,
            client.producer(batch_size=batch, linger_ms=0, delivery_timeout_ms=60_000) as producer,
        ):
            with trio.fail_after(120):
                handles = [await producer.send_soon("t", bytes(size)) for _ in range(count)]
                offsets = [(await handle).offset for handle in handles]
        assert offsets == list(range(count))
        assert "too much waits" not in broker.log_tail(1000)
