"""SCRAM and PLAIN: what is said, by the RFC's own example, and what is not taken."""

from __future__ import annotations

import base64
from collections.abc import Callable

import pytest

from raftlog.errors import InvalidInput
from raftlog.protocol.sasl import prepared, read_bearer, read_plain, write_bearer, write_plain
from raftlog.protocol.scram import HASHES, ScramClient, ScramServer, Verifier, keys_of, salted

# RFC 7677, section 3
NONCE, SERVER_NONCE = "rOprNGfwEbeRWgbNEkqO", "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0"
SALT = base64.b64decode("W22ZaJ0SNY7soEsUEjb6gQ==")
FIRST = f"n,,n=user,r={NONCE}".encode()
CHALLENGE = f"r={NONCE}{SERVER_NONCE},s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096".encode()
PROOF = f"c=biws,r={NONCE}{SERVER_NONCE},p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=".encode()
VERIFIED = b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4="


def find(user: str) -> Verifier:
    keys = keys_of("SCRAM-SHA-256", salted("SCRAM-SHA-256", b"pencil", SALT, 4096))
    return Verifier(SALT, 4096, *keys)


def server() -> ScramServer:
    return ScramServer("SCRAM-SHA-256", find, SERVER_NONCE)


def test_both_sides_say_what_the_rfc_says() -> None:
    one, other = ScramClient("SCRAM-SHA-256", "user", "pencil", NONCE), server()
    assert one.first() == FIRST
    assert other.challenge(FIRST) == CHALLENGE
    assert one.prove(CHALLENGE) == PROOF
    assert other.judge(PROOF) == VERIFIED
    one.check(VERIFIED)
    assert other.user == "user" and not other.is_old


@pytest.mark.parametrize("mechanism", HASHES)
@pytest.mark.parametrize("user", ['a=2Cb,ü "x"', "=,=", "plain"])
def test_a_login_by_any_name(mechanism: str, user: str) -> None:
    keys = keys_of(mechanism, salted(mechanism, "pässword".encode(), SALT, 5000))
    for password, is_good in (("pässword", True), ("passwort", False)):
        other = ScramServer(mechanism, lambda _: Verifier(SALT, 5000, *keys))
        one = ScramClient(mechanism, user, password)
        proof = other.judge(one.prove(other.challenge(one.first())))
        assert other.user == user and (proof is not None) is is_good
        if proof is not None:
            one.check(proof)


@pytest.mark.parametrize(
    "message",
    [
        b"",
        b"n,,",
        b"n,,n=,r=abc",
        b"n,,n=user",
        b"p=tls-unique,,n=user,r=abc",
        b"n,a=admin,n=user,r=abc",
        b"n,,m=x,n=user,r=abc",
        b"n,,n=us=er,r=abc",
        b"n,,n=us=2Der,r=abc",
        b"n,,n=us\0er,r=abc",
        b"n,,n=user,r=a\x7fc",
        b"n,,n=\xff,r=abc",
        b"n,,n=user,r=" + b"a" * 4100,
    ],
)
def test_a_first_message_that_is_none(message: bytes) -> None:
    with pytest.raises(InvalidInput):
        server().challenge(message)


def proved(nonce: Callable[[str, str], str]) -> tuple[ScramServer, bytes]:
    """A right proof for a nonce that the client chooses."""
    other, both = server(), f"{NONCE}{SERVER_NONCE}"
    other.challenge(FIRST)
    said = nonce(NONCE, both)
    one = ScramClient("SCRAM-SHA-256", "user", "pencil", NONCE)
    one.prove(CHALLENGE)
    keys = find("user")
    import hmac

    from raftlog.protocol.scram import _xor

    unproved = f"c=biws,r={said}"
    full = b",".join((FIRST[3:], CHALLENGE, unproved.encode()))
    client_key = hmac.digest(salted("SCRAM-SHA-256", b"pencil", SALT, 4096), b"Client Key", "sha256")
    proof = _xor(client_key, hmac.digest(keys.stored_key, full, "sha256"))
    return other, f"{unproved},p={base64.b64encode(proof).decode()}".encode()


@pytest.mark.parametrize(
    ("nonce", "is_taken"),
    [
        (lambda mine, both: both, True),
        (lambda mine, both: mine + both, True),
        (lambda mine, both: both + "x", False),
        (lambda mine, both: both[:-1], False),
        (lambda mine, both: mine, False),
        (lambda mine, both: both[len(mine) :], False),
        (lambda mine, both: both[len(mine) :] + mine, False),
        (lambda mine, both: mine + mine + both, False),
        (lambda mine, both: "ü" + both, False),
    ],
)
def test_two_forms_of_nonce_are_taken_and_no_other(nonce: Callable[[str, str], str], is_taken: bool) -> None:
    """Scenario 18. The second is librdkafka's before 2.6.1."""
    other, message = proved(nonce)
    if is_taken:
        assert other.judge(message) is not None
        assert other.is_old == (message != PROOF)
    else:
        with pytest.raises(InvalidInput, match="nonce"):
            other.judge(message)


