"""Who has not logged in, and who logs in with lies, at a listener that asks for both TLS and a login."""

from __future__ import annotations

import base64
import shutil
import ssl
import subprocess
from collections.abc import Iterator
from typing import Final

import pytest

from raftlog.protocol.scram import ScramClient
from raftlog.testing.processes import broker_process
from raftlog.testing.security import ADMIN, TestSecurity, librdkafka_settings
from tests.badinput import requests
from tests.badinput.bystander import Bystander
from tests.badinput.conftest import MEMORY_GROWTH_MAX, Victim
from tests.badinput.requests import choose_mechanism, log_in, show_token
from tests.badinput.wire import (
    ALTER_USER_SCRAM_CREDENTIALS,
    API_VERSIONS,
    METADATA,
    SASL_AUTHENTICATE,
    Raw,
    Reader,
    compact,
    compact_array,
    framed,
    header,
    i8,
    i32,
)

ILLEGAL_SASL_STATE: Final = 34
SASL_AUTHENTICATION_FAILED: Final = 58
UNACCEPTABLE_CREDENTIAL: Final = 93
MECHANISM: Final = "SCRAM-SHA-256"


@pytest.fixture(scope="module")
def security(tmp_path_factory: pytest.TempPathFactory) -> TestSecurity:
    return TestSecurity(tmp_path_factory.mktemp("security") / "kit")


@pytest.fixture(scope="module")
def tls(security: TestSecurity) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=str(security.authority))


@pytest.fixture(scope="module")
def _locked(
    tmp_path_factory: pytest.TempPathFactory, security: TestSecurity
) -> Iterator[tuple[Victim, TestSecurity]]:
    folder = tmp_path_factory.mktemp("locked")
    with broker_process(folder / "data", security=security, arguments=("--verbose",)) as broker:
        bystander = Bystander(broker.bootstrap, settings=librdkafka_settings(broker.bootstrap, security))
        bystander.start()
        try:
            yield Victim(broker, bystander, 0), security
        finally:
            bystander.stop()


@pytest.fixture
def locked(_locked: tuple[Victim, TestSecurity]) -> Iterator[Victim]:
    """As `victim`: afterwards the broker lives, serves who has logged in, and has not grown."""
    victim, _ = _locked
    before = victim.broker.memory_bytes()
    yield victim
    assert victim.broker.is_running, victim.broker.log_tail()
    victim.bystander.check()
    grown = victim.broker.memory_bytes() - before
    assert grown < MEMORY_GROWTH_MAX, f"the broker grew by {grown >> 20} MiB"
    assert " ERROR " not in victim.log(), victim.log()


def test_who_logs_in_is_served(locked: Victim, tls: ssl.SSLContext, security: TestSecurity) -> None:
    """What the others are held against."""
    with Raw(locked.address, tls) as raw:
        assert choose_mechanism(raw, MECHANISM) == 0
        scram = ScramClient(MECHANISM, ADMIN, security.passwords[ADMIN])
        error, challenge = show_token(raw, scram.first())
        assert error == 0
        error, answer = show_token(raw, scram.prove(challenge))
        assert error == 0
        scram.check(answer)
        assert requests.metadata(raw, "none", create=False)


def test_a_request_before_the_login(locked: Victim, tls: ssl.SSLContext) -> None:
    for request in (header(METADATA, 4) + requests.metadata_body("a"), header(0, 7) + bytes(100)):
        with Raw(locked.address, tls) as raw:
            raw.send(framed(request))
            assert raw.wait_closed() == b""


@pytest.mark.parametrize("size", [513 << 10, 100 << 20, 2**31 - 1])
def test_a_token_that_is_too_large(locked: Victim, tls: ssl.SSLContext, size: int) -> None:
    """By its length alone: nothing of it is kept."""
    with Raw(locked.address, tls) as raw:
        assert choose_mechanism(raw, MECHANISM) == 0
        raw.send(i32(size) + header(SASL_AUTHENTICATE, 1) + i32(size - 20))
        assert raw.wait_closed() == b""


@pytest.mark.parametrize("size", [5_000, 60_000])
def test_a_message_that_is_too_long_for_a_password(locked: Victim, tls: ssl.SSLContext, size: int) -> None:
    """librdkafka 5603."""
    for mechanism, token in ((MECHANISM, b"n,,n=a,r=" + b"x" * size), ("PLAIN", b"\0a\0" + b"x" * size)):
        with Raw(locked.address, tls) as raw:
            assert choose_mechanism(raw, mechanism) == 0
            assert show_token(raw, token)[0] == SASL_AUTHENTICATION_FAILED
            assert raw.wait_closed() == b""


FIRST: Final = {
    "channel binding": b"p=tls-unique,,n=admin,r=abc",
    "another's name": b"n,a=root,n=admin,r=abc",
    "an extension": b"n,,m=x,n=admin,r=abc",
    "no nonce": b"n,,n=admin",
    "nothing": b"",
    "not UTF-8": b"n,,n=\xff,r=abc",
}


