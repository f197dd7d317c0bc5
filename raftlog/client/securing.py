"""How a client's connections are secured, by its settings."""

from __future__ import annotations

import ssl

from raftlog.client.errors import Disconnected
from raftlog.client.settings import ClientSettings
from raftlog.errors import ConfigError
from raftlog.net.stream import PlainStream, Stream
from raftlog.net.tls import secure, tls_in_words


class Securing:
    """Makes streams of sockets, for one client."""

    def __init__(self, settings: ClientSettings) -> None:
        """Reads the files that the settings name. Raises ConfigError. Blocking."""
        self._context = None if settings.security_protocol == "PLAINTEXT" else _context(settings)

    async def stream_to(self, host: str, plain: PlainStream) -> Stream:
        """The connection to a host, ready for requests. Raises Disconnected or OSError; then it is closed.
        So it is when this is cancelled."""
        if self._context is None:
            return plain
        try:
            return await secure(plain, self._context, host)
        except ssl.SSLError as error:
            raise Disconnected(f"{host}: {tls_in_words(error)}") from error


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
