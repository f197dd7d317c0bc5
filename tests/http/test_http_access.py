"""Who may do what (scenarios 18 to 20 of the console's guide, as far as curl can play them)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from raftlog.testing.processes import BrokerDidNotStart, BrokerProcess
from tests.http.raw import ask, listen


def test_19_a_name_that_was_made_to_point_here_is_refused(broker: BrokerProcess) -> None:
    for host in ("evil.example", "evil.example:9644", "localhost.evil.example", "127.0.0.1.evil.example"):
        answer = ask(broker, "/metrics", host=host)
        assert answer.status == 421, host
    assert "raftlog.http.hosts" in answer.error
    for host in ("localhost", "127.0.0.1", "127.0.0.1:1", "[::1]:9644", "LOCALHOST:80"):
        assert ask(broker, "/metrics", host=host).status == 200, host


def test_a_probe_is_answered_by_whatever_name(broker: BrokerProcess) -> None:
    assert ask(broker, "/livez", host="raftlog-0.raftlog.svc.cluster.local").status == 200


def test_every_answer_has_the_headers_that_keep_a_browser_in_its_place(broker: BrokerProcess) -> None:
    for path in ("/livez", "/metrics", "/nothing", "/livez?x=1"):
        headers = ask(broker, path).headers
        assert "default-src 'none'" in headers["content-security-policy"]
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["cross-origin-resource-policy"] == "same-origin"
        assert "access-control-allow-origin" not in headers


def test_a_token_file_that_cannot_be_read_or_is_too_short_stops_the_start(tmp_path: Path) -> None:
    (tmp_path / "short").write_text("secret")
    for name, said in (("absent", "No such file"), ("short", "at least 16")):
        options = {"raftlog.http.token.file": tmp_path / name}
        process = BrokerProcess(tmp_path / f"{name}-data", arguments=listen(), options=options)
        with pytest.raises(BrokerDidNotStart, match=said):
            process.start()


def test_a_port_that_is_taken_stops_the_start_when_it_was_asked_for(
    broker: BrokerProcess, tmp_path: Path
) -> None:
    process = BrokerProcess(tmp_path / "data", arguments=broker.arguments)
    with pytest.raises(BrokerDidNotStart, match="cannot listen for HTTP"):
        process.start()


@pytest.fixture(scope="module")
def open_broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BrokerProcess]:
    """Reached by others than its own machine, and without a token."""
    process = BrokerProcess(tmp_path_factory.mktemp("open") / "broker", arguments=listen("0.0.0.0"))
    process.start()
    yield process
    process.kill()


def test_20_bound_for_others_without_a_token_only_probes_and_metrics_are_served(
    open_broker: BrokerProcess,
) -> None:
    for path in ("/livez", "/readyz", "/healthz", "/metrics"):
        assert ask(open_broker, path).status == 200, path
    assert ask(open_broker, "/metrics", host="raftlog-1").status == 200
