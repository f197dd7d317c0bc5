"""The certificate of listeners in TLS: what stops a start, and what a file that changes comes to."""

from __future__ import annotations

import datetime
import logging
import os
import ssl
from pathlib import Path

import pytest

from raftlog.broker.certificate import Certificate, certificates_of, server_context
from raftlog.config import BrokerConfig
from raftlog.errors import ConfigError
from tests.certificates import authority, write_authority, write_certificate


def config(keystore: Path | str, **more: str) -> BrokerConfig:
    settings = {"listeners": "SSL://127.0.0.1:9093", "ssl.keystore.location": str(keystore)}
    return BrokerConfig.of(settings | {name.replace("_", "."): value for name, value in more.items()})


def test_a_key_with_its_certificate_serves(tmp_path: Path) -> None:
    context = server_context(config(write_certificate(tmp_path, "127.0.0.1")))
    assert context.minimum_version is ssl.TLSVersion.TLSv1_2
    assert context.verify_mode is ssl.CERT_NONE


def test_nobody_renegotiates(tmp_path: Path) -> None:
    """Scenario 5: OpenSSL refuses it, as it does by itself."""
    context = server_context(config(write_certificate(tmp_path, "127.0.0.1")))
    assert context.options & ssl.OP_NO_RENEGOTIATION


def test_a_listener_may_ask_for_certificates_that_others_do_not_ask_for(tmp_path: Path) -> None:
    keystore, trusted = write_certificate(tmp_path, "127.0.0.1"), write_authority(tmp_path)
    settings = {
        "listeners": "A://127.0.0.1:9093,B://127.0.0.1:9094,C://127.0.0.1:9095,D://127.0.0.1:9096",
        "listener.security.protocol.map": "A:SSL,B:SSL,C:SSL,D:PLAINTEXT",
        "ssl.keystore.location": str(keystore),
        "ssl.truststore.location": str(trusted),
        "listener.name.b.ssl.client.auth": "required",
    }
    found = certificates_of(BrokerConfig.of(settings))
    assert {name: each.context.verify_mode for name, each in found.items()} == {
        "A": ssl.CERT_NONE,
        "B": ssl.CERT_REQUIRED,
        "C": ssl.CERT_NONE,
    }
    assert found["A"] is found["C"]


def test_clients_are_asked_for_a_certificate(tmp_path: Path) -> None:
    keystore, trusted = write_certificate(tmp_path, "127.0.0.1"), write_authority(tmp_path)
    asked = config(keystore, ssl_client_auth="required", ssl_truststore_location=str(trusted))
    assert server_context(asked).verify_mode is ssl.CERT_REQUIRED
    with pytest.raises(ConfigError, match=r"ssl\.truststore\.location must say whose"):
        server_context(config(keystore, ssl_client_auth="required"))


def test_another_host_than_clients_are_told_stops_the_start(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"clients that are told '127\.0\.0\.1' would not take it"):
        server_context(config(write_certificate(tmp_path, "broker.example")))


def test_one_that_has_expired_stops_the_start(tmp_path: Path) -> None:
    path = tmp_path / "expired.pem"
    yesterday = datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=1)
    issued = authority().issue_cert("127.0.0.1", not_after=yesterday)
    issued.private_key_and_cert_chain_pem.write_to_path(path)
    path.chmod(0o600)
    with pytest.raises(ConfigError, match="certificate has expired"):
        server_context(config(path))


def test_what_is_no_key_and_certificate_stops_the_start(tmp_path: Path) -> None:
    good, other = write_certificate(tmp_path, "127.0.0.1"), write_certificate(tmp_path, "localhost")
    key, certificates = good.read_text().partition("-----BEGIN CERTIFICATE")[0], other.read_text()
    path = tmp_path / "wrong.pem"
    for text, why in (
        ("", "there is no key"),
        (key, "there is no certificate"),
        (certificates[certificates.index("-----BEGIN CERTIFICATE") :], "there is no key"),
        (
            key + certificates[certificates.index("-----BEGIN CERTIFICATE") :],
            "the key is not that of the first",
        ),
        ("\xfe\xed\xfe\xed" * 100, "openssl pkcs12"),
    ):
        path.write_text(text)
        path.chmod(0o600)
        with pytest.raises(ConfigError, match=why):
            server_context(config(path))
    with pytest.raises(ConfigError, match="No such file"):
        server_context(config(tmp_path / "missing"))
    with pytest.raises(ConfigError, match=r"needs ssl\.keystore\.location"):
        server_context(BrokerConfig.of({"listeners": "SSL://127.0.0.1:9093"}))


def test_a_key_that_everybody_can_read_stops_the_start(tmp_path: Path) -> None:
    path = write_certificate(tmp_path, "127.0.0.1")
    path.chmod(0o644)
    with pytest.raises(ConfigError, match="chmod o="):
        server_context(config(path))


def test_a_key_is_decrypted_and_its_password_is_never_shown(tmp_path: Path) -> None:
    from cryptography.hazmat.primitives import serialization

    path = write_certificate(tmp_path, "127.0.0.1")
    plain = path.read_bytes()
    key = serialization.load_pem_private_key(plain.partition(b"-----BEGIN CERTIFICATE")[0], None)
    encrypted = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(b"sesame"),
    )
    path.write_bytes(encrypted + plain[plain.index(b"-----BEGIN CERTIFICATE") :])
    server_context(config(path, ssl_key_password="sesame"))
    for password in ("", "wrong"):
        with pytest.raises(ConfigError, match=r"ssl\.key\.password is not its password") as refused:
            server_context(config(path, ssl_key_password=password))
        assert not password or password not in str(refused.value).replace("ssl.key.password", "")
    assert "sesame" not in repr(config(path, ssl_key_password="sesame"))


def test_a_file_that_changes_is_read_again_and_a_bad_one_is_not_used(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Scenario 8, the deciding half."""
    path = write_certificate(tmp_path, "127.0.0.1")
    certificate = Certificate(config(path))
    first = certificate.context
    certificate.refresh()
    assert certificate.context is first
    path.write_text("no key")
    with caplog.at_level(logging.WARNING):
        certificate.refresh()
        certificate.refresh()
    assert certificate.context is first
    assert [m for m in caplog.messages if "the one before stays in use" in m] == caplog.messages
    assert len(caplog.messages) == 1, "it is said once"
    os.replace(write_certificate(tmp_path, "127.0.0.1", "localhost", name="ours"), path)
    certificate.refresh()
    assert certificate.context is not first
