"""Who came to the wrong port is told where to look, and of no port that it cannot reach."""

from __future__ import annotations

import pytest

from raftlog.broker.signposts import Signposts
from raftlog.config import BrokerConfig

HERE, THERE = "127.0.0.1", "10.0.0.7"


@pytest.mark.parametrize(
    ("http", "client", "said"),
    [
        (None, HERE, "This broker serves no HTTP (raftlog.http.listen)."),
        ((HERE, 9644), HERE, "This broker's console and HTTP API are at http://127.0.0.1:9644/."),
        (("::1", 9644), HERE, "This broker's console and HTTP API are at http://[::1]:9644/."),
        (("10.0.0.5", 80), THERE, "This broker's console and HTTP API are at http://10.0.0.5:80/."),
        (("0.0.0.0", 80), THERE, "This broker's console and HTTP API are on port 80."),
        (
            (HERE, 9644),
            THERE,
            "This broker's console and HTTP API answer on its own machine alone (raftlog.http.listen).",
        ),
    ],
)
def test_where_http_is(http: tuple[str, int] | None, client: str, said: str) -> None:
    signposts = Signposts(BrokerConfig({}))
    signposts.http = http
    assert signposts.to_http(client) == said


def test_where_tls_is() -> None:
    assert Signposts(BrokerConfig({})).to_tls() == "No listener speaks TLS."
    listeners = "PLAINTEXT://10.0.0.5:9092,SSL://10.0.0.5:9093"
    config = BrokerConfig.load(None, {}, (f"listeners={listeners}", "ssl.keystore.location=broker.pem"))
    assert Signposts(config).to_tls() == "TLS is spoken by the listener SSL on port 9093."
