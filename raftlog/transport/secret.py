"""The secret of a cluster, and what is made of it: whoever has it is a broker.

Every broker makes the same certificate authority of the secret, in memory, and issues itself a certificate
that names it. So two brokers that have the secret can tell each other from everybody else, and a broker can
only be the one that it says. Nothing is stored, nothing expires, and clocks do not matter.

The secret is 32 random bytes and never a password: whoever dials is shown the authority's public key, and
could try guesses against it.
"""

from __future__ import annotations

import base64
import binascii
import functools
import os
import ssl
import stat
from typing import TYPE_CHECKING, Any, Final

from raftlog.errors import ConfigError
from raftlog.types import BrokerId

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
    from cryptography.x509 import Certificate, Name

SECRET_BYTES: Final = 32
SECRETS_MAX: Final = 4
"""Secrets in a file: the one in use, and those that are on their way in or out."""
FILE_BYTES_MAX: Final = 4096
HOW_TO_MAKE: Final = "(umask 077; openssl rand -base64 32 > FILE)"

_P256_ORDER: Final = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
_NO_CHECK_TIME: Final = 0x200000
"""X509_V_FLAG_NO_CHECK_TIME, for which Python has no name."""
_DOMAIN: Final = "raftlog.internal"


def read_secrets(path: str) -> list[bytes]:
    """The secrets in a file, a line each in base64. Raises ConfigError, without a word of what is in it."""
    try:
        with open(path, "rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            data = file.read(FILE_BYTES_MAX + 1)
    except OSError as error:
        raise ConfigError(f"raftlog.peer.secret.file = {path!r}: {error.strerror or error}") from error
    if stat.S_IMODE(mode) & (stat.S_IRWXG | stat.S_IRWXO):
        raise ConfigError(
            f"raftlog.peer.secret.file = {path!r}: others than its owner can read it: chmod 600 {path}"
        )
    if len(data) > FILE_BYTES_MAX:
        raise ConfigError(f"raftlog.peer.secret.file = {path!r}: more than {FILE_BYTES_MAX} bytes")
    lines = [line.strip() for line in data.splitlines() if line.strip()]
    secrets = [_decoded(line) for line in lines]
    if not secrets or len(secrets) > SECRETS_MAX or None in secrets:
        raise ConfigError(
            f"raftlog.peer.secret.file = {path!r}: it holds 1 to {SECRETS_MAX} lines, each 32 random bytes in"
            f" base64; make one with {HOW_TO_MAKE}"
        )
    return [secret for secret in secrets if secret is not None]


def _decoded(line: bytes) -> bytes | None:
    try:
        secret = base64.b64decode(line, validate=True)
    except binascii.Error:
        return None
    return secret if len(secret) == SECRET_BYTES and len(set(secret)) > 1 else None


def host_name(broker: BrokerId) -> str:
    """What the certificate of a broker is for."""
    return f"broker-{broker}.{_DOMAIN}"


def broker_of(certificate: dict[str, Any]) -> BrokerId | None:
    """Which broker a certificate is for that was checked."""
    for kind, name in certificate.get("subjectAltName", ()):
        head, _, domain = name.partition(".")
        number = head.removeprefix("broker-")
        if kind == "DNS" and domain == _DOMAIN and number.isascii() and number.isdigit():
            return BrokerId(int(number))
    return None


class PeerCredentials:
    """What one broker shows to its peers, and what it takes from them."""

    def __init__(self, broker: BrokerId, secrets: list[bytes]) -> None:
        """The first secret issues the certificate, all are trusted. Takes some 20 ms, and half a second once
        to import what makes certificates. Raises ConfigError when that is not installed."""
        try:
            import cryptography.x509  # noqa: F401
        except ImportError as error:
            raise ConfigError(
                "raftlog.peer.secret.file takes the package `cryptography`: pip install 'raftlog[security]'"
            ) from error
        authorities = [_authority(_key_of(secret)) for secret in secrets]
        pem = _issue(_key_of(secrets[0]), authorities[0], host_name(broker))
        trusted = b"".join(map(_der, authorities))
        self.accepting = _context(ssl.PROTOCOL_TLS_SERVER, pem, trusted)
        self.accepting.num_tickets = 0  # a link is made once
        self.dialling = _context(ssl.PROTOCOL_TLS_CLIENT, pem, trusted)


def _context(side: int, pem: bytes, trusted: bytes) -> ssl.SSLContext:
    context = ssl.SSLContext(side)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.verify_mode = ssl.CERT_REQUIRED
    context.verify_flags |= _NO_CHECK_TIME
    context.load_verify_locations(cadata=trusted)
    # The system's function takes files alone. This one has no name, and is gone when it is closed.
    file = os.memfd_create("raftlog-peer", os.MFD_CLOEXEC)
    try:
        os.write(file, pem)
        context.load_cert_chain(f"/proc/self/fd/{file}")
    finally:
        os.close(file)
    return context


@functools.cache
def _key_of(secret: bytes) -> EllipticCurvePrivateKey:
    """The authority's key, by RFC 5869. 48 bytes leave no bias in what is a remainder of a 256-bit order."""
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.kdf.hkdf import HKDF

    stretched = HKDF(hashes.SHA256(), 48, salt=None, info=b"raftlog peer authority 1").derive(secret)
    number = 1 + int.from_bytes(stretched, "big") % (_P256_ORDER - 1)
    return ec.derive_private_key(number, ec.SECP256R1())


def _authority(key: EllipticCurvePrivateKey) -> Certificate:
    from cryptography import x509

    digest = x509.SubjectKeyIdentifier.from_public_key(key.public_key()).digest.hex()
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, f"raftlog cluster {digest[:16]}")])
    return _certificate(key, name, key, name, authority=True, names=())


def _issue(issuer_key: EllipticCurvePrivateKey, issuer: Certificate, host: str) -> bytes:
    """A key and its certificate, as PEM."""
    from cryptography import x509
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, host)])
    certificate = _certificate(key, name, issuer_key, issuer.subject, authority=False, names=(host,))
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ) + certificate.public_bytes(serialization.Encoding.PEM)


def _certificate(
    key: EllipticCurvePrivateKey,
    name: Name,
    issuer_key: EllipticCurvePrivateKey,
    issuer: Name,
    *,
    authority: bool,
    names: tuple[str, ...],
) -> Certificate:
    """One that strict verifiers take (RFC 5280, as Python 3.13 checks it)."""
    import datetime

    from cryptography import x509
    from cryptography.hazmat.primitives import hashes
    from cryptography.x509.oid import ExtendedKeyUsageOID

    usage = dict.fromkeys(
        (
            "content_commitment", "key_encipherment", "data_encipherment", "key_agreement",
            "encipher_only", "decipher_only",
        ),
        False,
    )  # fmt: skip
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(datetime.datetime(2020, 1, 1))
        .not_valid_after(datetime.datetime(2120, 1, 1))
        .add_extension(x509.BasicConstraints(authority, 0 if authority else None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key()), critical=False
        )
        .add_extension(
            x509.KeyUsage(
                digital_signature=not authority, key_cert_sign=authority, crl_sign=authority, **usage
            ),
            critical=True,
        )
    )
    if not authority:
        both = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
        alternative = x509.SubjectAlternativeName([x509.DNSName(each) for each in names])
        builder = builder.add_extension(x509.ExtendedKeyUsage(both), critical=False)
        builder = builder.add_extension(alternative, critical=False)
    return builder.sign(issuer_key, hashes.SHA256())


def _der(certificate: Certificate) -> bytes:
    from cryptography.hazmat.primitives.serialization import Encoding

    return certificate.public_bytes(Encoding.DER)
