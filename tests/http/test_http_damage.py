"""What is wrong with a disk is said by the API, by the metrics and by `raftlog cluster health`."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import trio

import raftlog
from raftlog.testing.processes import BrokerProcess
from tests.http.raw import ask, listen

DAMAGED = "broker 1 keeps damaged data that is not repaired yet: its log says which"


async def test_damaged_records_are_said_in_one_voice(tmp_path: Path) -> None:
    """One broker has nobody to repair it from, so that what was found stays."""
    broker = BrokerProcess(tmp_path / "data", arguments=listen())
    broker.start()
    try:
        async with raftlog.open_client(broker.bootstrap) as client:
            await client.admin.create_topic("hurt", partitions=1)
            async with client.producer() as producer:
                for _ in range(3):
                    await producer.send("hurt", b"x" * 4096)
        assert ask(broker, "/api/v1/cluster").json()["problems"] == []
        assert broker.stop() == 0
        (segment,) = [path for path in broker.data_dir.rglob("*.log") if "hurt-0" in str(path)]
        data = bytearray(segment.read_bytes())
        data[len(data) // 2] ^= 0xFF
        segment.write_bytes(data)
        broker.start()
        # Whoever reads it finds it, before the scrub does.
        ask(broker, "/api/v1/topics/hurt/records?from=oldest")
        assert ask(broker, "/api/v1/cluster").json()["problems"] == [DAMAGED]
        (row,) = ask(broker, "/api/v1/brokers").json()
        assert row["report"]["damaged_logs"] == 1
        assert b"\nraftlog_damaged_logs 1\n" in ask(broker, "/metrics").body
        command = [sys.executable, "-m", "raftlog", "cluster", "health", "--format", "json"]
        told = await trio.run_process(
            [*command, "--bootstrap", broker.bootstrap], capture_stdout=True, check=False
        )
        assert told.returncode == 1, told
        assert json.loads(told.stdout)["problems"] == [DAMAGED]
        assert ask(broker, "/livez").status == 200
    finally:
        broker.kill()
