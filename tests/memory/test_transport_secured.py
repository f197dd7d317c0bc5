"""Links between brokers that have a secret, by real sockets: who has it, who has not, and who has another."""

from __future__ import annotations

import base64
import random
import ssl
from pathlib import Path

import pytest
import trio

from raftlog.errors import ConfigError
from raftlog.raft.messages import Append
from raftlog.transport.greeting import HELLO_TIMEOUT
from raftlog.transport.links import STRANGERS_MAX, Address
from raftlog.transport.secret import PeerCredentials, broker_of, host_name, read_secrets
from raftlog.transport.securing import Securing
from raftlog.types import BrokerId
from tests.memory.test_transport_links import End, append, connected, reply, running, until

pytest.importorskip("cryptography", reason="the extra `dev` has grown: make .venv/.ready")

OURS, THEIRS = bytes(range(32)), bytes(range(1, 33))


def secured(broker: int, *secrets: bytes, is_required: bool = True) -> Securing:
    return Securing(PeerCredentials(BrokerId(broker), list(secrets)), is_required=is_required)


def end(broker: int, *secrets: bytes, is_required: bool = True, **more: str) -> End:
    return End(broker, securing=secured(broker, *secrets, is_required=is_required), **more)


async def test_with_one_secret_all_goes_as_without() -> None:
    one, two = end(1, OURS), end(2, OURS)
    rng = random.Random(5)
    async with running(one, two):
        await until(lambda: connected(one, two))
        sent = []
        for number in range(40):
            payload = rng.randbytes(rng.choice([0, 1, 100, 5_000, 200_000, 3_000_000]))
            sent.append(payload)
            one.links.send(two.broker, [reply(number), append(payload)])
        await until(lambda: len(two.messages) == 80)
        assert [bytes(m.entries[0].payload) for _, m in two.messages if isinstance(m, Append)] == sent


