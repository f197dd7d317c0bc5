"""A certificate authority for one cluster, and certificates of its brokers.

What strict verifiers want (RFC 5280, as Python 3.13 and Java check it). Keys are of the curve P-256: a
handshake takes half of what RSA does.
"""

from __future__ import annotations

import datetime
import ipaddress
from typing import TYPE_CHECKING, Final

from raftlog.errors import ConfigError

if TYPE_CHECKING:
    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey

AUTHORITY_DAYS: Final = 3650
BROKER_DAYS: Final = 825
"""The most that common verifiers take."""
BACKDATED: Final = datetime.timedelta(hours=1)
"""For clocks of other machines that are behind."""

_USAGES: Final = (
    "digital_signature", "content_commitment", "key_encipherment", "data_encipherment", "key_agreement",
    "key_cert_sign", "crl_sign", "encipher_only", "decipher_only",
)  # fmt: skip


class Authority:
    """Issues certificates. Takes half a second once, to import what makes them."""

    def __init__(self, key: EllipticCurvePrivateKey, certificate: x509.Certificate) -> None:
        self._key = key
        self._certificate = certificate

    @classmethod
    def make(cls) -> Authority:
        """A new one. Raises ConfigError when the package that makes certificates is not there."""
        try:
            from cryptography import x509
            from cryptography.hazmat.primitives.asymmetric import ec
        except ImportError as error:
            raise ConfigError(
                "this takes the package `cryptography`: pip install 'raftlog[security]'"
            ) from error
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "raftlog cluster authority")])
        return cls(key, _certificate(key, name, key, name, AUTHORITY_DAYS, ()))

    @property
    def pem(self) -> bytes:
        """The certificate that clients trust."""
        from cryptography.hazmat.primitives.serialization import Encoding

        return self._certificate.public_bytes(Encoding.PEM)

    @property
    def key_pem(self) -> bytes:
        """The key: whoever has it can pose as a broker."""
        return _key_pem(self._key)

    def issue(self, *hosts: str, days: int = BROKER_DAYS) -> bytes:
        """A key and a certificate for these hosts, in one PEM."""
        from cryptography import x509
        from cryptography.hazmat.primitives.asymmetric import ec
        from cryptography.hazmat.primitives.serialization import Encoding

        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, hosts[0][:64])])
        issued = _certificate(key, name, self._key, self._certificate.subject, days, hosts)
        return _key_pem(key) + issued.public_bytes(Encoding.PEM)


def _key_pem(key: EllipticCurvePrivateKey) -> bytes:
    from cryptography.hazmat.primitives import serialization

    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _certificate(
    key: EllipticCurvePrivateKey,
    name: x509.Name,
    issuer_key: EllipticCurvePrivateKey,
    issuer: x509.Name,
    days: int,
    hosts: tuple[str, ...],
) -> x509.Certificate:
    """An authority's without hosts."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes
    from cryptography.x509.oid import ExtendedKeyUsageOID

    granted = ("digital_signature",) if hosts else ("key_cert_sign", "crl_sign")
    now = datetime.datetime.now(datetime.UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - BACKDATED)
        .not_valid_after(now + datetime.timedelta(days=days))
        .add_extension(x509.BasicConstraints(not hosts, None if hosts else 0), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key()), critical=False
        )
        .add_extension(x509.KeyUsage(**{usage: usage in granted for usage in _USAGES}), critical=True)
    )
    if hosts:
        names = x509.SubjectAlternativeName([_name(host) for host in hosts])
        usage = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH])
        builder = builder.add_extension(names, critical=False).add_extension(usage, critical=False)
    return builder.sign(issuer_key, hashes.SHA256())


def _name(host: str) -> x509.GeneralName:
    from cryptography import x509

    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)
