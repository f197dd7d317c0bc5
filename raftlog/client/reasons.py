"""Why a broker could not be reached, in words that say what to look at. Pure."""

from __future__ import annotations

import errno
import socket
import ssl
from typing import Final

from raftlog.client.errors import AuthenticationFailed, ClientError, Disconnected
from raftlog.errors import InvalidInput
from raftlog.net.dialing import in_words, why_not_connected

_PLACES: Final = {
    errno.ECONNREFUSED: "nothing listens there: is the broker running, and is the port right?",
    errno.ETIMEDOUT: "is the machine up, and does a firewall let this through?",
    errno.EHOSTUNREACH: "is the machine up, and does a firewall let this through?",
    errno.ENETUNREACH: "is the address right?",
}
_ENDED: Final = frozenset({errno.ECONNRESET, errno.EPIPE, errno.ECONNABORTED})


def not_reached(place: str, error: Exception, *, advertised: bool, secured: bool) -> ClientError:
    """The error of an attempt to connect. `place` is host:port, `advertised` where a broker says that it is
    and not where the user says; `secured` when TLS was spoken."""
    if isinstance(error, AuthenticationFailed):
        return error
    cause = _cause(error)
    text = str(error) if isinstance(error, ClientError) else in_words(error)
    if not text.startswith(place):
        text = f"{place}: {text}"
    cure = _cure(cause, secured)
    if advertised:
        cure = f"{cure}{'; ' if cure else ''}the broker itself says that it is there (advertised.listeners)"
    elif isinstance(cause, socket.gaierror):
        cure = "is bootstrap_servers right?"
    failure = Disconnected(f"{text} ({cure})" if cure else text)
    failure.__cause__ = error
    return failure


def _cause(error: Exception) -> BaseException:
    """What the system or the protocol said, at the bottom."""
    if isinstance(error, ClientError) and error.__cause__ is not None:
        return error.__cause__
    return why_not_connected(error)


def _cure(cause: BaseException, secured: bool) -> str:
    if isinstance(cause, ssl.SSLError):
        is_plain = "WRONG_VERSION_NUMBER" in str(cause) or "UNEXPECTED_EOF" in str(cause)
        return 'is it a port for TLS? Without, security_protocol is "PLAINTEXT"' if is_plain else ""
    if isinstance(cause, InvalidInput) or (isinstance(cause, OSError) and cause.errno in _ENDED):
        if secured:
            return "is it a port for Kafka clients, in TLS?"
        return 'is it a port for Kafka clients? One for TLS needs security_protocol="SSL" or "SASL_SSL"'
    if isinstance(cause, OSError) and cause.errno is not None:
        return _PLACES.get(cause.errno, "")
    return ""