def test_a_recorded_exchange_is_of_no_use() -> None:
    """Scenario 17."""
    other = ScramServer("SCRAM-SHA-256", find)
    other.challenge(FIRST)
    with pytest.raises(InvalidInput, match="nonce"):
        other.judge(PROOF)


@pytest.mark.parametrize("message", [b"", PROOF[:-50], PROOF.replace(b"biws", b"eSws"), PROOF + b"!"])
def test_a_last_message_that_is_none(message: bytes) -> None:
    other = server()
    other.challenge(FIRST)
    with pytest.raises(InvalidInput):
        other.judge(message)


@pytest.mark.parametrize("proof", ["", "AAAA", base64.b64encode(bytes(32)).decode(), "A" * 2000])
def test_a_proof_that_proves_nothing(proof: str) -> None:
    other = server()
    other.challenge(FIRST)
    assert other.judge(f"c=biws,r={NONCE}{SERVER_NONCE},p={proof}".encode()) is None


@pytest.mark.parametrize(
    "challenge",
    [
        CHALLENGE.replace(b"4096", b"1000000000"),
        CHALLENGE.replace(b"4096", b"1000001"),
        CHALLENGE.replace(b"4096", b"4095"),
        CHALLENGE.replace(b"4096", b"-1"),
        CHALLENGE.replace(b"4096", b"9" * 3000),
        CHALLENGE.replace(b"s=W22ZaJ0SNY7soEsUEjb6gQ==", b"s="),
        CHALLENGE.replace(b"W22", b"===="),
        CHALLENGE.replace(NONCE.encode(), b"another"),
        f"r={NONCE},s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096".encode(),
        b"e=other-error",
    ],
)
def test_a_client_does_not_work_for_any_server(challenge: bytes) -> None:
    """Scenario 21."""
    with pytest.raises(InvalidInput):
        ScramClient("SCRAM-SHA-256", "user", "pencil", NONCE).prove(challenge)


@pytest.mark.parametrize("answer", [b"", b"v=", b"v=AAAA", b"e=invalid-proof"])
def test_a_server_that_proves_nothing_is_none(answer: bytes) -> None:
    one = ScramClient("SCRAM-SHA-256", "user", "pencil", NONCE)
    one.prove(CHALLENGE)
    with pytest.raises(InvalidInput, match="does not prove"):
        one.check(answer)


def test_plain_is_read() -> None:
    assert read_plain(write_plain("alice", "pass word")) == ("alice", b"pass word")
    assert read_plain(b"alice\0alice\0secret") == ("alice", b"secret")


@pytest.mark.parametrize(
    ("message", "words"),
    [
        (b"", "authzid NUL user NUL password"),
        (b"\0alice", "authzid NUL user NUL password"),
        (b"\0alice\0a\0b", "authzid NUL user NUL password"),
        (b"\0alice\0" + b"x" * 4096, "authzid NUL user NUL password"),
        (b"\0alice\0", "empty"),
        (b"\0\0secret", "empty"),
        (b"\0\xff\0secret", "UTF-8"),
        (b"admin\0alice\0secret", "authorization as another user is not served"),
    ],
)
def test_plain_that_is_none(message: bytes, words: str) -> None:
    """Scenario 24 is the last."""
    with pytest.raises(InvalidInput, match=words) as caught:
        read_plain(message)
    assert "secret" not in str(caught.value)


def test_a_bearer_token_is_read() -> None:
    assert read_bearer(write_bearer("a.b.c")) == "a.b.c"
    assert read_bearer(b"n,,\x01auth=bearer a.b.c\x01traceid=1\x01\x01") == "a.b.c"
    for wrong in (
        b"",
        b"n,,\x01auth=Basic abc\x01\x01",
        b"n,a=admin,\x01auth=Bearer a\x01\x01",
        b"n,,\x01\x01",
    ):
        with pytest.raises(InvalidInput):
            read_bearer(wrong)


@pytest.mark.parametrize(
    ("name", "found"),
    [("IX", "IX"), ("\u2168", "IX"), ("I\u00adX", "IX"), ("a\u00a0b", "a b"), ("\u00aa", "a"), ("A", "A")],
)
def test_a_name_is_prepared(name: str, found: str) -> None:
    """The examples of RFC 4013, section 3, among them."""
    assert prepared(name) == found


@pytest.mark.parametrize("name", ["", "\u00ad", "\x07", "\u0627\u0031", "a\u0627", "\ufffd", "\ud800"])
def test_a_name_that_nobody_has(name: str) -> None:
    with pytest.raises(InvalidInput):
        prepared(name)
