"""Which tokens are taken, and what is said of the others."""

from __future__ import annotations

import base64
import http.server
import json
import threading
import time
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, Final

import pytest
from trio.testing import MockClock

jwt = pytest.importorskip("jwt", reason="the extra `dev` has grown: make .venv/.ready")
from cryptography.hazmat.primitives import serialization  # noqa: E402
from cryptography.hazmat.primitives.asymmetric import ec, rsa  # noqa: E402

from raftlog.broker.tokens import Tokens, checked_url  # noqa: E402
from raftlog.config import BrokerConfig  # noqa: E402
from raftlog.errors import ConfigError, InvalidInput  # noqa: E402

ISSUER: Final = "https://issuer.example"
CURVE = ec.generate_private_key(ec.SECP256R1())


@cache
def rsa_key(name: str = "the issuer's") -> rsa.RSAPrivateKey:
    """Made when it is asked for: that takes long, and every process that collects tests imports this file."""
    return rsa.generate_private_key(65537, 2048)


@pytest.fixture
def clock() -> MockClock:
    return MockClock(autojump_threshold=0.02)


def row(key: Any, name: str) -> dict[str, Any]:
    algorithm = (
        jwt.algorithms.RSAAlgorithm if isinstance(key, rsa.RSAPrivateKey) else jwt.algorithms.ECAlgorithm
    )
    return {**json.loads(algorithm.to_jwk(key.public_key())), "kid": name, "use": "sig"}


@cache
def keys() -> str:
    found = [row(rsa_key(), "k1"), row(CURVE, "k2"), {"kty": "oct", "k": "c2VjcmV0", "kid": "k3"}]
    return json.dumps({"keys": found})


def settings(url: str) -> dict[str, str]:
    return {
        "sasl.oauthbearer.jwks.endpoint.url": url,
        "sasl.oauthbearer.expected.issuer": ISSUER,
        "sasl.oauthbearer.expected.audience": "kafka,log",
    }


@pytest.fixture
def tokens(tmp_path: Path) -> Tokens:
    (tmp_path / "keys").write_text(keys())
    tokens = Tokens(BrokerConfig.of(settings(f"file://{tmp_path}/keys")))
    tokens.load()
    return tokens


def claims(**changed: Any) -> dict[str, Any]:
    now = int(time.time())
    given = {"sub": "alice", "iss": ISSUER, "aud": "kafka", "iat": now, "exp": now + 300} | changed
    return {name: value for name, value in given.items() if value is not None}


def signed(key: Any = None, algorithm: str = "RS256", kid: str | None = "k1", **changed: Any) -> str:
    headers = {} if kid is None else {"kid": kid}
    return str(jwt.encode(claims(**changed), key or rsa_key(), algorithm=algorithm, headers=headers))


def by_public_key() -> str:
    """What is signed with HS256 and the public key as its secret: the old mistake."""
    import hashlib
    import hmac

    secret = (
        rsa_key()
        .public_key()
        .public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    )
    parts = (json.dumps({"alg": "HS256", "kid": "k1"}), json.dumps(claims()))
    said = ".".join(base64.urlsafe_b64encode(part.encode()).rstrip(b"=").decode() for part in parts)
    signature = hmac.digest(secret, said.encode(), hashlib.sha256)
    return f"{said}.{base64.urlsafe_b64encode(signature).rstrip(b'=').decode()}"


@pytest.mark.parametrize(
    "token",
    [
        lambda: signed(),
        lambda: signed(CURVE, "ES256", "k2"),
        lambda: signed(algorithm="PS512"),
        lambda: signed(aud=["x", "log"]),
        lambda: signed(exp=int(time.time()) - 20),
        lambda: signed(nbf=int(time.time()) + 20),
    ],
)
async def test_a_good_token_is_taken(tokens: Tokens, token: Any) -> None:
    """Scenario 28: one that ended 20 seconds ago may be of another clock, and the machine may be slow."""
    user, lasts_s = await tokens.check(token())
    assert user == "alice" and 0 <= lasts_s <= 300


