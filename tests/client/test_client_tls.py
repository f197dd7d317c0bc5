"""The client in TLS, against a broker that asks for certificates, and the command line beside it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio

import raftlog
from raftlog.client.errors import ClientError
from raftlog.errors import ConfigError
from raftlog.testing.processes import BrokerProcess, broker_process, free_port
from tests.certificates import write_authority, write_certificate

pytestmark = pytest.mark.slow

SHORT = {"default_api_timeout_ms": 3_000, "retry_backoff_ms": 50}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("tls")


@pytest.fixture(scope="module")
def broker(folder: Path) -> Iterator[BrokerProcess]:
    port = free_port()
    options = {
        "listeners": f"SSL://localhost:{port}",
        "ssl.keystore.location": write_certificate(folder, "localhost"),
        "ssl.truststore.location": write_authority(folder),
        "ssl.client.auth": "required",
    }
    with broker_process(folder / "data", port=port, options=options) as broker:
        yield broker


@pytest.fixture
def tls(folder: Path) -> dict[str, str]:
    return {
        "security_protocol": "SSL",
        "ssl_truststore_location": str(write_authority(folder)),
        "ssl_keystore_location": str(write_certificate(folder, "alice.example")),
    }


async def test_records_go_there_and_back(broker: BrokerProcess, tls: dict[str, str]) -> None:
    sent = [bytes([number % 256]) * (1 + number * 997 % 50_000) for number in range(300)]
    async with raftlog.open_client(f"localhost:{broker.port}", **tls) as client:  # type: ignore[arg-type]
        async with client.producer() as producer:
            for value in sent:
                await producer.send("there", value)
        async with client.consumer("there", auto_offset_reset="earliest") as consumer:
            read = []
            with trio.fail_after(60):
                async for record in consumer:
                    read.append(record.value)
                    if len(read) == len(sent):
                        break
    assert sorted(read) == sorted(sent)


@pytest.mark.parametrize(
    ("host", "changed", "told"),
    [
        ("127.0.0.1", {}, "IP address mismatch"),
        ("localhost", {"ssl_truststore_location": ""}, "the certificate of the other side is not taken"),
    ],
)
async def test_a_broker_that_is_not_the_one_is_not_spoken_to(
    broker: BrokerProcess, tls: dict[str, str], host: str, changed: dict[str, str], told: str
) -> None:
    options = tls | changed | SHORT
    async with raftlog.open_client(f"{host}:{broker.port}", **options) as client:  # type: ignore[arg-type]
        with pytest.raises(ClientError) as refused:
            await client.admin.list_topics()
    assert told in f"{refused.value} {refused.value.__cause__}"


async def test_files_that_are_no_good_are_refused_at_once(tls: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "none.pem").write_text("nothing")
    for key in ("ssl_truststore_location", "ssl_keystore_location"):
        for path, why in ((tmp_path / "missing", "No such file"), (tmp_path / "none.pem", "in PEM")):
            with pytest.raises(ConfigError, match=why):
                async with raftlog.open_client("localhost:1", **(tls | {key: str(path)})):  # type: ignore[arg-type]
                    pass


def test_the_command_line_takes_a_file_of_properties(
    broker: BrokerProcess, tls: dict[str, str], tmp_path: Path
) -> None:
    config = tmp_path / "client.properties"
    config.write_text("".join(f"{key.replace('_', '.')}={value}\n" for key, value in tls.items()))
    command = [sys.executable, "-m", "raftlog", "topic", "create", "by-hand"]
    command += ["--bootstrap", f"localhost:{broker.port}", "--config", str(config)]
    subprocess.run(command, check=True, timeout=60)
