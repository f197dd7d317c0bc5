"""The certificate that listeners in TLS show, and which clients' certificates they take.

It is read from files at the start, and again when they change: a certificate that is renewed needs no
restart. What is wrong with it stops a start. Later it is said in the log, and the one before stays in use.
"""

from __future__ import annotations

import logging
import os
import re
import ssl
import stat
from collections.abc import Collection
from typing import Final

import trio

from raftlog.config import BrokerConfig, per_listener
from raftlog.config.keys import Value
from raftlog.errors import ConfigError

RELOAD_INTERVAL_S: Final = 10.0
FILE_BYTES_MAX: Final = 1 << 20
"""A file of keys and certificates is a few kilobytes; one of trusted authorities may be some hundred."""
HANDSHAKE_STEPS_MAX: Final = 8

OF_TLS: Final = sorted(key for key in per_listener.TAKEN if key.startswith("ssl."))
"""The settings that make a certificate and what is asked of clients."""

_CERTIFICATES: Final = re.compile(r"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", re.DOTALL)
_CLIENTS: Final = {"none": ssl.CERT_NONE, "requested": ssl.CERT_OPTIONAL, "required": ssl.CERT_REQUIRED}
_VERSIONS: Final = {"TLSv1.2": ssl.TLSVersion.TLSv1_2, "TLSv1.3": ssl.TLSVersion.TLSv1_3}

log = logging.getLogger("raftlog.broker")

_Stamp = tuple[tuple[int, int, int], ...]


class Certificate:
    """What a broker's settings say of TLS. `context` is the one for new connections."""

    def __init__(self, config: BrokerConfig, listeners: Collection[str] = ()) -> None:
        """Reads the files. `listeners` are those that show it. Raises ConfigError. Blocking."""
        self._config = config
        self._listeners = listeners
        self._files = [
            path for key in ("ssl.keystore.location", "ssl.truststore.location") if (path := config.str(key))
        ]
        self._stamp = self._stamped()
        self.context = server_context(config, listeners)

    async def watch(self) -> None:
        """Read the files again when they have changed, until cancelled."""
        while True:
            await trio.sleep(RELOAD_INTERVAL_S)
            self.refresh()

    def refresh(self) -> None:
        """Read the files again if they have changed. Blocking, some milliseconds."""
        stamp = self._stamped()
        if stamp == self._stamp:
            return
        self._stamp = stamp
        try:
            self.context = server_context(self._config, self._listeners)
        except ConfigError as error:
            log.warning("the certificate is not changed, the one before stays in use: %s", error)
        else:
            log.warning("the certificate was read again: connections that are made from here on get it")

    def _stamped(self) -> _Stamp:
        """What changes with the files."""
        stamps = []
        for path in self._files:
            try:
                found = os.stat(path)
            except OSError:
                stamps.append((0, 0, 0))
            else:
                stamps.append((found.st_mtime_ns, found.st_ino, found.st_size))
        return tuple(stamps)


def certificates_of(config: BrokerConfig) -> dict[str, Certificate]:
    """By listener, those in TLS. What differs in nothing shares one. Raises ConfigError. Blocking."""
    alike: dict[tuple[Value, ...], list[str]] = {}
    for listener in config.listeners:
        if config.is_encrypted(listener.name):
            own = config.for_listener(listener.name)
            alike.setdefault(tuple(own[key] for key in OF_TLS), []).append(listener.name)
    found = {}
    for names in alike.values():
        found.update(dict.fromkeys(names, Certificate(config.for_listener(names[0]), names)))
    return found


