"""Addresses in settings: `host:port`, `NAME://host:port`, `id@host:port`."""

from __future__ import annotations

import ipaddress
import re
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from raftlog.config.keys import BadValue, Value

PROTOCOLS: Final = ("PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL")
"""The security protocols that are served."""
ENCRYPTED: Final = ("SSL", "SASL_SSL")
WITH_LOGIN: Final = ("SASL_PLAINTEXT", "SASL_SSL")
LISTENERS_MAX: Final = 16
"""Listeners of a broker: each is in every broker's registration, which all brokers keep."""
HOST_CHARACTERS_MAX: Final = 255

_LISTENER = re.compile(r"([A-Za-z][A-Za-z0-9_]*)://(.*)")
_LABEL = r"(?!-)[A-Za-z0-9_-]{1,63}(?<!-)"
_HOST_NAME = re.compile(rf"(?=.{{1,253}}\Z){_LABEL}(?:\.{_LABEL})*\.?")
"""Labels of letters, digits, hyphens and, as many networks have them, underscores (RFC 1123)."""
_LAST_LABEL_IS_A_NUMBER = re.compile(r"(?:.*\.)?(?:[0-9]+|0[xX][0-9a-fA-F]*)\.?")


@dataclass(frozen=True, slots=True)
class Listener:
    """An address that clients connect to. The name is in capitals, an empty host is every interface, port 0
    is any free one."""

    name: str
    host: str
    port: int

    def __str__(self) -> str:
        return f"{self.name}://{join_host_port(self.host, self.port)}"


def join_host_port(host: str, port: int) -> str:
    """The text that `parse_host_port` reads; IPv6 addresses get their brackets."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def parse_host_port(text: str) -> tuple[str, int]:
    """`localhost:9092`, `:9092`, `[::1]:9092`; raises BadValue with the reason."""
    host, colon, port = text.strip().rpartition(":")
    if not colon:
        raise BadValue(f"{text!r} is not HOST:PORT")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        raise BadValue(f"an IPv6 address is written in brackets, [{host}]:{port}")
    if not (port.isascii() and port.isdigit() and len(port) <= 5 and int(port) <= 65535):
        raise BadValue(f"{port!r} is not a port from 0 to 65535")
    return host, int(port)


def is_every_interface(host: str) -> bool:
    """Whether a host, as resolvers read it, stands for every interface of its own machine. An IPv4 address
    may have fewer parts than four, and octal and hexadecimal ones: `0` and `0x0` are 0.0.0.0."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return not host or _ipv4_of(host) == bytes(4)
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return (mapped or address).is_unspecified


def host_problem(host: str) -> str | None:
    """Why others cannot be told to connect to a host; None when they can."""
    if is_every_interface(host):
        return f"nobody can connect to every interface, which {host!r} is: name a host"
    try:
        ipaddress.ip_address(host)
    except ValueError:
        is_number = _LAST_LABEL_IS_A_NUMBER.fullmatch(host) is not None
        if not _HOST_NAME.fullmatch(host) or (is_number and _ipv4_of(host) is None):
            return f"{host!r} is no host name and no IP address"
    return None


def _ipv4_of(host: str) -> bytes | None:
    try:
        return socket.inet_aton(host)
    except (OSError, ValueError):
        return None


def parse_listener(text: str) -> Listener:
    """`EXTERNAL://localhost:9092`, or `localhost:9092`, whose name is PLAINTEXT; raises BadValue with the
    reason."""
    match = _LISTENER.fullmatch(text.strip())
    name, address = match.groups() if match else ("PLAINTEXT", text)
    host, port = parse_host_port(address)
    if len(name) > HOST_CHARACTERS_MAX or len(host) > HOST_CHARACTERS_MAX:
        raise BadValue(f"a name or a host of more than {HOST_CHARACTERS_MAX} characters")
    return Listener(name.upper(), host, port)


def parse_protocol(text: str) -> tuple[str, str]:
    """`EXTERNAL:PLAINTEXT` as (listener, security protocol); raises BadValue with the reason."""
    name, colon, protocol = (part.strip().upper() for part in text.partition(":"))
    if not colon or not name:
        raise BadValue(f"{text!r} is not LISTENER:PROTOCOL")
    if protocol not in PROTOCOLS:
        raise BadValue(f"{protocol!r} is no security protocol: those are {', '.join(PROTOCOLS)}")
    return name, protocol


def parse_connections(text: str) -> tuple[str, int]:
    """`10.0.0.1:50` as (address, connections); raises BadValue with the reason."""
    host, _, count = text.strip().rpartition(":")
    try:
        address = ipaddress.ip_address(host.removeprefix("[").removesuffix("]"))
    except ValueError:
        raise BadValue(f"{text!r} is not IP-ADDRESS:CONNECTIONS") from None
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped  # as connections of it have it
    if not (count.isascii() and count.isdigit() and len(count) <= 9):
        raise BadValue(f"{count!r} is not a number of connections")
    return str(address), int(count)


