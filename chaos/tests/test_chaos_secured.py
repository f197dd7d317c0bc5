"""A secured stage: brokers' certificates are of where they are, and who logs in has its rights by rules."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
import trio

from chaos.__main__ import main
from chaos.access import Access
from chaos.faults.fault import CannotRun
from chaos.stage import Links, Stage, Wants
from chaos.workloads.workload import create_topics
from raftlog.testing.security import USER, TestSecurity
from tests.badinput.requests import metadata

BROKERS = "10.78.3.2:15001,10.78.3.3:15002"
TOPIC_AUTHORIZATION_FAILED = 29
UNKNOWN_TOPIC = 3


@pytest.fixture(scope="module")
def security(tmp_path_factory: pytest.TempPathFactory) -> TestSecurity:
    pytest.importorskip("cryptography")
    return TestSecurity(tmp_path_factory.mktemp("security") / "kit", ["10.78.3.2", "10.78.3.3"])


def test_a_certificate_names_every_place(security: TestSecurity) -> None:
    from cryptography import x509

    pem = Path(security.settings["ssl.keystore.location"]).read_bytes()
    certificate = x509.load_pem_x509_certificate(pem[pem.index(b"-----BEGIN CERTIFICATE") :])
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    addresses = {str(one) for one in names.get_values_for_type(x509.IPAddress)}
    assert addresses == {"10.78.3.2", "10.78.3.3", "127.0.0.1"}


def test_each_client_is_given_its_login(security: TestSecurity) -> None:
    access = Access(BROKERS, security)
    rdkafka, kafka_python = access.librdkafka(), access.kafka_python()
    assert rdkafka["bootstrap.servers"] == kafka_python["bootstrap_servers"] == BROKERS
    assert rdkafka["security.protocol"] == kafka_python["security_protocol"] == "SASL_SSL"
    assert rdkafka["sasl.username"] == kafka_python["sasl_plain_username"] == USER
    _, _, option, file = access.command_line()
    assert option == "--config" and f'username="{USER}"' in Path(file).read_text()


def test_without_a_login_there_is_the_address_alone() -> None:
    access = Access(BROKERS)
    assert access.librdkafka() == {"bootstrap.servers": BROKERS}
    assert access.kafka_python() == {"bootstrap_servers": BROKERS}
    assert access.command_line() == ("--bootstrap", BROKERS)
    assert len(access.ways_in("127.0.0.1:1")) == 1


@pytest.mark.slow
def test_rules_allow_what_is_done_and_nothing_else_does(tmp_path: Path) -> None:
    with Stage(tmp_path / "stage", Wants(brokers=1), secured=True, rng=random.Random(1)) as stage:
        in_plain_text, in_tls, logged_in = stage.access.ways_in(stage.address(1))
        for connect in (in_plain_text, in_tls):
            with connect() as raw, pytest.raises(OSError):
                metadata(raw, "none", create=False)
        with logged_in() as raw:
            assert metadata(raw, "none", create=False) == {"none": UNKNOWN_TOPIC}
            rules = ("acl", "remove", f"User:{USER}", "--topic", "*")
            stage.raftlog(*rules, *stage.access.command_line())
            assert metadata(raw, "none", create=False) == {"none": TOPIC_AUTHORIZATION_FAILED}


@pytest.mark.slow
def test_brokers_in_namespaces_are_known_by_their_addresses(tmp_path: Path) -> None:
    """They start without being told that they may be open to others, which they would refuse to be."""
    wants = Wants(links=Links.NAMESPACES)
    try:
        wants.check()
    except CannotRun as error:
        pytest.skip(str(error))
    with Stage(tmp_path / "stage", wants, secured=True, rng=random.Random(1)) as stage:
        assert not any(broker.host == "127.0.0.1" for broker in stage.brokers.values())
        create_topics(stage.access, {"named": 1}, 3, {})
        for broker in stage.brokers:
            with stage.access.connect(stage.address(broker)) as raw:
                assert metadata(raw, "named", create=False) == {"named": 0}
        trio.run(write, stage.access, "named")


async def write(access: Access, topic: str) -> None:
    async with access.open_client() as client, client.producer(acks="all") as producer:
        await producer.send(topic, b"by its leader")


def test_containers_cannot_be_secured(monkeypatch: pytest.MonkeyPatch) -> None:
    arguments = ["run", "--scenario", "lost-links", "--secured", "--compose"]
    monkeypatch.setattr("sys.argv", ["chaos", *arguments])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