def server_context(config: BrokerConfig, listeners: Collection[str] = ()) -> ssl.SSLContext:
    """As the settings say, for listeners that clients would take it from. Raises ConfigError for what could
    not serve."""
    keystore = config.str("ssl.keystore.location")
    if not keystore:
        raise ConfigError(
            "a listener in TLS needs ssl.keystore.location: a PEM file with key and certificates"
        )
    pem = _read("ssl.keystore.location", keystore, is_key=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    versions = [_VERSIONS[name] for name in config.list("ssl.enabled.protocols")]
    context.minimum_version, context.maximum_version = min(versions), max(versions)
    context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_TICKET
    context.num_tickets = 0  # what a resumed handshake saves is less than a tenth of a millisecond
    try:
        # An empty password rather than none: OpenSSL would ask for it at the terminal.
        context.load_cert_chain(keystore, password=config.str("ssl.key.password") or "")
    except (ssl.SSLError, OSError) as error:
        raise ConfigError(f"ssl.keystore.location = {keystore!r}: {_why_no_key(error, pem)}") from None
    context.verify_mode = _CLIENTS[config.str("ssl.client.auth")]
    truststore = config.str("ssl.truststore.location")
    if truststore:
        trusted = _read("ssl.truststore.location", truststore)
        try:
            context.load_verify_locations(cadata="\n".join(_CERTIFICATES.findall(trusted)))
        except (ssl.SSLError, ValueError):
            raise ConfigError(f"ssl.truststore.location = {truststore!r}: no certificates in PEM") from None
    elif context.verify_mode is not ssl.CERT_NONE:
        raise ConfigError(
            "ssl.client.auth asks clients for certificates: ssl.truststore.location must say whose"
        )
    for listener in config.advertised_listeners:
        if listener.name in (listeners or [listener.name]) and config.is_encrypted(listener.name):
            _try_out(context, pem, listener.host, keystore)
    return context


def _read(key: str, path: str, *, is_key: bool = False) -> str:
    try:
        with open(path, "rb") as file:
            mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
            data = file.read(FILE_BYTES_MAX + 1)
    except OSError as error:
        raise ConfigError(f"{key} = {path!r}: {error.strerror or error}") from error
    if is_key and mode & stat.S_IRWXO:
        raise ConfigError(f"{key} = {path!r}: everybody on this machine can read the key: chmod o= {path}")
    if len(data) > FILE_BYTES_MAX:
        raise ConfigError(f"{key} = {path!r}: more than {FILE_BYTES_MAX} bytes")
    return data.decode("ascii", "replace")


def _why_no_key(error: OSError, pem: str) -> str:
    if isinstance(error, ssl.SSLError) and error.reason == "KEY_VALUES_MISMATCH":
        return "the key is not that of the first certificate"
    if "PRIVATE KEY-----" not in pem:
        return (
            "there is no key in PEM in it; a PKCS12 keystore is converted by `openssl pkcs12 -nodes -in FILE`"
        )
    if "ENCRYPTED" in pem:
        return "the key is encrypted, and ssl.key.password is not its password"
    if not _CERTIFICATES.search(pem):
        return "there is no certificate in PEM in it"
    return f"OpenSSL does not take it: {error}"


def _try_out(context: ssl.SSLContext, pem: str, host: str, path: str) -> None:
    """Do what a client will do: a handshake, in memory, that trusts this certificate alone. So what is
    expired or for another host is found before a client finds it. Raises ConfigError."""
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    client.load_verify_locations(cadata=_CERTIFICATES.findall(pem)[0])
    up, down = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = client.wrap_bio(down, up, server_hostname=host), context.wrap_bio(up, down, server_side=True)
    for step in range(HANDSHAKE_STEPS_MAX):
        try:
            ends[step % 2].do_handshake()
        except ssl.SSLWantReadError:
            continue
        except ssl.SSLCertVerificationError as error:
            raise ConfigError(
                f"ssl.keystore.location = {path!r}: clients that are told {host!r} would not take it:"
                f" {error.verify_message}"
            ) from None
        except ssl.SSLError as error:
            raise ConfigError(
                f"ssl.keystore.location = {path!r}: no handshake comes of it: {error}"
            ) from None
        return  # the client has taken it