@lru_cache(1000)
def parse_peer(text: str) -> tuple[int, str, int]:
    """`1@host:9192` as (1, "host", 9192); raises BadValue with the reason. Often asked."""
    number, at, address = text.strip().partition("@")
    if not at or not (number.isascii() and number.isdigit() and len(number) <= 9):
        raise BadValue(f"{text!r} is not ID@HOST:PORT")
    if "@" in address:
        raise BadValue(f"{text!r} is more than one broker: put a comma between them")
    host, port = parse_host_port(address)
    if not host or not port:
        raise BadValue(f"{text!r} needs a host and a port")
    if (problem := host_problem(host)) is not None:
        raise BadValue(problem)
    return int(number), host, port


# Checks for the table: why a value is not taken, or None.


def check_listeners(value: Value) -> str | None:
    """At least one listener, no name and no address twice."""
    assert isinstance(value, tuple)
    try:
        listeners = [parse_listener(item) for item in value]
    except BadValue as error:
        return str(error)
    if not listeners:
        return "there must be at least one"
    if len(listeners) > LISTENERS_MAX:
        return f"more than {LISTENERS_MAX} listeners"
    if len({listener.name for listener in listeners}) < len(listeners):
        return "two listeners have one name: call them differently, as in INTERNAL://…,EXTERNAL://…"
    fixed = [(listener.host, listener.port) for listener in listeners if listener.port]
    return "an address is named twice" if len(set(fixed)) < len(fixed) else None


def check_advertised(value: Value) -> str | None:
    """Listeners that a client can connect to: each has a host (port 0 means the one that was bound)."""
    assert isinstance(value, tuple)
    reason = check_listeners(value)
    if reason is not None:
        return reason
    return next(filter(None, (host_problem(parse_listener(item).host) for item in value)), None)


def check_host_port(value: Value) -> str | None:
    """A host and a port, or nothing."""
    assert isinstance(value, str)
    try:
        parse_host_port(value) if value else None
    except BadValue as error:
        return str(error)
    return None


def check_peer_advertised(value: Value) -> str | None:
    """A host that other brokers can connect to and a port (0 means the one that was bound), or nothing."""
    assert isinstance(value, str)
    return check_host_port(value) or (host_problem(parse_host_port(value)[0]) if value else None)


def check_cluster_id(value: Value) -> str | None:
    if value is None or (isinstance(value, str) and re.fullmatch(r"[A-Za-z0-9_-]{1,64}", value)):
        return None
    return "it is 1 to 64 letters, digits, '-' and '_'"


def check_peers(value: Value) -> str | None:
    """Brokers of different ids, each at an address of its own."""
    assert isinstance(value, tuple)
    try:
        peers = [parse_peer(item) for item in value]
    except BadValue as error:
        return str(error)
    if len({number for number, _, _ in peers}) < len(peers):
        return "a broker id is named twice"
    return "an address is named twice" if len({place[1:] for place in peers}) < len(peers) else None


def check_protocols(value: Value) -> str | None:
    """Listeners with a security protocol each, none named twice."""
    assert isinstance(value, tuple)
    try:
        pairs = [parse_protocol(item) for item in value]
    except BadValue as error:
        return str(error)
    return "a listener is named twice" if len(dict(pairs)) < len(pairs) else None


def check_connections(value: Value) -> str | None:
    """Addresses with a number of connections each."""
    assert isinstance(value, tuple)
    try:
        dict(map(parse_connections, value))
    except BadValue as error:
        return str(error)
    return None


# How listeners go together: why they do not, or None.


def protocol_problem(listeners: tuple[Listener, ...], protocols: Mapping[str, str]) -> str | None:
    """What stands against serving the listeners by these security protocols."""
    for listener in listeners:
        protocol = protocols.get(listener.name)
        if protocol is None:
            return (
                f"listener.security.protocol.map names no security protocol for {listener.name}:"
                f" add {listener.name}:PLAINTEXT"
            )
    return None


def advertised_problem(listeners: tuple[Listener, ...], advertised: tuple[Listener, ...]) -> str | None:
    """What stands against telling clients these addresses; empty is the listeners' own."""
    served, told = ({each.name for each in some} for some in (listeners, advertised))
    if told and told != served:
        wrong = min(told - served, default=None)
        if wrong is not None:
            return f"advertised.listeners names {wrong}, and listeners does not"
        return f"advertised.listeners has no address for {min(served - told)}"
    return None
