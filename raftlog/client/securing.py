"""How a client's connections are secured, and how it logs in, by its settings."""

from __future__ import annotations

import ssl
from typing import Any, Final

import trio

from raftlog.client.connection import Connection
from raftlog.client.errors import AuthenticationFailed, Disconnected
from raftlog.client.settings import ClientSettings
from raftlog.errors import ConfigError, InvalidInput
from raftlog.net.hosts import is_this_machine
from raftlog.net.stream import PlainStream, Stream
from raftlog.net.tls import secure, tls_in_words
from raftlog.protocol.api import ApiKey
from raftlog.protocol.errors import ErrorCode

SHOWN: Final = ("PLAIN", "OAUTHBEARER")
"""Mechanisms that send what whoever has it can log in with."""
RENEW_AT: Final = 0.85
"""The part of a session's length after which the client logs in again."""


class Securing:
    """Makes streams of sockets, and logs in on them, for one client."""

    def __init__(self, settings: ClientSettings) -> None:
        """Reads the files that the settings name. Raises ConfigError. Blocking."""
        self._settings = settings
        protocol = settings.security_protocol
        self._context = _context(settings) if protocol in ("SSL", "SASL_SSL") else None
        self._logs_in = protocol.startswith("SASL_")

    async def stream_to(self, host: str, plain: PlainStream) -> Stream:
        """The connection to a host, ready for requests. Raises AuthenticationFailed when the other side is
        not who it should be, or does not want this client; Disconnected or OSError. Then it is closed. So it
        is when this is cancelled."""
        if self._context is None:
            return plain
        try:
            return await secure(plain, self._context, host)
        except ssl.SSLEOFError as error:
            raise Disconnected(f"{host}: {tls_in_words(error)}") from error
        except ssl.SSLError as error:
            raise AuthenticationFailed(f"{host}: {tls_in_words(error)}{_cure(error)}") from error

    @property
    def hint(self) -> str:
        """What to look at when a broker answers nothing but ApiVersions."""
        if self._logs_in:
            return ""
        return "does this listener ask for a login (security_protocol SASL_PLAINTEXT or SASL_SSL)?"

    async def log_in(self, connection: Connection, host: str, deadline: float) -> float:
        """Log in, if the settings say so; for how many seconds that is good. Raises AuthenticationFailed with
        the broker's words, and what a request raises."""
        settings = self._settings
        if not self._logs_in:
            return float("inf")
        mechanism = settings.sasl_mechanism
        if mechanism in SHOWN and self._context is None and not is_this_machine(host):
            raise AuthenticationFailed(
                f"{connection.name}: {mechanism} would show its secret to whoever listens: security_protocol"
                " SASL_SSL, or a mechanism of SCRAM"
            )
        answer = await connection.request(ApiKey.SASL_HANDSHAKE, {"mechanism": mechanism}, deadline=deadline)
        if int(answer.error_code) == ErrorCode.ILLEGAL_SASL_STATE:
            raise AuthenticationFailed(
                f"{connection.name} asks for no login: security_protocol PLAINTEXT or SSL"
            )
        if int(answer.error_code) != ErrorCode.NONE:
            offered = ", ".join(answer.mechanisms) or "none"
            raise AuthenticationFailed(
                f"{connection.name} does not take {mechanism}: its mechanisms are {offered}"
            )
        try:
            answer = await self._exchange(connection, mechanism, deadline)
        except InvalidInput as error:
            raise AuthenticationFailed(f"{connection.name}: {error}") from error
        lasts: float = answer.session_lifetime.total_seconds() if hasattr(answer, "session_lifetime") else 0
        return lasts or float("inf")

    async def _exchange(self, connection: Connection, mechanism: str, deadline: float) -> Any:
        """What the mechanism has to say; the last answer. Raises InvalidInput for a server that is none."""
        from raftlog.protocol import sasl, scram  # nobody else needs them

        settings = self._settings

        async def say(token: bytes) -> Any:
            answer = await connection.request(
                ApiKey.SASL_AUTHENTICATE, {"auth_bytes": token}, deadline=deadline
            )
            if int(answer.error_code) != ErrorCode.NONE:
                raise AuthenticationFailed(f"{connection.name}: {answer.error_message or 'refused'}")
            return answer

        if mechanism == sasl.PLAIN:
            return await say(sasl.write_plain(settings.sasl_username, settings.sasl_password))
        if mechanism == sasl.OAUTHBEARER:
            assert settings.sasl_token_provider is not None
            return await say(sasl.write_bearer(await settings.sasl_token_provider()))
        login = scram.ScramClient(mechanism, settings.sasl_username, settings.sasl_password)
        challenge = await say(login.first())
        proof = await trio.to_thread.run_sync(login.prove, challenge.auth_bytes)
        answer = await say(proof)
        login.check(answer.auth_bytes)
        return answer


def _context(settings: ClientSettings) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = settings.ssl_endpoint_identification_algorithm == "https"
    trusted, shown = settings.ssl_truststore_location, settings.ssl_keystore_location
    try:
        if trusted:
            context.load_verify_locations(trusted)
        else:
            context.load_default_certs()
    except (ssl.SSLError, OSError) as error:
        raise ConfigError(f"ssl.truststore.location = {trusted!r}: {_why(error)}") from error
    try:
        if shown:
            context.load_cert_chain(shown, password="")  # rather than ask for one at the terminal
    except (ssl.SSLError, OSError) as error:
        raise ConfigError(f"ssl.keystore.location = {shown!r}: {_why(error)}") from error
    return context


def _why(error: OSError) -> str:
    if isinstance(error, ssl.SSLError):
        return (
            "it is not what is wanted, in PEM: certificates, or a key without a password and its certificates"
        )
    return error.strerror or str(error)


def _cure(error: ssl.SSLError) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return " (ssl_truststore_location names the authority that has signed it)"
    if error.reason == "WRONG_VERSION_NUMBER":
        return ' (is it a port for TLS? Without, security_protocol is "PLAINTEXT")'
    return ""
