"""Addresses in settings: `host:port`, `PROTOCOL://host:port`, `id@host:port`."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from raftlog.config.keys import BadValue, Value

PROTOCOLS: Final = ("PLAINTEXT",)
"""The security protocols that are served."""

_LISTENER = re.compile(r"([A-Za-z][A-Za-z0-9_]*)://(.*)")


@dataclass(frozen=True, slots=True)
class Listener:
    """An address that clients connect to. An empty host is every interface; port 0 is any free one."""

    protocol: str
    host: str
    port: int

    def __str__(self) -> str:
        return f"{self.protocol}://{join_host_port(self.host, self.port)}"


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


def parse_listener(text: str) -> Listener:
    """`PLAINTEXT://localhost:9092`, or `localhost:9092`; raises BadValue with the reason."""
    match = _LISTENER.fullmatch(text.strip())
    protocol, address = match.groups() if match else ("PLAINTEXT", text)
    if protocol.upper() not in PROTOCOLS:
        raise BadValue(f"{protocol} is not served, only {', '.join(PROTOCOLS)}")
    return Listener(protocol.upper(), *parse_host_port(address))


def parse_peer(text: str) -> tuple[int, str, int]:
    """`1@host:9192` as (1, "host", 9192); raises BadValue with the reason."""
    number, at, address = text.strip().partition("@")
    if not at or not (number.isascii() and number.isdigit() and len(number) <= 9):
        raise BadValue(f"{text!r} is not ID@HOST:PORT")
    if "@" in address:
        raise BadValue(f"{text!r} is more than one broker: put a comma between them")
    host, port = parse_host_port(address)
    if not host or not port:
        raise BadValue(f"{text!r} needs a host and a port")
    return int(number), host, port


# Checks for the table: why a value is not taken, or None.


def check_listeners(value: Value) -> str | None:
    """At least one listener, no address twice."""
    assert isinstance(value, tuple)
    try:
        listeners = [parse_listener(item) for item in value]
    except BadValue as error:
        return str(error)
    if not listeners:
        return "there must be at least one"
    fixed = [(listener.host, listener.port) for listener in listeners if listener.port]
    return "an address is named twice" if len(set(fixed)) < len(fixed) else None


def check_advertised(value: Value) -> str | None:
    """Listeners that a client can connect to: each has a host (port 0 means the one that was bound)."""
    assert isinstance(value, tuple)
    reason = check_listeners(value)
    if reason is None and any(parse_listener(item).host in ("", "0.0.0.0", "::") for item in value):
        return "clients cannot connect to every interface: name a host"
    return reason


def check_host_port(value: Value) -> str | None:
    """A host and a port, or nothing."""
    assert isinstance(value, str)
    try:
        parse_host_port(value) if value else None
    except BadValue as error:
        return str(error)
    return None


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