@pytest.mark.parametrize("name", FIRST)
def test_a_first_message_that_is_none(locked: Victim, tls: ssl.SSLContext, name: str) -> None:
    with Raw(locked.address, tls) as raw:
        assert choose_mechanism(raw, MECHANISM) == 0
        assert show_token(raw, FIRST[name]) == (SASL_AUTHENTICATION_FAILED, b"")
        assert raw.wait_closed() == b""


LAST: Final = {
    "another nonce": (b"r=", b"r=x"),
    "another channel binding": (b"c=biws", b"c=" + base64.b64encode(b"p=tls-unique,,")),
    "no proof": (b",p=", b",q="),
}


@pytest.mark.parametrize("name", LAST)
def test_a_last_message_that_is_none(
    locked: Victim, tls: ssl.SSLContext, security: TestSecurity, name: str
) -> None:
    """By somebody who knows the password."""
    right, wrong = LAST[name]
    with Raw(locked.address, tls) as raw:
        assert choose_mechanism(raw, MECHANISM) == 0
        scram = ScramClient(MECHANISM, ADMIN, security.passwords[ADMIN])
        _, challenge = show_token(raw, scram.first())
        proof = scram.prove(challenge)
        assert right in proof
        assert show_token(raw, proof.replace(right, wrong, 1)) == (SASL_AUTHENTICATION_FAILED, b"")
        assert raw.wait_closed() == b""


def test_a_recorded_login_is_of_no_use(locked: Victim, tls: ssl.SSLContext, security: TestSecurity) -> None:
    """CVE-2024-56128."""
    scram, proof = ScramClient(MECHANISM, ADMIN, security.passwords[ADMIN]), b""
    for is_again in (False, True):
        with Raw(locked.address, tls) as raw:
            assert choose_mechanism(raw, MECHANISM) == 0
            _, challenge = show_token(raw, scram.first())
            proof = proof or scram.prove(challenge)
            assert show_token(raw, proof)[0] == (SASL_AUTHENTICATION_FAILED if is_again else 0)


@pytest.mark.parametrize("iterations", [1, 0, -1, 4095, 10**9, 2**31 - 1])
def test_iterations_that_nobody_should_work_through(
    locked: Victim, tls: ssl.SSLContext, security: TestSecurity, iterations: int
) -> None:
    """Neither too few to protect a password, nor so many that a login costs minutes."""
    entry = compact("eve") + i8(1) + i32(iterations) + compact(b"salt" * 4) + compact(bytes(32)) + b"\0"
    with Raw(locked.address, tls) as raw:
        log_in(raw, ADMIN, security.passwords[ADMIN])
        body = compact_array([]) + compact_array([entry]) + b"\0"
        reader = Reader(raw.ask(ALTER_USER_SCRAM_CREDENTIALS, 0, body, tags=b"\0"))
        reader.bytes(1)  # the header's tags
        reader.i32()
        assert reader.bytes(1) == b"\x02"  # one result
        assert reader.bytes(4) == compact("eve")
        assert reader.i16() == UNACCEPTABLE_CREDENTIAL


def test_a_handshake_within_a_login(locked: Victim, tls: ssl.SSLContext) -> None:
    with Raw(locked.address, tls) as raw:
        assert choose_mechanism(raw, "PLAIN") == 0
        assert choose_mechanism(raw, MECHANISM) == ILLEGAL_SASL_STATE
        assert raw.wait_closed() == b""


# TLS itself.


@pytest.mark.parametrize(
    "sent",
    [
        framed(header(API_VERSIONS, 0)),
        b"GET / HTTP/1.1\r\n\r\n",
        bytes.fromhex("1603010200010001fc0303") + bytes(508),
        bytes.fromhex("1603010005") + bytes(5),
        b"\x17\x03\x03\x40\x00" + bytes(0x4000),
        b"\x15\x03\x01\x00\x02\x02\x00",
    ],
    ids=["kafka", "http", "hello", "short", "data", "alert"],
)
def test_what_is_no_tls(locked: Victim, sent: bytes) -> None:
    with Raw(locked.address) as raw:
        raw.send(sent)
        raw.send_no_more()
        raw.wait_closed()


def test_half_a_handshake(locked: Victim, tls: ssl.SSLContext) -> None:
    """Of each length that a client may have come to when it goes away."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    with pytest.raises(ssl.SSLWantReadError):
        tls.wrap_bio(incoming, outgoing, server_hostname="127.0.0.1").do_handshake()
    hello = outgoing.read()
    for cut in range(1, len(hello), 7):
        with Raw(locked.address) as raw:
            raw.send(hello[:cut])
            raw.send_no_more()
            raw.wait_closed()
    with Raw(locked.address) as raw:  # and one that never says what it is asked
        raw.send(hello)
        assert raw.sock.recv(1)


def test_a_client_that_wants_other_keys_all_the_time(locked: Victim) -> None:
    """TLS 1.2's renegotiation (CVE-2011-1473): refused, and the connection ends."""
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("openssl is not there")
    command = [openssl, "s_client", "-tls1_2", "-connect", locked.broker.bootstrap]
    done = subprocess.run(command, input=b"R\n" * 5, capture_output=True, timeout=60, check=False)
    said = (done.stdout + done.stderr).decode(errors="replace")
    assert "RENEGOTIATING" in said and "no renegotiation" in said.lower(), said[-2000:]