@pytest.mark.parametrize(
    ("token", "words"),
    [
        (lambda: signed(exp=int(time.time()) - 31), "expired at .* this broker's clock says"),
        (lambda: signed(nbf=int(time.time()) + 35), "not good yet"),
        (lambda: signed(iat=4_000_000_000), "not good yet"),
        (lambda: signed(aud="other"), "not for this broker, which is 'kafka, log'"),
        (lambda: signed(iss="https://mallory.example"), "not of 'https://issuer.example'"),
        (lambda: signed(exp=None), "lacks 'exp'"),
        (lambda: signed(sub=None), "lacks 'sub'"),
        (lambda: signed(iss=None), "lacks 'iss'"),
        (lambda: signed(aud=None), "lacks 'aud'"),
        (lambda: signed(sub=""), "no name of a user"),
        (lambda: signed(sub="x" * 256), "no name of a user"),
        (lambda: signed(sub="x\nINFO all is well"), "no name of a user"),
        (lambda: signed(rsa_key("another")), "not signed by a key of its issuer"),
        (lambda: signed(kid="k9"), "has no key 'k9'"),
        (lambda: signed(kid=None), "has no key without a name"),
        (lambda: signed("c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0", "HS256", "k3"), "has no key 'k3'"),
        (lambda: signed(CURVE, "ES256", "k1"), "not signed by a key of its issuer"),
        (by_public_key, "not signed by a key of its issuer"),
        (lambda: str(jwt.encode(claims(), None, algorithm="none", headers={"kid": "k1"})), "not signed"),
        (lambda: signed().rpartition(".")[0], "three parts"),
        (lambda: signed().partition(".")[0], "three parts"),
        (lambda: "x" * 60_000, "three parts"),
        (lambda: "", "three parts"),
    ],
)
async def test_any_other_is_not_and_the_reason_is_said(tokens: Tokens, token: Any, words: str) -> None:
    """Scenario 28."""
    text = token()
    with pytest.raises(InvalidInput, match=words) as caught:
        await tokens.check(text)
    assert not text or text not in str(caught.value)


class Counting(http.server.BaseHTTPRequestHandler):
    asked = 0
    fails = False

    def do_GET(self) -> None:
        type(self).asked += 1
        if self.path == "/away":
            self.send_response(302)
            self.send_header("Location", "http://localhost:1/")
            self.end_headers()
            return
        self.send_response(503 if self.fails else 200)
        self.end_headers()
        self.wfile.write(keys().encode())

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def issuer() -> Iterator[str]:
    Counting.asked, Counting.fails = 0, False
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Counting)
    thread = threading.Thread(target=server.serve_forever, args=[0.01])  # seconds between looks for its end
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


async def test_unknown_keys_have_them_fetched_once_in_ten_seconds(issuer: str, mock_clock: MockClock) -> None:
    """Scenarios 28 and 29: when the issuer is away, what is known goes on."""
    tokens = Tokens(BrokerConfig.of(settings(f"{issuer}/keys")))
    tokens.load()
    for _ in range(1000):
        with pytest.raises(InvalidInput, match="no key 'k9'"):
            await tokens.check(signed(kid="k9"))
    assert Counting.asked == 2
    Counting.fails = True
    mock_clock.jump(11)
    with pytest.raises(InvalidInput, match="no key 'k9'"):
        await tokens.check(signed(kid="k9"))
    assert Counting.asked == 3
    assert (await tokens.check(signed()))[0] == "alice"


@pytest.mark.parametrize("path", ["/away", "/keys"])
def test_without_keys_nobody_is_served(issuer: str, path: str) -> None:
    """Scenario 29."""
    Counting.fails = path == "/keys"
    tokens = Tokens(BrokerConfig.of(settings(issuer + path)))
    with pytest.raises(ConfigError, match="no keys"):
        tokens.load()


@pytest.mark.parametrize("missing", list(settings("x")))
def test_what_is_left_open_stops_the_start(missing: str) -> None:
    given = {name: value for name, value in settings("file:///x").items() if name != missing}
    with pytest.raises(ConfigError, match="anybody's token would do"):
        Tokens(BrokerConfig.of(given))


@pytest.mark.parametrize(
    "url", ["http://issuer.example/keys", "ftp://x/y", "https://", "data:,x", "keys.json"]
)
def test_an_address_that_others_could_answer_for(url: str) -> None:
    with pytest.raises(ConfigError, match="it is https"):
        checked_url(url)
