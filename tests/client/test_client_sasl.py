"""The client and its command line log in: what they can do then, and what they say when they cannot."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio

import raftlog
from raftlog.client.errors import AuthenticationFailed
from raftlog.security.kit import Place, make_kit
from raftlog.testing.processes import BrokerProcess, broker_process, free_port
from tests.certificates import write_authority
from tests.command_line import Result, run_raftlog

pytestmark = pytest.mark.slow


class Kit:
    """A broker of `raftlog security init`, and its users' files; a second listener in plain text asks for
    logins, too."""

    def __init__(self, folder: Path) -> None:
        place = Place(number=1, host="localhost", port=free_port(), peer_port=0, http_port=0)
        self.kit = make_kit(folder / "sec", (place,), ["app"])
        self.plain_port = free_port()
        self.broker = BrokerProcess(
            folder / "data",
            port=place.port,
            arguments=("--security", str(self.kit.broker_folder(place))),
            options={
                "listeners": f"SASL_SSL://127.0.0.1:{place.port},SASL_PLAINTEXT://127.0.0.1:{self.plain_port}",
                "advertised.listeners": f"SASL_SSL://localhost:{place.port},"
                f"SASL_PLAINTEXT://localhost:{self.plain_port}",
                "sasl.enabled.mechanisms": "PLAIN,SCRAM-SHA-256,SCRAM-SHA-512",
                "connections.max.reauth.ms": 1000,
                "authorizer.class.name": "",  # what users may do is not asked here
            },
        )

    def properties(self, user: str) -> dict[str, str]:
        lines = (self.kit.folder / f"{user}.properties").read_text().splitlines()
        return dict(line.split("=", 1) for line in lines if not line.startswith("#"))

    def run(self, *arguments: str, user: str = "admin", input: str = "") -> Result:
        file = str(self.kit.folder / f"{user}.properties")
        return run_raftlog(*arguments, "--config", file, input=input.encode())


@pytest.fixture(scope="module")
def kit(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kit]:
    kit = Kit(tmp_path_factory.mktemp("sasl"))
    kit.broker.start()
    try:
        yield kit
    finally:
        kit.broker.kill()


@pytest.mark.parametrize("mechanism", ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"])
async def test_records_go_there_and_back_while_sessions_end(kit: Kit, mechanism: str) -> None:
    """Scenario 27: a session lasts a second, and each connection goes on by another login."""
    properties = kit.properties("app") | {"sasl.mechanism": mechanism}
    topic = f"there-{mechanism}"
    async with raftlog.from_properties(properties) as client:
        async with client.producer() as producer:
            for number in range(25):
                await producer.send(topic, str(number).encode())
                await trio.sleep(0.1)
        async with client.consumer(topic, auto_offset_reset="earliest") as consumer:
            with trio.fail_after(60):
                read = [(await anext(aiter(consumer))).value for _ in range(25)]
    assert read == [str(number).encode() for number in range(25)]


@pytest.mark.parametrize("mechanism", ["PLAIN", "SCRAM-SHA-512"])
async def test_a_wrong_password_ends_a_call_at_once_with_the_brokers_words(kit: Kit, mechanism: str) -> None:
    wrong = kit.properties("app") | {"sasl.mechanism": mechanism}
    wrong["sasl.jaas.config"] = wrong["sasl.jaas.config"].replace('password="', 'password="x')
    async with raftlog.from_properties(wrong) as client:
        with trio.fail_after(30):
            with pytest.raises(AuthenticationFailed, match="user or password is wrong"):
                await client.admin.list_topics()
            with pytest.raises(AuthenticationFailed, match="user or password is wrong"):
                async with client.producer() as producer:
                    await producer.send("t", b"x")


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"sasl.mechanism": "PLAIN", "security.protocol": "SSL"}, "does this listener ask for a login"),
        ({"security.protocol": "SASL_PLAINTEXT"}, "One for TLS needs security_protocol"),
    ],
)
async def test_what_is_set_up_otherwise_is_said(kit: Kit, changed: dict[str, str], words: str) -> None:
    properties = kit.properties("app") | changed | {"default.api.timeout.ms": "1500"}
    async with raftlog.from_properties(properties) as client:
        with trio.fail_after(30), pytest.raises(raftlog.ClientError, match=words):
            await client.admin.list_topics()


async def test_a_certificate_of_others_ends_a_call_at_once(kit: Kit, tmp_path: Path) -> None:
    properties = kit.properties("app") | {"ssl.truststore.location": str(write_authority(tmp_path, "theirs"))}
    async with raftlog.from_properties(properties) as client:
        with trio.fail_after(30), pytest.raises(AuthenticationFailed, match="certificate of the other side"):
            await client.admin.list_topics()


async def test_plain_text_to_the_other_listener_asks_for_a_login(kit: Kit) -> None:
    """Before any retries: the command line looks first."""
    command = [sys.executable, "-m", "raftlog", "topic", "list", "-b", f"localhost:{kit.plain_port}"]
    said = await trio.run_process(command, capture_stderr=True, check=False)
    assert said.returncode == 1 and b"asks for a login" in said.stderr


def test_users_come_and_go_by_the_command_line(kit: Kit) -> None:
    assert kit.run("user", "add", "bob", "--stdin", input="pässword\n").output == "added bob\n"
    again = kit.run("user", "add", "bob", "--stdin", input="x\n")
    assert again.code == 1 and "there is a user 'bob'" in again.errors
    listed = kit.run("user", "list").output
    assert [line.split()[0] for line in listed.splitlines()] == ["USER", "admin", "app", "bob"]
    changed = kit.run("user", "passwd", "bob", "--generate")
    assert changed.code == 0 and len(changed.output.strip()) == 22
    assert kit.run("user", "remove", "bob").output == "removed bob\n"
    gone = kit.run("user", "remove", "ap")
    assert gone.code == 1 and "there is no user 'ap'; did you mean 'app'?" in gone.errors


def test_check_says_what_a_client_will_meet(kit: Kit, tmp_path: Path) -> None:
    good = kit.run("security", "check", user="app")
    assert good.code == 0, good
    assert "takes 'app' by SCRAM-SHA-512" in good.output and "FAIL" not in good.output
    file = kit.kit.folder / "wrong.properties"
    text = (kit.kit.folder / "app.properties").read_text()
    for before, after, words in (
        ('password="', 'password="x', "look at: sasl.username, sasl.password"),
        ("protocol=SASL_SSL", "protocol=SASL_PLAINTEXT", "look at: security.protocol=SASL_SSL"),
        (str(kit.kit.folder / "ca.pem"), str(write_authority(tmp_path, "theirs")), "ssl.truststore.location"),
    ):
        assert before in text
        file.write_text(text.replace(before, after))
        bad = kit.run("security", "check", user="wrong")
        assert bad.code == 1 and words in bad.output and not bad.errors, bad


def test_a_broker_that_others_reach_wants_to_know_who_they_are(tmp_path: Path) -> None:
    """Scenario 62."""
    listen = ["--listen", "0.0.0.0:0", "--advertise", "localhost:9092", "--data-dir", str(tmp_path / "data")]
    command = [sys.executable, "-m", "raftlog", "serve", "--http-listen", "", *listen]
    refused = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert refused.returncode == 2
    assert "anyone who can reach 0.0.0.0:0 could read and delete everything" in refused.stderr
    assert "raftlog security init" in refused.stderr and "--insecure" in refused.stderr
    arguments = ("--advertise", "localhost:9092", "--insecure")
    with broker_process(tmp_path / "open", host="0.0.0.0", arguments=arguments) as broker:
        assert "could read and delete everything" in broker.log_tail()


def test_a_kit_is_made_once(tmp_path: Path) -> None:
    begun = time.monotonic()
    command = ("security", "init", str(tmp_path / "sec"))
    assert run_raftlog(*command).code == 0
    assert time.monotonic() - begun < 60
    again = run_raftlog(*command)
    assert again.code == 2 and "nothing is overwritten" in again.errors
    for path in (tmp_path / "sec").rglob("*"):
        assert not path.stat().st_mode & 0o077, path
