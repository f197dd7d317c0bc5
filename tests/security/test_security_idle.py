"""Scenario 12: connections in TLS on which nothing happens."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

import pytest

from tests.security.cost import TwoWays, allow_open_files, connect, say_hello

pytestmark = [pytest.mark.slow, pytest.mark.long, pytest.mark.xdist_group("cluster")]

CONNECTIONS: Final = 10_000
MEMORY_MAX: Final = 400 << 20
AT_ONCE: Final = 20
"""Connections are made by so many threads: each waits for the broker most of its time."""
OFTEN: Final = 50
"""Of so many connections one is asked for something afterwards."""


@pytest.mark.skipif(
    allow_open_files(2 * CONNECTIONS) < 2 * CONNECTIONS and os.environ.get("RAFTLOG_TEST_REQUIRE") != "all",
    reason="a broker gives half of its descriptors to clients: this takes `ulimit -n` of 20,000",
)
def test_ten_thousand_idle_connections_take_little_memory_and_are_served_still(tmp_path: Path) -> None:
    ways = TwoWays(tmp_path, connections_max=CONNECTIONS)
    ways.broker.start()
    try:
        for sock in connect(ways, "TLS", 10):  # what the first of all cost is no connection's
            sock.close()
        before = ways.broker.memory_bytes()
        with ThreadPoolExecutor(AT_ONCE) as pool:
            parts = pool.map(lambda _: connect(ways, "TLS", CONNECTIONS // AT_ONCE), range(AT_ONCE))
            connections = [sock for part in parts for sock in part]
        taken = ways.broker.memory_bytes() - before
        print(f"{CONNECTIONS} idle connections in TLS take {taken / (1 << 20):.0f} MiB")
        for sock in connections[::OFTEN]:
            say_hello(sock)
        for sock in connections:
            sock.close()
    finally:
        ways.broker.kill()
    assert taken <= MEMORY_MAX