async def test_who_has_another_secret_is_refused_and_both_sides_say_why(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Scenario 50."""
    one, two = end(1, OURS), end(2, THEIRS)
    async with running(one, two):
        await until(lambda: len(caplog.messages) >= 2)
        assert not one.links.is_connected(two.broker)
    refusals = [m for m in caplog.messages if "refused a connection to the peer port from 127.0.0.1" in m]
    assert refusals[0].endswith("the other side has another secret of the cluster, and says so")
    assert any("no connection to broker 1 at" in m and "another secret" in m for m in caplog.messages)
    assert len(refusals) == 1, "a dialler that tries again is told of once"


@pytest.mark.parametrize("who", ["dials", "is dialled"])
async def test_who_has_no_secret_is_refused_and_both_sides_say_why(
    who: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Scenario 51."""
    one, two = (end(1, OURS), End(2)) if who == "dials" else (End(1), end(2, OURS))
    async with running(one, two):
        await until(lambda: len(caplog.messages) >= 2)
        assert not one.links.is_connected(two.broker)
    said = "\n".join(caplog.messages)
    if who == "dials":
        assert "from 127.0.0.1: it has no secret of the cluster: it speaks plain text" in said
    else:
        assert "it speaks TLS: it has a secret of the cluster, and this broker has none" in said
    assert "before it said hello: have both brokers the cluster's secret" in said


async def test_a_broker_cannot_be_another_one(caplog: pytest.LogCaptureFixture) -> None:
    """Scenario 50: the secret is right, and the name is another broker's."""
    one, two = end(1, OURS), End(2, securing=secured(3, OURS))
    async with running(one, two):
        await until(lambda: any("certificate of broker 3" in m for m in caplog.messages))
        assert not one.links.is_connected(two.broker)


async def test_who_answers_for_another_is_found_out(caplog: pytest.LogCaptureFixture) -> None:
    one, two = End(1, securing=secured(3, OURS)), end(2, OURS)
    async with running(one, two):
        await until(lambda: any("another broker answers" in m for m in caplog.messages))
        assert not two.links.is_connected(one.broker)


@pytest.mark.parametrize(
    ("first", "second"),
    [("plain", "both"), ("both", "plain"), ("both", "both"), ("both", "secured"), ("secured", "both")],
)
async def test_a_cluster_is_on_its_way_to_a_secret(first: str, second: str) -> None:
    """Each pair that meets in the two rolling restarts."""
    kinds = {
        "plain": lambda broker: End(broker),
        "both": lambda broker: end(broker, OURS, is_required=False),
        "secured": lambda broker: end(broker, OURS),
    }
    one, two = kinds[first](1), kinds[second](2)
    async with running(one, two):
        await until(lambda: connected(one, two))
        one.links.send(two.broker, [reply(1)])
        await until(lambda: two.messages == [(1, reply(1))])
        stream = one.network._ways[two.broker]._stream
        assert ("Tls" in repr(stream)) == ("plain" not in (first, second))


@pytest.mark.parametrize(
    "steps", [((OURS,), (OURS, THEIRS)), ((OURS, THEIRS), (THEIRS, OURS)), ((THEIRS, OURS), (THEIRS,))]
)
async def test_a_secret_is_exchanged(steps: tuple[tuple[bytes, ...], tuple[bytes, ...]]) -> None:
    """Scenario 52: each pair that meets in the three rolling restarts."""
    one, two = end(1, *steps[0]), end(2, *steps[1])
    async with running(one, two):
        await until(lambda: connected(one, two))


async def test_strangers_do_not_keep_a_peer_out(caplog: pytest.LogCaptureFixture) -> None:
    """Scenario 54, smaller: more than are kept connect, and say nothing."""
    one, two = end(1, OURS), end(2, OURS)
    async with running(one, two):
        await until(lambda: connected(one, two))
        address: Address = two.links._peers[BrokerId(1)][0]
        silent = [await trio.open_tcp_stream(address.host, address.port) for _ in range(2 * STRANGERS_MAX)]
        two.links._links[BrokerId(1)].connection.stream.shut_down()  # type: ignore[union-attr]
        await until(lambda: not one.links.is_connected(two.broker))
        await until(lambda: connected(one, two))
        with trio.fail_after(HELLO_TIMEOUT - 1):
            assert await silent[0].receive_some() == b""
        for stream in silent:
            await stream.aclose()


def test_the_certificate_of_a_broker_is_told_by_its_name() -> None:
    assert broker_of({"subjectAltName": (("DNS", host_name(BrokerId(17))),)}) == 17
    assert broker_of({"subjectAltName": (("DNS", "broker-1.raftlog.example"),)}) is None
    assert broker_of({"subjectAltName": (("IP Address", "broker-1.raftlog.internal"),)}) is None
    assert broker_of({}) is None


def test_what_is_shown_to_others_is_no_older_than_tls_1_3_and_asks_for_a_certificate() -> None:
    credentials = PeerCredentials(BrokerId(1), [OURS])
    for context in (credentials.accepting, credentials.dialling):
        assert context.minimum_version is ssl.TLSVersion.TLSv1_3
        assert context.verify_mode is ssl.CERT_REQUIRED
    assert credentials.dialling.check_hostname


def test_clocks_do_not_matter() -> None:
    """Scenario 53: OpenSSL is told to look at no date (X509_V_FLAG_NO_CHECK_TIME)."""
    credentials = PeerCredentials(BrokerId(1), [OURS])
    for context in (credentials.accepting, credentials.dialling):
        assert context.verify_flags & 0x200000


def write(folder: Path, text: bytes, mode: int = 0o600) -> str:
    path = folder / "peer.secret"
    path.write_bytes(text)
    path.chmod(mode)
    return str(path)


def test_a_file_of_secrets_is_read(tmp_path: Path) -> None:
    lines = base64.b64encode(OURS) + b"\n\n" + base64.b64encode(THEIRS) + b"\n"
    assert read_secrets(write(tmp_path, lines)) == [OURS, THEIRS]


@pytest.mark.parametrize(
    "text", [b"", b"\n", b"password\n", base64.b64encode(b"short"), base64.b64encode(bytes(32)), b"A" * 5000]
)
def test_what_is_no_secret_is_refused_and_not_shown(tmp_path: Path, text: bytes) -> None:
    with pytest.raises(ConfigError, match=r"raftlog\.peer\.secret\.file") as refused:
        read_secrets(write(tmp_path, text))
    assert not text.strip() or text.decode().strip() not in str(refused.value)


def test_a_file_that_others_can_read_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="chmod 600"):
        read_secrets(write(tmp_path, base64.b64encode(OURS), 0o640))


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="No such file"):
        read_secrets(str(tmp_path / "missing"))
